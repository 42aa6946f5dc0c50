"""TLS connections that break: in the handshake, half open, between servers, and in great numbers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Self

import pytest

from herdmaster.testing.embedded import EmbeddedZooKeeper
from herdmaster.zookeeper.client import Client, Security
from herdmaster.zookeeper.model import SessionState
from herdmaster.zookeeper.server import EmbeddedServer, Limits
from tests.authority import Authority

pytestmark = pytest.mark.long

CUT_AFTER = (1, 5, 100, 300, 900, 1500, 2200)
"""Bytes of a handshake: in the first record, between the flights, in the certificate, after the last flight."""


async def ended(writer: asyncio.StreamWriter) -> None:
    """Cut a connection, and return when it is gone."""
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


class Wire:
    """Passes bytes on to a server. The next connections break as told, by how many bytes have passed in both
    directions together; a frozen wire passes nothing more, and keeps its connections open."""

    def __init__(self, hosts: str) -> None:
        self._target = hosts.rpartition(":")
        self._server: asyncio.Server | None = None
        self._cuts: list[int] = []
        self._passing = asyncio.Event()
        self._passing.set()
        self.connections = 0
        self._carrying: list[asyncio.Task[object]] = []

    @property
    def hosts(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._passing.set()
        self._server.close()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def cut(self, *after: int) -> None:
        self._cuts.extend(after)

    def freeze(self) -> None:
        self._passing.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._carrying.append(task)
        left = self._cuts.pop(0) if self._cuts else None
        passed = 0
        inner, outer = await asyncio.open_connection(self._target[0], int(self._target[2]))

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            nonlocal passed
            while data := await source.read(4096):
                await self._passing.wait()
                if left is not None:
                    data = data[: max(left - passed, 0)]
                passed += len(data)
                sink.write(data)
                if left is not None and passed >= left:
                    return

        tasks = [asyncio.ensure_future(copy(reader, outer)), asyncio.ensure_future(copy(inner, writer))]
        with contextlib.suppress(ConnectionError):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in (writer, outer):
            await ended(each)


@pytest.fixture
def server(authority: Authority) -> Iterator[EmbeddedZooKeeper]:
    with EmbeddedZooKeeper(tls=authority.server.tls()) as found:
        yield found


@pytest.fixture
async def wire(server: EmbeddedZooKeeper) -> AsyncIterator[Wire]:
    async with Wire(server.hosts) as found:
        yield found


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        await asyncio.sleep(0.01)
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_handshake_that_is_cut_is_tried_again(
    authority: Authority, server: EmbeddedZooKeeper, wire: Wire
) -> None:
    wire.cut(*CUT_AFTER)
    async with Client(wire.hosts, connect_timeout=20.0, security=Security(authority.client.tls())) as client:
        assert await client.exists("/") is not None
        assert wire.connections == len(CUT_AFTER) + 1, "a handshake succeeded that was cut"
        before = client.session_id
        wire.cut(*CUT_AFTER)
        server.drop_connections()
        assert await client.exists("/") is not None
        assert client.session_id == before


async def test_a_server_that_answers_no_handshake_does_not_hide_the_others(
    authority: Authority, server: EmbeddedZooKeeper
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = f"127.0.0.1:{silent.getsockname()[1]},{server.hosts}"
        security = Security(authority.client.tls())
        for seed in range(4):  # the order of the servers is random
            rng = random.Random(seed)
            async with Client(hosts, session_timeout=1.0, connect_timeout=20.0, security=security, rng=rng) as client:
                assert await client.exists("/") is not None


async def test_a_half_open_link_is_given_up_for_another_one(
    authority: Authority, server: EmbeddedZooKeeper, wire: Wire
) -> None:
    """The session moves to another way to the server, with its identity."""
    security = Security(authority.client.tls())
    async with Client(f"{wire.hosts},{server.hosts}", session_timeout=2.0, security=security) as client:
        while not wire.connections:  # the client chose the other way
            server.drop_connections()
            await until(lambda: client.state is SessionState.CONNECTED)
        before = client.session_id, await client.who_am_i()
        wire.freeze()
        assert (client.session_id, await client.who_am_i()) == before
        assert await client.exists("/") is not None


async def test_cut_and_silent_handshakes_cost_the_server_nothing(authority: Authority) -> None:
    hello = hello_of(authority)
    server = EmbeddedServer(tls=authority.server.tls(), limits=Limits(handshake=0.2))
    async with server:

        async def open_one(number: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(hello[: len(hello) * (number % 4) // 3])
            if number % 2 == 0:
                with contextlib.suppress(ConnectionError):
                    while await reader.read(4096):  # the server answers, then it gives up
                        pass
            await ended(writer)

        async def storm() -> int:
            for _ in range(3):
                await asyncio.gather(*map(open_one, range(50)))
            await until(lambda: not server._listeners[0]._attaching)
            gc.collect()
            return sum(isinstance(each, (ssl.SSLObject, ssl.SSLContext)) for each in gc.get_objects())

        first = await storm()
        assert await storm() <= first + 2
        assert not server.machine.connections
        async with Client(server.hosts, security=Security(authority.client.tls())) as client:
            assert await client.exists("/") is not None


async def test_a_host_has_a_limit_of_handshakes(authority: Authority) -> None:
    async with EmbeddedServer(tls=authority.server.tls(), limits=Limits(connections_per_host=3)) as server:
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await reader.read(1) == b""
        for _, each in [*silent, (reader, writer)]:
            await ended(each)
        async with Client(server.hosts, security=Security(authority.client.tls())) as client:
            assert await client.exists("/") is not None


def hello_of(authority: Authority) -> bytes:
    """Return the first bytes of a client's handshake."""
    context = ssl.create_default_context(cafile=str(authority.ca))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    link = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        link.do_handshake()
    return outgoing.read()
