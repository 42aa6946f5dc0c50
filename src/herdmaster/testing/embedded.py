"""A ZooKeeper for tests, in this process, with faults at the press of a button.

    with EmbeddedZooKeeper() as zookeeper:
        herd = Herd(zookeeper.hosts)

No Java, no files, a few milliseconds to start. It is the development server (`herd zookeeper`) in memory, on a thread
of its own; production belongs on Apache ZooKeeper.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from herdmaster.core import layout
from herdmaster.testing.background import BackgroundLoop
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import WatchEvent
from herdmaster.zookeeper.server import EmbeddedServer
from herdmaster.zookeeper.server.faults import Arrival, Delay, Drop
from herdmaster.zookeeper.wire.records import Ping, Record, Request

_TICK_MS: Final = 50
_MIN_TIMEOUT_MS: Final = 100
_MAX_TIMEOUT_MS: Final = 60_000

Selects = Callable[[Request[Record]], bool]


class EmbeddedZooKeeper:
    """A context manager, plain or async. Every method may be called from any thread.

    `data_dir` makes it durable; `stop` and `start` then are a restart. Session timeouts are granted from 0.1 s.
    """

    def __init__(self, *, data_dir: str | os.PathLike[str] | None = None, port: int = 0) -> None:
        self._faults = _Faults()
        self._server = EmbeddedServer(
            port=port,
            data_dir=data_dir,
            tick_time=_TICK_MS,
            min_session_timeout=_MIN_TIMEOUT_MS,
            max_session_timeout=_MAX_TIMEOUT_MS,
            faults=self._faults,
        )
        self._background: BackgroundLoop | None = None

    # --- life --------------------------------------------------------------------------------------------------------

    @property
    def hosts(self) -> str:
        """The connect string."""
        return self._server.hosts

    @property
    def port(self) -> int:
        return self._server.port

    def start(self) -> None:
        """Raises OSError where the port is taken. A server that was stopped takes the port that it had."""
        if self._background is None:
            self._background = BackgroundLoop("embedded-zookeeper")
        self._background.run(self._server.start())

    def stop(self) -> None:
        """Connections end; without a data directory everything is forgotten. Idempotent."""
        background, self._background = self._background, None
        if background is not None:
            background.run(self._server.stop())
            background.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    # --- faults ------------------------------------------------------------------------------------------------------

    def drop_before(self, selects: Selects | None = None, *, times: int = 1) -> None:
        """The next requests that `selects` chooses (default: all but pings) are not applied and cost the connection."""
        self._faults.add(before=True, selects=selects, times=times)

    def drop_after(self, selects: Selects | None = None, *, times: int = 1) -> None:
        """As `drop_before`, but the request is applied: only its reply is lost."""
        self._faults.add(before=False, selects=selects, times=times)

    def delay_replies(self, seconds: float) -> None:
        """Every reply waits so long from here on; 0 ends it."""
        self._faults.delay = round(seconds * 1000)

    def drop_connections(self) -> None:
        """Cuts every connection; sessions live on."""
        self._running.call(self._server.drop_connections)

    def expire(self, session_id: int) -> None:
        """Ends a session, as if it had been silent for too long."""
        self._running.call(lambda: self._server.expire_session(session_id))

    def move_time(self, seconds: float) -> None:
        """Moves the server's clock forward. Sessions that were silent for as long are over then."""
        self._running.call(lambda: self._server.advance(round(seconds * 1000)))

    def kill_primary(self, namespace: str = "", *, patience: float = 10.0) -> None:
        """Ends the session of whoever owns `/master` below `namespace`, such as `/prod`; waits for one if need be.

        Raises TimeoutError after `patience` seconds without a primary.
        """
        self._running.run(self._kill_primary(namespace + layout.MASTER, patience), patience + 10)

    async def _kill_primary(self, path: str, patience: float) -> None:
        async with Client(self.hosts) as client, asyncio.timeout(patience):
            while True:
                changed = asyncio.Event()

                def handle(_event: WatchEvent, changed: asyncio.Event = changed) -> None:
                    changed.set()

                stat = await client.exists(path, handle)
                if stat is not None:
                    self._server.expire_session(stat.ephemeral_owner)
                    return
                await changed.wait()

    @property
    def _running(self) -> BackgroundLoop:
        if self._background is None:
            raise RuntimeError("the embedded ZooKeeper is not running: use it as a context manager")
        return self._background


class _Faults:
    """What the server asks about every request."""

    def __init__(self) -> None:
        self.delay = 0
        self._lock = threading.Lock()
        self._drops: list[tuple[bool, Selects | None]] = []

    def add(self, *, before: bool, selects: Selects | None, times: int) -> None:
        with self._lock:
            self._drops += [(before, selects)] * times

    def _take(self, arrival: Arrival, *, before: bool) -> bool:
        request = arrival.request
        if request is None or isinstance(request, Ping):
            return False
        with self._lock:
            for drop in self._drops:
                if drop[0] is before and (drop[1] is None or drop[1](request)):
                    self._drops.remove(drop)
                    return True
        return False

    def before(self, arrival: Arrival, /) -> Drop | None:
        return Drop() if self._take(arrival, before=True) else None

    def after(self, arrival: Arrival, /) -> Drop | Delay | None:
        if self._take(arrival, before=False):
            return Drop()
        return Delay(self.delay) if self.delay else None
