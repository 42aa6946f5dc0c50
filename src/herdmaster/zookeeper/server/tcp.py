"""The embedded server on TCP: a thin listener around the machine.

All input of one turn of the event loop is handled first. Then each connection gets its output in one write; with a data
directory only after one fsync for the whole turn (`commits.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import msgspec

from herdmaster.zookeeper.server import descriptors
from herdmaster.zookeeper.server.clock import Clock, MovableClock, SystemClock, first_zxid
from herdmaster.zookeeper.server.commits import Commits
from herdmaster.zookeeper.server.effects import Transaction
from herdmaster.zookeeper.server.faults import Faults
from herdmaster.zookeeper.server.hub import Hub
from herdmaster.zookeeper.server.journal import Journal
from herdmaster.zookeeper.server.link import Link
from herdmaster.zookeeper.server.listener import BACKLOG, Listener
from herdmaster.zookeeper.server.machine import Machine
from herdmaster.zookeeper.server.sessions import first_session_id
from herdmaster.zookeeper.server.settings import Access, Settings
from herdmaster.zookeeper.server.snapshots import Snapshot, snapshot_of
from herdmaster.zookeeper.server.state import State
from herdmaster.zookeeper.tls import TLS
from herdmaster.zookeeper.wire.framing import MAX_FRAME

_SERVER_ID: Final = 1
_SECRET_LENGTH: Final = 32
_FAREWELL: Final = 1.0

_log = logging.getLogger(__name__)


class Limits(msgspec.Struct, frozen=True):
    """What one client may cost.

    `frame` and `unread` (waiting for a client that does not read) in bytes, `handshake` in seconds; `container_sweep`
    in milliseconds; `connections_per_host` 0 for no limit; `journal` in bytes, after which a snapshot replaces it.
    """

    frame: int = MAX_FRAME
    unread: int = 8 << 20
    handshake: float = 10.0
    connections_per_host: int = 1000
    container_sweep: int = 60_000
    journal: int = 64 << 20


class EmbeddedServer:
    """A ZooKeeper server in this process. All methods belong to the event loop that ran `start`.

    `port` 0 takes a free one, which later starts of the same object take again. With `tls` the port is one for TLS, or,
    if there is a `secure_port`, that one is. If `tls` has a `ca`, clients have to show a certificate of it.

    Without `data_dir` everything is in memory and ends with `stop`. `tick_time` and the bounds of session timeouts are
    in milliseconds. `super_digest` is the digest id (`user:hash`) of the user whom no ACL stops; without it there is
    none. `access` says who may connect. `faults` (see `faults.py`), `clock` and `entropy` are for tests.
    """

    _hub: Hub | None = None
    _journal: Journal | None = None
    _closed: asyncio.Future[None] | None = None
    _ending: asyncio.Future[None] | None = None

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        tls: TLS | None = None,
        secure_port: int | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        tick_time: int = 100,
        min_session_timeout: int = 4000,
        max_session_timeout: int = 40000,
        super_digest: str = "",
        access: Access | None = None,
        limits: Limits | None = None,
        faults: Faults | None = None,
        clock: Clock | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.host = host
        self.data_dir = None if data_dir is None else Path(data_dir)
        self._limits = limits or Limits()
        self._tls = tls
        self._port = port
        self._secure_port = port if secure_port is None else secure_port
        self._has_two_ports = secure_port is not None
        self._settings = Settings(
            tick=tick_time,
            min_timeout=min_session_timeout,
            max_timeout=max_session_timeout,
            frame_limit=self._limits.frame,
            sweep_interval=self._limits.container_sweep,
            super_digest=super_digest,
            access=access or Access(),
            x509=tls is not None and tls.ca is not None,
        )
        _check(self._settings, tls, secure_port)
        self._faults = faults
        self._clock = MovableClock(clock or SystemClock())
        self._entropy = entropy
        self._listeners: list[Listener] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        """The port that it listens on; 0 before the first start unless one was given."""
        return self._port

    @property
    def hosts(self) -> str:
        """A connect string."""
        return self._hosts(self._port)

    @property
    def secure_hosts(self) -> str:
        """A connect string for clients with TLS. Raises RuntimeError if the server has no TLS."""
        if self._tls is None:
            raise RuntimeError("the server has no TLS: make it with tls=")
        return self._hosts(self._secure_port)

    def _hosts(self, port: int) -> str:
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"

    @property
    def machine(self) -> Machine:
        return self._running.machine

    @property
    def _running(self) -> Hub:
        if self._hub is None:
            raise RuntimeError("the server is not running: await start() first")
        return self._hub

    # --- from start to stop ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start to serve; clients can connect when this returns.

        Raises OSError if it cannot listen, InvalidTls for files that cannot be used, JournalError if the data directory
        is in use or damaged.
        """
        if self._hub is not None:
            raise RuntimeError("the server is running already")
        loop = asyncio.get_running_loop()
        now = self._clock.now()
        state = State(self._settings.tick, first_session_id(_SERVER_ID, now.unix), first_zxid(now.unix))
        secret = self._entropy(_SECRET_LENGTH)
        journal = None
        if self.data_dir is not None:
            journal = Journal(self.data_dir, self._entropy, self._limits.journal)
            state, secret = await asyncio.to_thread(journal.open, state, secret)
        machine = Machine(
            state, self._settings, secret, self._clock.now(), recording=journal is not None, faults=self._faults
        )
        hub = Hub(machine, self._clock, loop, self._limits.connections_per_host)
        if journal is not None:

            def take_snapshot() -> tuple[Snapshot, list[Transaction]]:
                return snapshot_of(state, secret), machine.take_recorded()

            hub.commits = Commits(journal, loop, take_snapshot, deliver=hub.deliver, fail=self._fail, wake=hub.wake)
        try:
            await self._listen(hub, loop)
        except BaseException:
            for listener in self._listeners:
                await listener.close()
            self._listeners.clear()
            hub.stop()
            if journal is not None:
                journal.close()
            raise
        self._describe(machine, journal)
        self._hub, self._journal, self._closed = hub, journal, loop.create_future()

    async def stop(self) -> None:
        """Stop. Existing answers are delivered and connections end. Sessions do not: a client finds its session again
        after a restart with the same data directory. Does nothing if the server is not running."""
        hub, self._hub = self._hub, None
        if hub is None:
            if self._ending is not None:
                await self._ending
            return
        await self._end(hub)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    async def wait_stopped(self) -> None:
        """Wait until `stop`. Raises JournalError if the disk failed, after which the server has stopped by itself."""
        if self._closed is None:
            raise RuntimeError("the server was never started: await start() first")
        await asyncio.shield(self._closed)

    async def _listen(self, hub: Hub, loop: asyncio.AbstractEventLoop) -> None:
        limits = self._limits

        def make_link() -> Link:
            return Link(hub, loop, limits.handshake, limits.unread)

        async def listen(port: int, tls: TLS | None) -> int:
            listener = Listener(loop, make_link, tls, limits.handshake, limits.connections_per_host)
            await listener.open(self.host, port)
            self._listeners.append(listener)
            return listener.port

        if self._has_two_ports:
            self._port = await listen(self._port, None)
            self._secure_port = await listen(self._secure_port, self._tls)
        else:
            self._port = self._secure_port = await listen(self._port, self._tls)

    async def _end(self, hub: Hub) -> None:
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            await listener.close()
        hub.stop()
        hub.run_turn()
        if hub.commits is not None:
            await hub.commits.close()
        hub.on_each(lambda link: link.deliver(b"", close=True))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hub.wait_empty(), _FAREWELL)
        hub.on_each(Link.abort)
        await hub.wait_empty()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _fail(self, error: BaseException) -> None:
        """Stop because the disk takes no more: no client gets an answer from here on."""
        hub, self._hub = self._hub, None
        if hub is None:
            return
        _log.critical("the server stops serving: %s", error)
        hub.on_each(Link.abort)
        self._ending = asyncio.ensure_future(self._end_failed(hub, error))

    async def _end_failed(self, hub: Hub, error: BaseException) -> None:
        await self._end(hub)
        if self._closed is not None and not self._closed.done():
            self._closed.set_exception(error)

    def _describe(self, machine: Machine, journal: Journal | None) -> None:
        machine.about.update(
            clientPort=str(self._port if self._tls is None or self._has_two_ports else -1),
            secureClientPort=str(-1 if self._tls is None else self._secure_port),
            dataDir=str(self.data_dir or ""),
            dataDirSize=lambda: str(journal.snapshots_size if journal else 0),
            dataLogDir=str(self.data_dir or ""),
            dataLogSize=lambda: str(journal.logs_size if journal else 0),
            tickTime=str(self._settings.tick),
            maxClientCnxns=str(self._limits.connections_per_host),
            minSessionTimeout=str(self._settings.min_timeout),
            maxSessionTimeout=str(self._settings.max_timeout),
            clientPortListenBacklog=str(BACKLOG),
            serverId=str(_SERVER_ID),
        )
        machine.measures.update(
            open_file_descriptor_count=lambda: str(descriptors.count_open()),
            max_file_descriptor_count=lambda: str(descriptors.limit()),
        )
        machine.environment.update(
            {
                "host.name": platform.node(),
                "os.name": platform.system(),
                "os.arch": platform.machine(),
                "os.version": platform.release(),
                "python.version": platform.python_version(),
            }
        )

    # --- for tests of programs that use it ---------------------------------------------------------------------------

    def expire_session(self, session_id: int) -> None:
        """End the session now, as if its time were over."""
        hub = self._running
        hub.machine.expire_session(session_id, self._clock.now())
        hub.wake()

    def drop_connections(self, session_id: int | None = None) -> None:
        """Cut the connection of one session, or all connections. Sessions live on."""
        hub = self._running
        for connection in list(hub.machine.connections):
            if connection.session_id and session_id in (None, connection.session_id):
                hub.machine.drop_connection(connection.session_id)
        hub.wake()

    def advance(self, milliseconds: int) -> None:
        """Move the server's clock forward, and do what is due by then."""
        hub = self._running
        self._clock.advance(milliseconds)
        hub.tick()


def _check(settings: Settings, tls: TLS | None, secure_port: int | None) -> None:
    if not 0 < settings.min_timeout <= settings.max_timeout:
        raise ValueError("the session timeouts must satisfy 0 < min_session_timeout <= max_session_timeout")
    if settings.tick <= 0:
        raise ValueError("tick_time must be a positive number of milliseconds")
    if settings.super_digest and not all(settings.super_digest.partition(":")):
        raise ValueError("super_digest must be user:hash, as `acls.digest_id(b'user:password').id` makes it")
    if secure_port is not None and tls is None:
        raise ValueError("secure_port needs tls, with a certificate and a key")
