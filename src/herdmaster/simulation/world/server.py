"""The server of the simulated world: the real state machine, with a disk that takes time, crashes and pauses.

Transactions are written to disk in batches, and replies leave only afterwards; a crash loses what is not on disk. So
the history of the world is what is on disk: the `Observer` is told of each transaction then, in order, together with
the session that asked for it. Some addresses may lead to servers that lag behind (`Follower`); they crash and pause
with it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec

from herdmaster.simulation.checks.effects import Entry
from herdmaster.simulation.plan.hardware import Disk
from herdmaster.simulation.world.follower import Follower
from herdmaster.simulation.world.loop import Owner, VirtualLoop
from herdmaster.simulation.world.network import Wire
from herdmaster.simulation.world.process import UNIX_EPOCH_MS
from herdmaster.zookeeper.server.clock import Instant, first_zxid
from herdmaster.zookeeper.server.connection import Connection
from herdmaster.zookeeper.server.effects import Transaction
from herdmaster.zookeeper.server.machine import Machine
from herdmaster.zookeeper.server.sessions import first_session_id
from herdmaster.zookeeper.server.settings import Settings
from herdmaster.zookeeper.server.snapshots import restore, snapshot_of
from herdmaster.zookeeper.server.state import State
from herdmaster.zookeeper.wire.framing import ConnectRequest
from herdmaster.zookeeper.wire.records import Ping, Record, Request

_TICK_MS: Final = 100
_SECRET: Final = b"a secret for passwords of sessions"


class Observer(Protocol):
    """Is told what the server does."""

    def applied(self, wire: Wire, count: int) -> None:
        """A request of this connection was applied; `count` is the number of transactions so far."""

    def recorded(self, entry: Entry) -> None:
        """The transaction is on disk."""

    def attached(self, session_id: int, wire: Wire) -> None:
        """The session is attached to this connection."""

    def asked(self, session_id: int, wire: Wire, request: Request[Record]) -> None:
        """The connection sends a request in its session."""


class _Machine(Machine):
    """The state machine, which reports the connection behind each transaction."""

    applied: Callable[[Connection, list[Transaction]], None]
    heard: Callable[[Connection, Request[Record]], None]
    asked = 0
    followers: dict[Connection, Follower]
    """The servers of the connections that lag behind."""

    def apply(self, connection: Connection, xid: int, request: Request[Record], now: Instant) -> None:
        self.asked += not isinstance(request, Ping)
        self.heard(connection, request)
        follower = self.followers.get(connection)
        if follower is None:
            super().apply(connection, xid, request, now)
        elif not follower.apply(connection, xid, request, now.unix):
            self._close(connection)
        if self.recorded_count:
            self.applied(connection, self.take_recorded())

    def disconnect(self, connection: Connection) -> None:
        super().disconnect(connection)
        self.followers.pop(connection, None)

    def make_follower(self, lag: float) -> Follower:
        return Follower(lag, self.state, self.settings.tick, self._writes, self._outbox)

    def _handshake(self, connection: Connection, body: bytes, now: Instant) -> None:
        follower = self.followers.get(connection)
        if follower is not None and ConnectRequest.decode(body).last_zxid_seen > follower.zxid:
            self._close(connection)  # the client has to try another server
            return
        super()._handshake(connection, body, now)
        if follower is not None and self.recorded_count:
            follower.catch_up()  # with the session that was opened

    def _close(self, connection: Connection) -> None:
        super()._close(connection)
        follower = self.followers.get(connection)
        if follower is not None:
            follower.watches.drop(connection)

    @property
    def recorded_count(self) -> int:
        return len(self._writes.recorded)


class Batch(msgspec.Struct):
    """One write to disk, and the replies that leave after it."""

    entries: list[Entry]
    outputs: list[tuple[Wire, bytes, bool]]


class SimulatedServer:
    """The server process. Several addresses may lead to it; see `Network`. `lags` has the seconds by which an address
    lags behind."""

    def __init__(
        self,
        loop: VirtualLoop,
        disk: Disk,
        rng: random.Random,
        observer: Observer,
        lags: Mapping[str, float] | None = None,
    ) -> None:
        self.process = Owner("server")
        self.count = 0
        """The number of transactions that were applied."""
        self._loop = loop
        self._disk = disk
        self._rng = rng
        self._observer = observer
        self._lags = lags or {}
        self._followers: dict[str, Follower] = {}
        self._settings = Settings(tick=_TICK_MS)
        self.skew_ms = rng.randrange(-5000, 5000)
        unix = self._now().unix
        state = State(_TICK_MS, first_session_id(1, unix), first_zxid(unix))
        self._base = snapshot_of(state, _SECRET)
        self._kept: list[Transaction] = []  # since the base, on disk
        self._unsaved: list[Entry] = []
        self._saving: deque[Batch] = deque()
        self._wires: dict[Connection, Wire] = {}
        self._connections: dict[Wire, Connection] = {}
        self._turn_scheduled = False
        self._generation = 0
        self._state = state
        self._machine: _Machine | None = None
        self.start()

    # --- life --------------------------------------------------------------------------------------------------------

    @property
    def is_listening(self) -> bool:
        return self._machine is not None

    @property
    def asked(self) -> int:
        """The number of requests since the last start, without pings."""
        return self._machine.asked if self._machine is not None else 0

    @property
    def state(self) -> State:
        """The state as applied, which may be ahead of the disk."""
        return self._state

    def start(self) -> None:
        """Start with what is on disk. Sessions continue with their full timeout."""
        machine = _Machine(self._state, self._settings, _SECRET, self._now(), recording=True)
        machine.applied = self._applied
        machine.heard = self._heard
        machine.followers = {}
        self._machine = machine
        self._followers = {address: machine.make_follower(lag) for address, lag in self._lags.items()}
        self._loop.run_as(self.process, self._schedule_tick)

    def crash(self) -> None:
        """End all connections, and lose what is not on disk."""
        self._machine = None
        self._generation += 1
        self._unsaved.clear()
        self._saving.clear()
        self._turn_scheduled = False
        for wire in self._connections:
            wire.cut()
        self._connections.clear()
        self._wires.clear()
        self._state = restore(self._base, _TICK_MS, 0)
        for transaction in self._kept:
            self._state.replay(transaction)
        self._base = snapshot_of(self._state, _SECRET)
        self._kept.clear()

    def expire(self, session_id: int) -> None:
        if self._machine is not None:
            self._machine.expire_session(session_id, self._now())
            self._collect(0)
            self._wake()

    def unix_ms(self) -> int:
        """Return the time by the server's clock."""
        return self._now().unix

    def _now(self) -> Instant:
        milliseconds = int(self._loop.now * 1000)
        return Instant(milliseconds, UNIX_EPOCH_MS + milliseconds + self.skew_ms)

    # --- connections -------------------------------------------------------------------------------------------------

    def accept(self, wire: Wire) -> None:
        assert self._machine is not None
        connection = self._machine.connect(wire.process.name, 0, self._now())
        self._wires[connection] = wire
        self._connections[wire] = connection
        if wire.address in self._followers:
            self._machine.followers[connection] = self._followers[wire.address]

    def receive(self, wire: Wire, data: bytes) -> None:
        connection = self._connections.get(wire)
        if self._machine is None or connection is None:
            return
        before = connection.session_id
        self._machine.receive(connection, data, self._now())
        if connection.session_id != before:
            self._observer.attached(connection.session_id, wire)
        self._collect(connection.session_id)
        self._wake()

    def lose(self, wire: Wire) -> None:
        connection = self._connections.pop(wire, None)
        if self._machine is not None and connection is not None:
            self._wires.pop(connection, None)
            self._machine.disconnect(connection)

    # --- transactions ------------------------------------------------------------------------------------------------

    def _heard(self, connection: Connection, request: Request[Record]) -> None:
        self._observer.asked(connection.session_id, self._wires[connection], request)

    def _applied(self, connection: Connection, transactions: list[Transaction]) -> None:
        self._keep(connection.session_id, transactions)
        self._observer.applied(self._wires[connection], self.count)

    def _collect(self, session_id: int) -> None:
        """Collect the transactions that no request asked for: sessions opened and expired."""
        if self._machine is not None and self._machine.recorded_count:
            self._keep(session_id, self._machine.take_recorded())

    def _keep(self, session_id: int, transactions: list[Transaction]) -> None:
        for transaction in transactions:
            self._unsaved.append(Entry(session_id, transaction))
            self.count += 1
            for follower in self._followers.values():
                self._tell(follower, transaction)

    # --- followers ---------------------------------------------------------------------------------------------------

    def _tell(self, follower: Follower, transaction: Transaction) -> None:
        is_idle = follower.next_due() is None
        follower.learn(transaction, self._loop.now)
        if is_idle and follower.next_due() is not None:
            self._loop.run_as(self.process, lambda: self._schedule_follower(follower))

    def _schedule_follower(self, follower: Follower) -> None:
        due = follower.next_due()
        if due is not None:
            self._loop.call_later(max(0.0, due - self._loop.now), self._follow, follower, self._generation)

    def _follow(self, follower: Follower, generation: int) -> None:
        if generation == self._generation and self._machine is not None:
            follower.follow(self._loop.now)
            self._wake()
            self._schedule_follower(follower)

    # --- turns -------------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.run_as(self.process, lambda: self._loop.call_soon(self._turn, self._generation))

    def _turn(self, generation: int) -> None:
        if generation != self._generation or self._machine is None:
            return
        self._turn_scheduled = False
        outputs: list[tuple[Wire, bytes, bool]] = []
        for connection in self._machine.take_output():
            wire = self._wires.get(connection)
            if wire is not None:
                outputs.append((wire, b"".join(connection.take()), connection.is_closed))
        batch = Batch(self._unsaved, outputs)
        self._unsaved = []
        self._saving.append(batch)
        if len(self._saving) == 1:
            self._save()
        self._resume()

    def _save(self) -> None:
        """Write one batch after the other; a batch without transactions only waits for those before it."""
        while self._saving:
            batch = self._saving[0]
            if batch.entries and self._disk.typical:
                seconds = self._disk.typical * self._rng.uniform(0.5, 2.0)
                self._loop.call_later(seconds, self._saved, self._generation)
                return
            self._saving.popleft()
            self._deliver(batch)

    def _saved(self, generation: int) -> None:
        if generation == self._generation:
            self._deliver(self._saving.popleft())
            self._save()

    def _deliver(self, batch: Batch) -> None:
        for entry in batch.entries:
            self._kept.append(entry.transaction)
            self._observer.recorded(entry)
        for wire, data, close in batch.outputs:
            if data:
                wire.write_from_server(data)
            if close:
                wire.close_from_server()
                self.lose(wire)

    def _resume(self) -> None:
        """Continue with requests that did not fit into one round."""
        machine = self._machine
        for connection in list(self._wires):
            if machine is not None and connection.backlog:
                machine.resume(connection, self._now())
                self._wake()

    # --- time --------------------------------------------------------------------------------------------------------

    def _schedule_tick(self) -> None:
        if self._machine is not None:
            due = min(max(self._machine.next_due() / 1000 - self._loop.now, _TICK_MS / 1000), 1.0)
            self._loop.call_later(due, self._tick, self._generation, self._loop.now + due)

    def _tick(self, generation: int, expected: float) -> None:
        machine = self._machine
        if machine is None or generation != self._generation:
            return
        # After a stall no session is expired before one more tick: signs of life may wait in the sockets.
        if self._loop.now < expected + _TICK_MS / 1000:
            machine.tick(self._now())
            self._collect(0)
            self._wake()
        self._schedule_tick()
