"""A network in memory. Each connection delivers its bytes in order, late, in pieces, or never. Connections
have no order between them.

A connection can be cut, and then loses what is in flight from some byte on; it can fall silent in one direction or in
both, without an error; it can stall, and deliver everything later. While a process is partitioned from a server, its
connections stall and it cannot open new ones.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from herdmaster.simulation.plan.hardware import Latency
from herdmaster.simulation.world.loop import Handle, Owner, VirtualLoop

_SPLIT_CHANCE: Final = 0.03
_LOST_BY_RESET: Final = 0.4
_RESET_LOST: Final = 0.2
_REFUSAL_SECONDS: Final = (0.05, 0.6)
"""As if behind a proxy. If refused at once, clients would spend the run with connecting."""


class Lane:
    """One direction of a connection. `sink` is called with bytes, and with None at the end."""

    def __init__(
        self,
        loop: VirtualLoop,
        receiver: Owner,
        rng: random.Random,
        latency: Latency,
        sink: Callable[[bytes | None], None],
    ) -> None:
        self._loop = loop
        self._receiver = receiver
        self._rng = rng
        self._latency = latency
        self._sink = sink
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self._newest = 0.0
        self._held_until = 0.0
        self._is_silent = False
        self._pending: Handle | None = None
        self.on_next: Callable[[bytes], None] | None = None
        """Called instead of the sink with what arrives next."""

    def send(self, data: bytes | None) -> None:
        if not self._is_silent:
            due = self._newest = max(self._newest, self._loop.now + self._latency.draw(self._rng))
            self._queue.append((due, data))
            self._schedule()

    def hold(self, until: float) -> None:
        """Deliver nothing before this time."""
        self._held_until = max(self._held_until, until)

    def silence(self) -> None:
        """Deliver nothing any more, without an error."""
        self._is_silent = True
        self._queue.clear()

    def lose(self) -> None:
        """Lose what is in flight; more may be sent."""
        self._queue.clear()

    def _schedule(self) -> None:
        if self._pending is None and self._queue:
            at = max(self._queue[0][0], self._held_until)
            self._pending = self._loop.call_for(self._receiver, at, self._arrive)

    def _arrive(self) -> None:
        self._pending = None
        if self._loop.now >= self._held_until:
            data, is_end = self._take()
            if data:
                if self.on_next is None:
                    self._sink(data)
                else:
                    on_next, self.on_next = self.on_next, None
                    on_next(data)
            if is_end:
                self._sink(None)
        self._schedule()

    def _take(self) -> tuple[bytes, bool]:
        """Return all that has arrived by now, as a socket does; rarely only a part."""
        parts: list[bytes] = []
        is_end = False
        while self._queue and self._queue[0][0] <= self._loop.now and not is_end:
            _, data = self._queue.popleft()
            if data is None:
                is_end = True
            else:
                parts.append(data)
        data = b"".join(parts)
        if len(data) > 1 and not is_end and self._rng.random() < _SPLIT_CHANCE:
            place = self._rng.randrange(1, len(data))
            later = self._loop.now + self._latency.draw(self._rng)
            self._queue.appendleft((later, data[place:]))
            self._newest = max(self._newest, later)
            data = data[:place]
        return data, is_end


class Listener(Protocol):
    """The server's side of the network."""

    @property
    def is_listening(self) -> bool: ...

    @property
    def process(self) -> Owner: ...

    def accept(self, wire: Wire) -> None: ...

    def receive(self, wire: Wire, data: bytes) -> None: ...

    def lose(self, wire: Wire) -> None:
        """Handle the end of a connection, from either side."""


class Endpoint(Owner):
    """A process that opens connections from a host."""

    def __init__(self, name: str, host: str) -> None:
        super().__init__(name)
        self.host = host
        self.wires: dict[Wire, None] = {}


class Wire:
    """One connection. Each side is told once of its end, unless that side ended the connection itself."""

    def __init__(self, network: Network, process: Endpoint, address: str, rng: random.Random) -> None:
        self._network = network
        self._loop = network.loop
        self._rng = rng
        self.process = process
        self.address = address
        self.transport = Transport(self)
        self.protocol: asyncio.Protocol | None = None
        self._client_open = True
        self._server_open = True
        self.up = Lane(self._loop, network.listener.process, rng, network.latency, self._reach_server)
        self.down = Lane(self._loop, process, rng, network.latency, self._reach_client)

    def __str__(self) -> str:
        return f"{self.process.name} to {self.address}"

    # --- arrivals ---------------------------------------------------------------------------------------------------

    def _reach_server(self, data: bytes | None) -> None:
        if not self._server_open:
            return
        if data is None:
            self._server_open = False
            self._network.listener.lose(self)
        else:
            self._network.listener.receive(self, data)

    def _reach_client(self, data: bytes | None) -> None:
        if self.protocol is None or (not self._client_open and (data is None or not self._network.late_replies)):
            return
        if data is None:
            self._end_client()
        else:
            self.protocol.data_received(data)

    def _end_client(self) -> None:
        self._client_open = False
        self.process.wires.pop(self, None)
        if self.protocol is not None:
            self.protocol.connection_lost(None)

    # --- what each side does -----------------------------------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        return not self._client_open

    def write_from_client(self, data: bytes) -> None:
        if self._client_open:
            self.up.send(data)

    def close_from_client(self) -> None:
        """Close as the operating system does after what was written; nothing is received any more."""
        if self._client_open:
            self._client_open = False
            self.down.silence()
            self.up.send(None)

    def abort_from_client(self) -> None:
        """Reset the connection: what was written may be lost, and so may the reset itself."""
        if not self._client_open:
            return
        self._client_open = False
        self.process.wires.pop(self, None)
        if not self._network.late_replies:
            self.down.silence()
        chance = self._rng.random()
        if chance < _LOST_BY_RESET:
            self.up.lose()
        self.up.send(None)
        if chance > 1 - _RESET_LOST:
            self.up.silence()
        if self.protocol is not None:
            self._loop.call_soon(self.protocol.connection_lost, None)

    def write_from_server(self, data: bytes) -> None:
        if self._server_open:
            self.down.send(data)

    def close_from_server(self) -> None:
        if self._server_open:
            self._server_open = False
            self.up.silence()
            self.down.send(None)

    # --- faults ------------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """End the connection: both sides are told after a while, and what is in flight is lost."""
        self.up.lose()
        self.down.lose()
        self.up.send(None)
        self.down.send(None)

    def cut_in(self, lane: Lane) -> None:
        """Cut the connection within what arrives next in that direction: before its first byte, after its last, or
        between."""

        def arrive(data: bytes) -> None:
            place = self._rng.choice((0, len(data), self._rng.randrange(len(data) + 1)))
            if place:
                (self._reach_server if lane is self.up else self._reach_client)(data[:place])
            self.cut()

        lane.on_next = arrive

    def silence(self, *, up: bool, down: bool) -> None:
        if up:
            self.up.silence()
        if down:
            self.down.silence()


class Transport(asyncio.Transport):
    """The client's end of a connection."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._wire.write_from_client(bytes(data))

    def is_closing(self) -> bool:
        return self._wire.is_closing

    def close(self) -> None:
        self._wire.abort_from_client()

    def abort(self) -> None:
        self._wire.abort_from_client()


class Network:
    """Opens connections. All addresses lead to the one server, as all servers of an ensemble show one tree."""

    def __init__(
        self, loop: VirtualLoop, listener: Listener, latency: Latency, seed: object, *, late_replies: bool = False
    ) -> None:
        """`late_replies`: what was sent arrives at a client also after it gave the connection up."""
        self.loop = loop
        self.listener = listener
        self.latency = latency
        self.late_replies = late_replies
        self._seed = seed
        self._partitions: dict[tuple[str, str], float] = {}  # (host, address): until when
        self._count = 0

    async def connect(
        self, owner: Owner, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        assert isinstance(owner, Endpoint)
        self._count += 1
        rng = random.Random(f"{self._seed}/wire/{self._count}")
        address = f"{host}:{port}"
        await asyncio.sleep(self.latency.draw(rng) + self.latency.draw(rng))
        # A lost SYN is sent again: an attempt outlasts a partition if its caller waits long enough.
        while (until := self._partitioned_until(owner.host, address)) > self.loop.now:  # noqa: ASYNC110 - the time may be extended
            await asyncio.sleep(until - self.loop.now)
        if not self.listener.is_listening:
            await asyncio.sleep(rng.uniform(*_REFUSAL_SECONDS))
            raise ConnectionRefusedError(f"connection to {address} refused")
        wire = Wire(self, owner, address, rng)
        protocol = factory()
        assert isinstance(protocol, asyncio.Protocol)
        wire.protocol = protocol
        owner.wires[wire] = None
        self.listener.accept(wire)
        made = self.loop.create_future()
        self.loop.call_soon(protocol.connection_made, wire.transport)
        self.loop.call_soon(_resolve, made)
        try:
            await made
        except BaseException:
            wire.transport.abort()
            raise
        return wire.transport, protocol

    def partition(self, process: Endpoint, address: str, until: float) -> None:
        """Deliver nothing between the two until then. What is in flight arrives afterwards, as TCP sends it again."""
        key = (process.host, address)
        self._partitions[key] = max(until, self._partitions.get(key, 0.0))
        for wire in process.wires:
            if wire.address == address:
                wire.up.hold(until)
                wire.down.hold(until)

    def heal(self) -> None:
        """End all partitions for new connections."""
        self._partitions.clear()

    def _partitioned_until(self, host: str, address: str) -> float:
        return self._partitions.get((host, address), 0.0)


def _resolve(future: asyncio.Future[object]) -> None:
    if not future.done():
        future.set_result(None)
