"""Sessions that a client gave up by its own clock are closed by the next client of the same owner."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from herdmaster.testing.ports import LOOPBACK, free_ports
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Predecessors
from herdmaster.zookeeper.client.connection import boot_clock
from herdmaster.zookeeper.client.predecessors import SessionCloser
from herdmaster.zookeeper.model import ClientId, CreateMode, SessionState
from herdmaster.zookeeper.wire.framing import ConnectRequest, ConnectResponse
from herdmaster.zookeeper.wire.records import CloseSession, Record, Request
from tests.zookeeper.client.scripted import Conversation, Script, behave, hang_up, scripted
from tests.zookeeper.client.sessions import PATIENCE, OwnServer, States, client_of, end_session, wait_until

TIMEOUT = 4.0
OLD = ClientId(0x0100000000000009, b"sixteen bytes..!")


def successor(hosts: str, predecessors: Predecessors, *, connect_timeout: float = PATIENCE) -> Client:
    return Client(hosts, session_timeout=TIMEOUT, connect_timeout=connect_timeout, predecessors=predecessors)


@asynccontextmanager
async def given_up(hosts: str, predecessors: Predecessors) -> AsyncIterator[ClientId]:
    """A session with an ephemeral `/held` that its client gave up a moment ago, and that lives on on the server."""
    ahead = 0.0
    client = Client(
        hosts,
        session_timeout=TIMEOUT,
        connect_timeout=PATIENCE,
        clock=lambda: boot_clock() + ahead,
        predecessors=predecessors,
    )
    async with client:
        await client.create("/held", mode=CreateMode.EPHEMERAL)
        ahead = TIMEOUT * 4 / 3  # as if nothing had been heard for so long
        with pytest.raises(errors.SessionExpired):
            await client.get("/held")
        yield client.client_id


async def test_a_session_that_was_given_up_is_closed_when_the_next_one_begins(server: str) -> None:
    predecessors = Predecessors()
    async with client_of(server) as other, given_up(server, predecessors) as old:
        stat = await other.exists("/held")
        assert stat is not None
        assert stat.ephemeral_owner == old.session_id
        began = time.monotonic()
        async with successor(server, predecessors) as client:
            await wait_until(lambda: len(predecessors) == 0)
            assert await client.exists("/held") is None
            assert client.session_id != old.session_id
        assert time.monotonic() - began < TIMEOUT * 0.8, "it did not lapse by itself"


async def test_a_session_that_the_server_has_ended_meanwhile_is_let_go(server: str) -> None:
    predecessors = Predecessors()
    async with given_up(server, predecessors) as old:
        await end_session(server, old)
        async with successor(server, predecessors) as client:
            await wait_until(lambda: len(predecessors) == 0)
            await client.get("/")
            assert client.state is SessionState.CONNECTED


async def test_a_session_that_is_closed_without_a_connection_is_left_to_the_next_client(own_server: OwnServer) -> None:
    predecessors = Predecessors()
    client = await successor(own_server.hosts, predecessors).open()
    states = States()
    client.add_listener(states)
    own_server.stop()
    await states.wait_for(SessionState.DISCONNECTED)
    await client.close()
    assert len(predecessors) == 1
    await own_server.start()
    async with successor(own_server.hosts, predecessors):
        await wait_until(lambda: len(predecessors) == 0)


async def test_a_session_that_a_server_has_ended_is_no_predecessor(server: str) -> None:
    predecessors = Predecessors()
    async with successor(server, predecessors):
        pass
    client = await successor(server, predecessors).open()
    await end_session(server, client.client_id)
    await wait_until(lambda: client.state is SessionState.EXPIRED)
    await client.close()
    assert len(predecessors) == 0


async def test_servers_that_are_away_hold_up_no_longer_than_without_a_predecessor() -> None:
    predecessors = Predecessors()
    predecessors.add(OLD, os.getpid())
    (port,) = free_ports(1)
    began = time.monotonic()
    with pytest.raises(errors.NoServerReachable):
        await successor(f"{LOOPBACK}:{port}", predecessors, connect_timeout=0.2).open()
    assert time.monotonic() - began < 1
    assert len(predecessors) == 1, "it is closed when a server is back"


async def test_a_forked_child_leaves_the_sessions_of_its_parent_alone(server: str) -> None:
    predecessors = Predecessors()
    async with client_of(server) as parents, successor(server, predecessors) as client:
        predecessors.add(parents.client_id, os.getppid())
        await predecessors.close(_never_dial, limit=1.0)
        assert len(predecessors) == 0
        await client.get("/")
        await parents.get("/")
        assert parents.state is SessionState.CONNECTED


async def _never_dial(_factory: object) -> SessionCloser:
    raise AssertionError("the session of another process was about to be closed")


# --- what is said, and how often ------------------------------------------------------------------------


class Closings:
    """Notes what a server is told on the connections beside the client's own."""

    def __init__(self) -> None:
        self.handshakes: list[ConnectRequest] = []
        self.requests: list[Request[Record]] = []

    def answer(self, session_id: int = OLD.session_id) -> Script:
        async def script(conversation: Conversation) -> None:
            self.handshakes.append(ConnectRequest.decode(await conversation.frame()))
            conversation.writer.write(ConnectResponse(200, session_id, OLD.password).encode())
            while True:
                self.requests.append(await conversation.answer())

        return script

    async def refuse(self, conversation: Conversation) -> None:
        self.handshakes.append(ConnectRequest.decode(await conversation.frame()))
        conversation.writer.write(ConnectResponse(0, 0, bytes(16)).encode())

    async def break_off(self, conversation: Conversation) -> None:
        self.handshakes.append(ConnectRequest.decode(await conversation.frame()))
        conversation.writer.write(ConnectResponse(200, OLD.session_id, OLD.password).encode())
        self.requests.append((await conversation.request())[1])

    async def talk_nonsense(self, conversation: Conversation) -> None:
        self.handshakes.append(ConnectRequest.decode(await conversation.frame()))
        conversation.writer.write(b"\xff" * 8)


async def let_go(*scripts: Script) -> int:
    """A client's connection, then those of its predecessor. Returns how many there were when that was let go."""
    predecessors = Predecessors()
    predecessors.add(OLD, os.getpid())
    async with scripted(behave, *scripts) as (server, hosts), successor(hosts, predecessors) as client:
        await wait_until(lambda: len(predecessors) == 0)
        await client.get("/")
        return server.connections - 1


async def test_nothing_but_the_end_is_said_in_the_old_session() -> None:
    closings = Closings()
    assert await let_go(closings.answer()) == 1
    ((handshake,), (request,)) = closings.handshakes, closings.requests
    assert (handshake.session_id, handshake.password) == (OLD.session_id, OLD.password)
    assert handshake.timeout == 1, "should the connection break now, the session lives for the shortest time there is"
    assert type(request) is CloseSession


async def test_a_refusal_is_the_end_as_well() -> None:
    closings = Closings()
    assert await let_go(closings.refuse) == 1
    assert closings.requests == []


async def test_another_session_that_a_server_opens_instead_is_closed() -> None:
    closings = Closings()
    assert await let_go(closings.answer(session_id=4711)) == 1
    assert [type(request) for request in closings.requests] == [CloseSession]


async def test_a_connection_that_breaks_is_made_again() -> None:
    closings = Closings()
    assert await let_go(hang_up, closings.break_off, closings.answer()) == 3
    assert len(closings.requests) == 2


@pytest.mark.parametrize("fault", ["hang_up", "break_off", "talk_nonsense"])
async def test_after_three_attempts_the_session_is_left_to_lapse(fault: str) -> None:
    closings = Closings()
    script = hang_up if fault == "hang_up" else getattr(closings, fault)
    assert await let_go(script) == 3


async def test_a_client_that_is_closed_meanwhile_leaves_it_to_the_next() -> None:
    closings = Closings()
    predecessors = Predecessors()
    predecessors.add(OLD, os.getpid())
    reached = asyncio.Event()

    async def hang(conversation: Conversation) -> None:
        await conversation.frame()
        reached.set()
        await conversation.frame()  # there is none, but the client's end is heard of

    async with scripted(behave, hang, behave, closings.answer()) as (_, hosts):
        async with successor(hosts, predecessors):
            await reached.wait()
        assert len(predecessors) == 1
        async with successor(hosts, predecessors):
            await wait_until(lambda: len(predecessors) == 0)
    assert [type(request) for request in closings.requests] == [CloseSession]


async def test_only_so_many_are_remembered() -> None:
    predecessors = Predecessors()
    for number in range(20):
        predecessors.add(ClientId(number + 1, bytes(16)), os.getpid())
    assert len(predecessors) == 8


async def test_a_connection_that_was_never_made_can_be_aborted_and_lost() -> None:
    closer = SessionCloser(OLD)
    closer.abort()
    assert not closer.ended.done()
    closer.connection_lost(None)

    assert closer.ended.result() is False


async def test_an_answer_that_comes_after_the_wait_was_given_up_changes_nothing() -> None:
    closer = SessionCloser(OLD, authenticates=True)
    transport = _Sent()
    closer.connection_made(transport)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await closer.attached
    closer.data_received(ConnectResponse(200, OLD.session_id, OLD.password).encode())
    assert not closer.ended.done()
    assert transport.frames == 1


class _Sent(asyncio.Transport):
    """Counts what is written."""

    frames = 0

    def write(self, _data: object) -> None:
        self.frames += 1
