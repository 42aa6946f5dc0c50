"""Submissions that are sent only while the backlog is below a limit.

The count is the number of children of `/tasks` plus the submissions of this client that are on their way there. One
request serves all submissions that ask at the same time. ZooKeeper has no watch for the number of children, so while a
submission waits, the request is repeated: first after a tenth of a second, then less often, at least once a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.errors import BacklogFull, HerdError
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

_FIRST_SECONDS: Final = 0.1
_MOST_SECONDS: Final = 1.0


class Asked(msgspec.Struct, frozen=True):
    """A task to be submitted while fewer than `limit` tasks wait. With `waits` it waits until that is so, otherwise it
    is refused with BacklogFull. One of the two callbacks is called once, in the loop, unless the task is forgotten
    first."""

    name: str
    limit: int
    waits: bool
    admit: Callable[[], None]
    refuse: Callable[[HerdError], None]


class BacklogLimit:
    """The submissions that wait for room in the backlog. `run` belongs to a session; the other methods may be called at
    any time from the same loop."""

    def __init__(self) -> None:
        self._asked: dict[str, Asked] = {}
        self._on_their_way: set[str] = set()
        self._wake = asyncio.Event()

    def ask(self, asked: Asked) -> None:
        self._asked[asked.name] = asked
        self._wake.set()

    def forget(self, name: str) -> None:
        """Drop a submission that is settled or no longer wanted."""
        self._asked.pop(name, None)
        if name in self._on_their_way:
            self._on_their_way.discard(name)
            self._wake.set()  # there is less doubt now

    async def run(self, client: Client) -> None:
        pause = _FIRST_SECONDS
        while True:
            if not self._asked:
                pause = _FIRST_SECONDS
                await self._wake.wait()
            self._wake.clear()
            # Submissions that are accepted while the question is under way may be missing from the answer.
            in_doubt = len(self._on_their_way)
            if self._decide(await _count(client), in_doubt):
                pause = _FIRST_SECONDS
            if self._asked:
                await self._pause(pause)
                pause = min(pause * 2, _MOST_SECONDS)

    def _decide(self, waiting: int, in_doubt: int) -> bool:
        """Decide which submissions go. `in_doubt` tasks may or may not be among the `waiting` ones. Return whether any
        was decided."""
        decided = 0
        admitted = 0
        for asked in tuple(self._asked.values()):
            if asked.name not in self._asked:
                continue  # an earlier answer made its caller forget it
            least = waiting + admitted
            if least + in_doubt < asked.limit:
                admitted += 1
                self._on_their_way.add(asked.name)
                answer = asked.admit
            elif least >= asked.limit and not asked.waits:
                answer = partial(asked.refuse, BacklogFull(least, asked.limit))
            else:
                continue
            decided += 1
            del self._asked[asked.name]
            answer()
        return decided > 0

    async def _pause(self, seconds: float) -> None:
        """Sleep before the next question, and return early when a submission arrives that does not wait."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return


async def _count(client: Client) -> int:
    while True:
        try:
            stat = await client.exists(layout.TASKS)
        except errors.ConnectionLoss:
            continue
        return 0 if stat is None else stat.num_children
