"""Counts the outcomes that are committed, in a separate session."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Collection
from functools import partial
from types import TracebackType
from typing import Self

from herdmaster.core import layout
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import PLAIN, Client, Security
from herdmaster.zookeeper.model import EventType, SessionState, Stat, WatchEvent
from tests.cli.processes import wait_until


class Ledger:
    """While it is open, each status that is created counts for its task in `committed`.

    Watches tell nothing of what happens while the connection is away. What was created then is found by a listing, and
    what was also deleted then counts in `unnamed`: the stat of the folder says how many children it ever had.
    """

    def __init__(self, hosts: str, security: Security = PLAIN, *, session_timeout: float = 10.0) -> None:
        self._hosts = hosts
        self._security = security
        self._session_timeout = session_timeout
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._present: set[str] = set()
        self._before: int | None = None  # statuses that were created before this was opened
        self.committed: Counter[str] = Counter()
        self.unnamed = 0
        self.looks = 0  # at the folder, that were answered
        self.lost_sessions = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20), "the ledger got no session"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._closing is not None:
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(40)
        assert error is not None or not self._thread.is_alive(), "the ledger has no session any more"

    def check(self, tasks: Collection[str]) -> None:
        """Wait until each of these tasks has one committed outcome. Fails if one has several, or another task has
        one."""
        wait_until(lambda: self.committed.total() + self.unnamed >= len(set(tasks)), "an outcome was not committed")
        assert self.committed.keys() <= set(tasks)
        assert set(self.committed.values()) <= {1}
        assert self.committed.total() + self.unnamed == len(set(tasks))

    # --- sessions ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        while not self._closing.is_set():
            with contextlib.suppress(errors.ConnectionLoss, errors.SessionExpired, errors.NoServerReachable):
                await self._watch(self._closing)

    async def _watch(self, closing: asyncio.Event) -> None:
        """Watch in one session until it is over, or this is closed."""
        client = Client(
            self._hosts, session_timeout=self._session_timeout, connect_timeout=20.0, security=self._security
        )
        async with client:
            over = asyncio.Event()
            client.add_listener(partial(self._handle_state, client, over))
            await client.add_watch(layout.STATUS, self._handle, recursive=True)
            self._look(client)
            waits = [asyncio.ensure_future(event.wait()) for event in (closing, over)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waits:
                    each.cancel()
            if closing.is_set():
                await client.sync()  # what was committed before the close has been told when this returns

    def _handle_state(self, client: Client, over: asyncio.Event, state: SessionState) -> None:
        if state.is_final:
            self.lost_sessions += state is not SessionState.CLOSED
            over.set()
        elif state is SessionState.CONNECTED:
            self._look(client)

    # --- counts, in the order of the wire ----------------------------------------------------------------------------

    def _look(self, client: Client) -> None:
        """Count what no event has told. The watch is armed before; so what is created later has an event."""
        with contextlib.suppress(errors.SessionExpired):
            client.exists_nowait(layout.STATUS, self._handle_stat)
            client.children_nowait(layout.STATUS, self._handle_names)

    def _handle_stat(self, stat: Stat | None, error: Exception | None) -> None:
        if error is not None:
            return
        created = 0 if stat is None else (stat.cversion + stat.num_children) // 2
        if self._before is None:
            self._before = created - self.committed.total()
        self.unnamed = created - self._before - self.committed.total()

    def _handle_names(self, names: tuple[str, ...] | None, error: Exception | None) -> None:
        if error is not None and not isinstance(error, errors.NoNode):
            return
        now = set(names or ())
        if self._ready.is_set():
            found = now - self._present
            self.committed.update(found)
            self.unnamed -= len(found)
        self._present = now
        self.looks += 1
        self._ready.set()

    def _handle(self, event: WatchEvent) -> None:
        name = layout.name_of(event.path)
        if event.path == layout.STATUS:
            return
        if event.type is EventType.CREATED:
            self.committed[name] += 1
            self._present.add(name)
        elif event.type is EventType.DELETED:
            self._present.discard(name)
