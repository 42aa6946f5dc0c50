"""The shell around a session, against servers that misbehave in ways that a real one cannot be made to."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from herdmaster import forks
from herdmaster.testing.ports import LOOPBACK, free_ports
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.client.connection import _Link
from herdmaster.zookeeper.model import EventType, SessionState
from herdmaster.zookeeper.wire.framing import encode_event, encode_reply
from herdmaster.zookeeper.wire.multi import ErrorResult, Multi, MultiRead, MultiReply
from herdmaster.zookeeper.wire.records import AddWatch, CloseSession, Create, GetData, Record
from tests.zookeeper.client.scripted import (
    ANSWERS,
    STAT,
    Conversation,
    Script,
    Scripted,
    behave,
    hang_up,
    hang_up_after_the_handshake,
    scripted,
)
from tests.zookeeper.client.sessions import Events, States, wait_until


def collect_reports() -> list[BaseException]:
    """What goes to the loop's exception handler from now on."""
    reports: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context["exception"]))
    return reports


# --- out -------------------------------------------------------------------------------------------------------------


class CountingTransport:
    """Passes everything on, and counts the writes."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.writes: list[int] = []

    def write(self, data: bytes) -> None:
        self.writes.append(len(data))
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:  # whatever else a transport has
        return getattr(self._transport, name)


async def test_all_requests_of_one_turn_leave_in_one_send() -> None:
    async with scripted(behave) as (_, hosts), Client(hosts) as client:
        assert client._connection is not None
        link = client._connection._link
        assert link is not None
        assert link.transport is not None
        transport = CountingTransport(link.transport)
        link.transport = transport  # type: ignore[assignment]  # it acts as one
        await asyncio.gather(*(client.create("/a") for _ in range(50)), *(client.get("/a") for _ in range(50)))
        assert len(transport.writes) == 1


async def test_nothing_is_handed_to_a_socket_that_takes_no_more() -> None:
    release = asyncio.Event()

    async def stop_reading(conversation: Conversation) -> None:
        await conversation.handshake()
        await release.wait()
        await conversation.answer_all()

    async with scripted(stop_reading) as (_, hosts), Client(hosts) as client:
        first = [asyncio.ensure_future(client.create("/a", bytes(1_000_000))) for _ in range(12)]
        await wait_until(lambda: client._session.paused)
        late = asyncio.ensure_future(client.get("/a"))
        await asyncio.sleep(0.02)
        assert client._session.unsent == 1, "what waits here is known never to have left"
        release.set()
        await asyncio.gather(*first, late)


# --- servers that misbehave ------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("script", [hang_up, hang_up_after_the_handshake])
async def test_a_server_that_hangs_up_is_not_asked_again_and_again_at_once(script: Script) -> None:
    async with scripted(script) as (server, hosts):
        client = Client(hosts, session_timeout=4.0)
        began = asyncio.get_running_loop().time()
        opening = asyncio.ensure_future(client.open())
        while server.connections < 3 or asyncio.get_running_loop().time() < began + 1.0:
            await asyncio.sleep(0.05)
        assert server.connections <= 25 * (asyncio.get_running_loop().time() - began)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        await client.close()


@pytest.mark.long
async def test_after_a_connection_that_was_of_use_the_next_attempt_comes_at_once() -> None:
    async def answer_once(conversation: Conversation) -> None:
        await conversation.handshake()
        await conversation.answer()

    async with scripted(*[hang_up] * 7, answer_once) as (server, hosts), Client(hosts, connect_timeout=20) as client:
        start = client.clock()
        for _ in range(20):
            await client.get("/a")
        assert server.connections >= 27
        assert client.clock() - start < 15, "20 times the shortest pause, not the longest, which is a second"


async def test_a_server_that_ends_its_half_is_left_even_when_it_reads_nothing() -> None:
    async def half_close(conversation: Conversation) -> None:
        await conversation.handshake()
        await conversation.frame()
        conversation.writer.write_eof()
        await asyncio.sleep(30)

    async with scripted(half_close, behave) as (_, hosts), Client(hosts) as client:
        calls = [asyncio.ensure_future(client.create("/a", bytes(1_000_000))) for _ in range(12)]
        start = client.clock()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert client.clock() - start < 5
        assert isinstance(results[0], errors.ConnectionLoss)


@pytest.mark.parametrize("garbage", [b"\xff" * 8, b"\0\0\0\x10" + bytes(16), b"\0\0\0\1x", b"HTTP/1.1 200 OK\r\n"])
async def test_garbage_costs_one_connection_and_one_call(garbage: bytes) -> None:
    async def talk_nonsense(conversation: Conversation) -> None:
        await conversation.handshake()
        await conversation.request()
        conversation.writer.write(garbage)
        await asyncio.sleep(30)

    async with scripted(talk_nonsense, behave) as (server, hosts), Client(hosts) as client:
        poisoned, other = asyncio.ensure_future(client.get("/a")), asyncio.ensure_future(client.get("/b"))
        with pytest.raises(errors.WireError):
            await poisoned
        assert await other == (b"", STAT)
        assert server.connections == 2


@pytest.mark.parametrize("count", [0, 2])
async def test_a_reply_with_too_few_or_too_many_results_is_no_success(count: int) -> None:
    async def miscount(conversation: Conversation) -> None:
        await conversation.handshake()
        for result in (ANSWERS[GetData], ANSWERS[Create]):
            xid, request = await conversation.request()
            assert isinstance(request, Multi | MultiRead)
            kind = request.operations[0].opcode
            conversation.writer.write(encode_reply(xid, 1, 0, MultiReply((result,) * count, (kind,) * count)))
        await conversation.answer_all()

    async with scripted(miscount) as (_, hosts), Client(hosts) as client:
        with pytest.raises(errors.WireError, match=f"{count} results to 1 reads"):
            await client.multi_read(["/a"])
        with pytest.raises(errors.ConnectionLoss, match=f"{count} results to 1 operations"):
            await client.transaction().create("/a").commit()


async def test_a_refusal_without_a_reason_is_a_refusal() -> None:
    async def refuse(conversation: Conversation) -> None:
        await conversation.handshake()
        xid, _ = await conversation.request()
        conversation.writer.write(encode_reply(xid, 1, 0, MultiReply((ErrorResult(0),), (-1,))))
        await conversation.answer_all()

    async with scripted(refuse) as (_, hosts), Client(hosts) as client:
        with pytest.raises(errors.TransactionFailed):
            await client.transaction().create("/a").commit()


# --- which address ---------------------------------------------------------------------------------------------------


@contextmanager
def full_backlog() -> Iterator[tuple[str, int]]:
    """An address that swallows every attempt to connect: no process accepts, and the queue is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.2", *free_ports(1)))
        listener.listen(0)
        host, port = listener.getsockname()
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex((host, port))
        yield host, port


async def test_an_address_of_a_name_that_swallows_packets_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with full_backlog() as (hole, port):
        server = Scripted((behave,))
        listener = await asyncio.start_server(server.serve, LOOPBACK, port)
        async with listener:
            loop = asyncio.get_running_loop()
            asked: list[str] = []

            async def resolve(host: str, port: int, **_options: object) -> list[tuple[object, ...]]:
                asked.append(host)
                return [(0, 0, 0, "", (address, port)) for address in (hole, hole, LOOPBACK)]

            monkeypatch.setattr(loop, "getaddrinfo", resolve)
            for seed in range(3):
                client = Client(f"zk:{port}", session_timeout=1.0, connect_timeout=10, rng=random.Random(seed))
                async with client:
                    await client.get("/a")
            assert set(asked) == {"zk"}


async def test_an_attempt_that_is_given_up_as_it_succeeds_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = Scripted((behave,))
    listener = await asyncio.start_server(server.serve, "0.0.0.0", 0)
    async with listener:
        loop = asyncio.get_running_loop()
        connect = loop.create_connection
        port = listener.sockets[0].getsockname()[1]
        client = Client(f"zk:{port}", connect_timeout=10)
        states = States()
        client.add_listener(states)
        waiting: list[asyncio.Task[object]] = []

        async def resolve(*_arguments: object, **_options: object) -> list[tuple[object, ...]]:
            return [(0, 0, 0, "", (LOOPBACK, port)), (0, 0, 0, "", ("127.0.0.2", port))]

        async def too_late(*arguments: Any, **options: Any) -> Any:  # as the loop's own
            monkeypatch.setattr(loop, "create_connection", connect)
            transport, _ = await connect(*arguments, **options)
            await states.wait_for(SessionState.CONNECTED)
            waiting.append(asyncio.ensure_future(client.get("/a")))
            transport.close()
            raise TimeoutError

        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        monkeypatch.setattr(loop, "create_connection", too_late)
        async with client:
            assert await client.get("/b") == (b"", STAT)
            await wait_until(lambda: bool(waiting))
            assert await waiting[0] == (b"", STAT)
            assert server.connections == 2
        assert states == [
            SessionState.CONNECTED,
            SessionState.DISCONNECTED,
            SessionState.CONNECTED,
            SessionState.CLOSED,
        ]


async def test_a_name_is_resolved_anew_at_every_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(behave) as (_, hosts):
        port = int(hosts.rpartition(":")[2])
        loop = asyncio.get_running_loop()
        attempts = 0

        async def resolve(_host: str, _port: int, **_options: object) -> list[tuple[object, ...]]:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                raise OSError("no such host")
            return [] if attempts == 2 else [(0, 0, 0, "", (LOOPBACK, port))]

        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        async with Client(f"zk:{port}", connect_timeout=10) as client:
            await client.get("/a")


# --- faults of listeners, and of this module -------------------------------------------------------------------------


async def test_a_listener_that_fails_keeps_the_news_from_no_other() -> None:
    reports = collect_reports()
    async with scripted(behave) as (_, hosts):
        client = Client(hosts)

        def fail(_state: SessionState) -> None:
            raise ZeroDivisionError

        states = States()
        client.add_listener(fail)
        client.add_listener(states)
        async with client:
            pass
    assert states == [SessionState.CONNECTED, SessionState.CLOSED]
    assert [type(report) for report in reports] == [ZeroDivisionError] * 2


async def test_a_callback_that_fails_keeps_no_other_waiting() -> None:
    reports = collect_reports()
    async with scripted(behave) as (_, hosts), Client(hosts) as client:

        def fail(_reply: Record | None, _error: Exception | None) -> None:
            raise ZeroDivisionError

        client.call_nowait(GetData("/a", watch=False), fail)
        await client.get("/a")
        assert [type(report) for report in reports] == [ZeroDivisionError]


async def test_a_listener_may_leave_while_it_is_told() -> None:
    async with scripted(behave) as (_, hosts):
        client = Client(hosts)
        states = States()

        def once(state: SessionState) -> None:
            client.remove_listener(once)
            client.remove_listener(once)
            states(state)

        client.add_listener(once)
        async with client:
            pass
    assert states == [SessionState.CONNECTED]


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
async def test_a_fault_of_the_connecting_task_ends_the_session_instead_of_hanging(error: type[BaseException]) -> None:
    class Broken(random.Random):
        def uniform(self, a: float, b: float) -> float:
            raise error(a, b)

    reports = collect_reports()
    async with scripted(hang_up) as (_, hosts):
        with pytest.raises(errors.ClientClosed):
            await Client(hosts, rng=Broken()).open()
    assert [type(report) for report in reports] == [error]


async def test_a_session_that_ends_during_a_connection_attempt_is_not_attached_again() -> None:
    handshakes = 0
    hold, go = asyncio.Event(), asyncio.Event()

    async def count(conversation: Conversation) -> None:
        nonlocal handshakes
        await conversation.handshake()
        handshakes += 1

    async with scripted(count) as (server, hosts):
        client = await Client(hosts, session_timeout=4.0).open()
        connection = client._connection
        assert connection is not None
        loop = asyncio.get_running_loop()
        connect = loop.create_connection

        async def slow(*args: Any, **options: Any) -> Any:  # as the loop's own
            hold.set()
            await go.wait()
            return await connect(*args, **options)

        loop.create_connection = slow  # type: ignore[method-assign]  # so that the end comes in between
        await hold.wait()
        connection.handle(client._session.abandon())
        go.set()
        await asyncio.gather(connection._task, return_exceptions=True)
        assert client.state is SessionState.CLOSED
        await wait_until(lambda: server.connections == 2)
        await client.close()
        assert handshakes == 1


async def test_watchers_are_told_nothing_after_the_end() -> None:
    async def tell_at_the_end(conversation: Conversation) -> None:
        await conversation.handshake()
        assert isinstance(await conversation.answer(), AddWatch)
        xid, request = await conversation.request()
        assert isinstance(request, CloseSession)
        event = encode_event(-1, EventType.DELETED, "/a")
        conversation.writer.write(event + encode_reply(xid, 1, 0, ANSWERS[CloseSession]))
        await conversation.answer_all()

    async with scripted(tell_at_the_end) as (_, hosts):
        events = Events()
        async with Client(hosts) as client:
            await client.add_watch("/a", events)
        assert events.seen == []
        with pytest.raises(errors.ClientClosed):
            await client.add_watch("/a", events)


async def test_a_child_replaces_the_sockets_of_connections_that_are_open_alone() -> None:
    """See `forks.add_fd`: a number that is left behind may be that of another file later."""

    class Owner:
        def handle_connected(self, link: object) -> None:
            return None

    class Transport(asyncio.Transport):
        pass

    here, there = socket.socketpair()
    with here, there:
        owner: Any = Owner()
        link = _Link(owner)
        link.connection_made(Transport({"socket": here}))
        assert here.fileno() in forks._fds
        link.connection_lost(None)
        assert here.fileno() not in forks._fds
        assert await link.lost is None
