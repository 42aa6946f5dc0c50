"""Questions of a program to ZooKeeper, asked as soon as there is a session."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from herdmaster.errors import HerdError
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

Question = Callable[[Client], Awaitable[None]]
"""Asks, and passes the answer on itself. Asked again over the next session if one ends in the middle."""
Failed = Callable[[HerdError], None]
"""Called once, with the reason, if there is no answer."""


class Questions:
    """The questions of one client, asked one after the other. They outlive sessions."""

    def __init__(self) -> None:
        self._wanted: deque[tuple[Question, Failed]] = deque()
        self._wake = asyncio.Event()

    def ask(self, question: Question, failed: Failed) -> None:
        self._wanted.append((question, failed))
        self._wake.set()

    def end(self) -> None:
        """Fail all questions: no session will follow."""
        while self._wanted:
            self._wanted.popleft()[1](errors.ClientClosed("the client has ended"))

    async def run(self, client: Client) -> None:
        """Ask until the session is over. Raises SessionExpired then."""
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wanted:
                question, failed = self._wanted[0]
                fault: HerdError | None = None
                try:
                    await question(client)
                except errors.ServerError as error:
                    fault = error
                except errors.ZooKeeperError:
                    raise  # the next session asks again
                except HerdError as error:
                    fault = error
                self._wanted.popleft()
                if fault is not None:
                    failed(fault)
