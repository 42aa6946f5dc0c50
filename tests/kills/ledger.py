"""Counts the outcomes that are committed, in a separate session that no fault disturbs."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from types import TracebackType
from typing import Self

from herdmaster.core import layout
from herdmaster.zookeeper.client import PLAIN, Client, Security
from herdmaster.zookeeper.model import EventType, SessionState, WatchEvent


class Ledger:
    """While it is open, each status that is created counts for its task in `committed`."""

    def __init__(self, hosts: str, security: Security = PLAIN) -> None:
        self._hosts = hosts
        self._security = security
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), daemon=True)
        self.committed: Counter[str] = Counter()
        self.states: list[SessionState] = []

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20), "the ledger got no session"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._closing is not None:
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(20)
        # Persistent watches tell nothing of what happens while the connection is away.
        assert error is not None or self.states == [SessionState.CLOSED], f"the ledger missed something: {self.states}"

    async def _watch(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        session = Client(self._hosts, session_timeout=10.0, connect_timeout=20.0, security=self._security)
        async with session as client:
            client.add_listener(self.states.append)
            await client.add_watch(layout.STATUS, self._handle, recursive=True)
            self._ready.set()
            await self._closing.wait()
            await client.sync()  # what was committed before the close has been told when this returns

    def _handle(self, event: WatchEvent) -> None:
        if event.type is EventType.CREATED and event.path != layout.STATUS:
            self.committed[layout.name_of(event.path)] += 1
