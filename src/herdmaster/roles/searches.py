"""Answers where tasks are, as soon as there is a session to look with."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from herdmaster.errors import HerdError
from herdmaster.roles.inspector import Inspector, TaskSeen
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

Found = Callable[[TaskSeen | None, HerdError | None], None]
"""Called once: the task, or None if it is nowhere; or why nobody can say."""


class Searches:
    """Requests outlive sessions."""

    def __init__(self) -> None:
        self._wanted: deque[tuple[str, Found]] = deque()
        self._wake = asyncio.Event()

    def find(self, task: str, found: Found) -> None:
        self._wanted.append((task, found))
        self._wake.set()

    def end(self) -> None:
        """No session will follow."""
        while self._wanted:
            self._wanted.popleft()[1](None, errors.ClientClosed("the client has ended"))

    async def run(self, client: Client) -> None:
        """Looks for what is wanted, until the session is over: raises SessionExpired then."""
        inspector = Inspector(client)
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wanted:
                task, found = self._wanted[0]
                seen, fault = None, None
                try:
                    details = await inspector.find(task)
                    seen = None if details is None else details.seen
                except errors.ServerError as error:
                    fault = error
                self._wanted.popleft()
                found(seen, fault)
