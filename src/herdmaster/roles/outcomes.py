"""Waits for the outcomes of many tasks: one-shot watches on their statuses, armed and read in bulk.

What is waited for outlives a session: the next one arms everything again, and a status that is there already fires at
once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from herdmaster.core import layout, transitions
from herdmaster.core.outcome import Outcome, decode_outcome
from herdmaster.errors import BadOutcome, HerdError, OutcomeGone
from herdmaster.roles.committer import Committer, Fate, Settlement
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import EventType, SessionState, WatchEvent
from herdmaster.zookeeper.wire.multi import MultiRead, MultiReply
from herdmaster.zookeeper.wire.records import DataReply, GetData, Record

READ_BYTES: Final = 4 * 1024 * 1024
"""Aimed at per reply: names tell nothing of a result's size, so the recent ones are taken as the measure."""
MAX_READ: Final = 200

_log = logging.getLogger("herdmaster.client")

Ended = Callable[[str, Outcome | None, HerdError | None], bool]
"""Called once with the outcome, or with BadOutcome or OutcomeGone. True: it was delivered, so its status may be
collected."""


class OutcomeWatch:
    """`outcome_ttl` (seconds) is how long statuses are kept: after a longer absence a task may have ended unseen."""

    def __init__(self, *, outcome_ttl: float) -> None:
        self._outcome_ttl = outcome_ttl
        self._waiting: dict[str, Ended] = {}
        self._to_arm: dict[str, None] = {}
        self._to_read: dict[str, None] = {}
        self._to_locate: dict[str, None] = {}
        self._size = 512.0  # bytes of a recent status, smoothed
        self._reading = 0
        self._step_scheduled = False
        self._client: Client | None = None
        self._committer: Committer | None = None
        self._locating = asyncio.Event()
        self._away_since: float | None = None

    # --- the caller's side ---------------------------------------------------------------------------------------

    def wait_for(self, task: str, ended: Ended, *, locate: bool = False) -> None:
        """With `locate` the task may be long gone: found nowhere twice, it ends with OutcomeGone."""
        self._waiting[task] = ended
        self._to_arm[task] = None
        if locate:
            self._to_locate[task] = None
            self._locating.set()
        self._schedule_step()

    def forget(self, task: str) -> None:
        """Nobody waits for it any more."""
        if self._waiting.pop(task, None) is not None:
            self._to_arm.pop(task, None)
            if self._client is not None:
                self._client.forget_created(layout.status_path(task), self._handle_created)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    # --- one session -----------------------------------------------------------------------------------------------

    async def run(self, client: Client) -> None:
        """Until the session is over: raises SessionExpired then."""
        self._client = client
        self._committer = Committer(client)
        self._reading = 0
        self._to_read.clear()
        self._to_arm = dict.fromkeys(self._waiting)
        client.add_listener(self._handle_state)
        self._handle_state(client.state)
        try:
            while True:
                await self._locating.wait()
                self._locating.clear()
                if client.state.is_final:
                    raise errors.SessionExpired("the client's session ended")
                await self._locate(client)
        finally:
            self._client = None
            self._away_since = self._away_since or client.clock()

    def _handle_state(self, state: SessionState) -> None:
        client = self._client
        if client is None:
            return
        if state is SessionState.CONNECTED:
            if self._away_since is not None and client.clock() - self._away_since > self._outcome_ttl:
                self._to_locate.update(dict.fromkeys(self._waiting))
            self._away_since = None
        elif self._away_since is None:
            self._away_since = client.clock()
        self._locating.set()
        self._schedule_step()

    def _schedule_step(self) -> None:
        if not self._step_scheduled and self._client is not None:
            self._step_scheduled = True
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._step_scheduled = False
        client = self._client
        if client is None or client.state is not SessionState.CONNECTED:
            return
        if self._to_arm:
            paths = [layout.status_path(task) for task in self._to_arm if task in self._waiting]
            self._to_arm.clear()
            client.watch_created_nowait(paths, self._handle_created)
        while self._to_read and self._reading < MAX_READ:
            count = max(1, min(MAX_READ, int(READ_BYTES / self._size)))
            tasks = list(self._to_read)[:count]
            for task in tasks:
                del self._to_read[task]
            self._read(client, [task for task in tasks if task in self._waiting])

    def _handle_created(self, event: WatchEvent) -> None:
        task = layout.name_of(event.path)
        if task not in self._waiting:
            return
        if event.type is EventType.CREATED:
            self._to_read[task] = None
        else:
            self._to_arm[task] = None  # the watch is used up by whatever fired it
        self._schedule_step()

    def _read(self, client: Client, tasks: list[str]) -> None:
        if not tasks:
            return
        self._reading += len(tasks)

        def done(reply: Record | None, _error: Exception | None) -> None:
            self._schedule_step()
            if client is not self._client:
                return  # the next session arms and reads anew
            self._reading -= len(tasks)
            if not isinstance(reply, MultiReply):
                return
            for task, result in zip(tasks, reply.results, strict=True):
                if isinstance(result, DataReply):
                    self._was_read(task, result.data or b"")
                else:  # created and deleted again, by somebody who took it for his
                    self._to_locate[task] = None
                    self._to_arm[task] = None
                    self._locating.set()

        paths = (client.outward(layout.status_path(task)) for task in tasks)
        client.call_nowait(MultiRead(tuple(GetData(path, False) for path in paths)), done)

    def _was_read(self, task: str, data: bytes) -> None:
        self._size = max(len(data), self._size * 0.9, 64.0)
        try:
            delivered = self._deliver(task, decode_outcome(task, data), None)
        except BadOutcome as error:
            # Whoever wrote it, it is not ours to delete: it is swept when its time is over.
            self._deliver(task, None, error)
            return
        if delivered and self._committer is not None:
            self._committer.commit((transitions.collect(task),), self._collected)

    def _deliver(self, task: str, outcome: Outcome | None, error: HerdError | None) -> bool:
        ended = self._waiting.pop(task, None)
        self._to_locate.pop(task, None)
        return ended is not None and ended(task, outcome, error)

    def _collected(self, settlement: Settlement) -> None:
        if settlement.fate is Fate.UNKNOWN and self._committer is not None:
            self._committer.commit((settlement.move,), self._collected)  # again: it is gone or it goes now

    # --- where is it? ----------------------------------------------------------------------------------------------

    async def _locate(self, client: Client) -> None:
        """A task that is found nowhere, twice, has no outcome any more: between two places it can be missed once."""
        tasks = [task for task in self._to_locate if task in self._waiting]
        self._to_locate.clear()
        try:
            for task in tasks:
                if not await self._is_somewhere(client, task) and not await self._is_somewhere(client, task):
                    self._deliver(
                        task,
                        None,
                        OutcomeGone(f"{task}: it is neither waiting, nor running, nor has it an outcome to collect"),
                    )
        except errors.ZooKeeperError:
            self._to_locate.update(dict.fromkeys(tasks))
            raise

    async def _is_somewhere(self, client: Client, task: str) -> bool:
        """Looks in the order in which a task moves."""
        for delayed in await client.children(layout.DELAYED):
            if delayed.endswith(f"-{task}"):
                return True
        if await client.exists(layout.task_path(task)) is not None:
            return True
        workers = await client.children(layout.ASSIGN)
        inboxes = (client.exists(layout.assignment_path(worker, task)) for worker in workers)
        if any(stat is not None for stat in await asyncio.gather(*inboxes)):
            return True
        return await client.exists(layout.status_path(task)) is not None
