"""TCP links on loopback that can be broken, one per role and server.

A silent link is what a partition looks like to both ends: connections stay open, nothing comes through, and what was
sent meanwhile arrives late, once the link is mended. That is the hard case, because a write of a session that has ended
may arrive. Attempts to connect in the meantime come to nothing, as a lost SYN does. A link that resets is what a
firewall or a dead machine's neighbour looks like: every connection breaks at once.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

from herdmaster.testing.ports import LOOPBACK

T = TypeVar("T")

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_PATIENCE: Final = 30.0  # seconds
_RETRY_SECONDS: Final = 0.05


class LinkState(enum.Enum):
    OPEN = "open"
    SILENT = "silent"  # nothing passes
    DEAF = "deaf"  # requests pass, replies do not: the server does what it is asked, without an answer
    RESETTING = "resetting"


class _End(asyncio.Protocol):
    """One of a pair's two connections: the role's, or the one to the server."""

    def __init__(self, pair: _Pair) -> None:
        self.pair = pair
        self.transport: asyncio.Transport | None = None
        self.received: list[bytes] = []  # and not passed on yet
        self.is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.pair.handle_connected(self)

    def data_received(self, data: bytes) -> None:
        self.received.append(data)
        self.pair.pass_on()

    def eof_received(self) -> bool:
        self.connection_lost(None)
        return True  # not closed before the link says so

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_over = True
        self.pair.pass_on()

    def take(self) -> bytes:
        data = b"".join(self.received)
        self.received.clear()
        return data

    def reset(self) -> None:
        if self.transport is not None:
            connection: socket.socket | None = self.transport.get_extra_info("socket")
            if connection is not None and connection.fileno() >= 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()


class _Pair:
    """A role's connection and the one to the server that belongs to it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._near = _End(self)
        self._far = _End(self)
        self._connecting: asyncio.Task[None] | None = None

    @property
    def near(self) -> _End:
        return self._near

    @property
    def is_through(self) -> bool:
        return self._far.transport is not None and not self._far.is_over

    def handle_connected(self, end: _End) -> None:
        if end is self._near:
            self._link.pairs.add(self)
        self.pass_on()

    def pass_on(self) -> None:
        """Moves what the link lets through in its present state."""
        state = self._link.state
        if state is LinkState.RESETTING:
            self.reset()
        elif self._far.transport is None:
            self._connect_if_open()
        elif state is not LinkState.SILENT:
            self._carry(self._near, self._far)
            if state is LinkState.OPEN:
                self._carry(self._far, self._near)

    def _connect_if_open(self) -> None:
        if self._link.state is not LinkState.OPEN or self._connecting is not None:
            return
        if self._near.is_over:
            self.reset()  # it gave up while nothing came through: the server never hears of it
        else:
            self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        limit = loop.time() + self._link.patience
        while True:
            try:
                await loop.create_connection(lambda: self._far, LOOPBACK, self._link.server_port)
            except OSError:
                if self._near.is_over or loop.time() >= limit:
                    self.reset()
                    return
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    def _carry(self, giver: _End, taker: _End) -> None:
        assert taker.transport is not None
        data = giver.take()
        if data and not taker.transport.is_closing():
            taker.transport.write(data)
        if giver.is_over:
            taker.transport.close()  # what was passed on is still delivered
            if giver.transport is not None:
                giver.transport.close()
            self._link.pairs.discard(self)

    def reset(self) -> None:
        self._link.pairs.discard(self)
        if self._connecting is not None and self._far.transport is None:
            self._connecting.cancel()
        for end in (self._near, self._far):
            end.reset()


class Link:
    """From one role to one server. `port` is where the role connects to. All methods belong to the network's thread.

    For `patience` seconds it tries to reach a server that does not listen, before it resets the connection that is to
    lead there. A follower that finds its leader not yet listening tries again, one that is reset begins an election.
    """

    def __init__(self, server_port: int, patience: float) -> None:
        self.server_port = server_port
        self.patience = patience
        self.state = LinkState.OPEN
        self.pairs: set[_Pair] = set()
        self._listener: asyncio.Server | None = None

    async def open(self) -> Self:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Pair(self).near, LOOPBACK, 0)
        return self

    @property
    def port(self) -> int:
        assert self._listener is not None
        return int(self._listener.sockets[0].getsockname()[1])

    @property
    def is_used(self) -> bool:
        """Whether a connection goes through it to the server now."""
        return any(pair.is_through for pair in self.pairs)

    def become(self, state: LinkState) -> None:
        self.state = state
        for pair in list(self.pairs):
            pair.pass_on()

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for pair in list(self.pairs):
            pair.reset()


class Network:
    """All links, on the event loop of a separate thread, so that the director does not delay them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._links: list[Link] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()

    def open_links(self, server_ports: list[int], *, patience: float = 0.0) -> Route:
        """A role's links, one to each server."""
        links = [self._run(Link(port, patience).open()) for port in server_ports]
        self._links += links
        return Route(self, links)

    def call(self, function: Callable[[], T]) -> T:
        """Runs it on the network's thread."""

        async def run() -> T:
            return function()

        return self._run(run())

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_PATIENCE)

    async def _end(self) -> None:
        for link in self._links:
            link.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # the transports' farewells


class Route:
    """How a role reaches the servers, or one server another. It may be used from any thread. `port` is the first's."""

    def __init__(self, network: Network, links: list[Link]) -> None:
        self._network = network
        self._links = links
        self.port = links[0].port
        self.hosts = ",".join(f"{LOOPBACK}:{link.port}" for link in links)

    def cut(self, state: LinkState) -> None:
        """Breaks the links to all servers."""

        def cut() -> None:
            for link in self._links:
                link.become(state)

        self._network.call(cut)

    def cut_used(self, state: LinkState) -> bool:
        """Breaks the link to the one server that the role is connected to; False when there is none."""

        def cut() -> bool:
            used = [link for link in self._links if link.is_used]
            for link in used:
                link.become(state)
            return bool(used)

        return self._network.call(cut)

    def mend(self) -> None:
        self.cut(LinkState.OPEN)
