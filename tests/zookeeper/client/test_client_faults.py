"""Sessions that end, servers that go and come back, calls that are given up."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from herdmaster.testing.ports import LOOPBACK, free_ports
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.client.credentials import Digest
from herdmaster.zookeeper.model import CreateMode, SessionState
from tests.zookeeper.client.sessions import Events, OwnServer, States, client_of, end_session, kick, wait_until

CONNECTED, DISCONNECTED = SessionState.CONNECTED, SessionState.DISCONNECTED
EXPIRED, CLOSED = SessionState.EXPIRED, SessionState.CLOSED


def observed(client: Client) -> States:
    states = States()
    client.add_listener(states)
    return states


# --- expiry ----------------------------------------------------------------------------------------------------------


async def test_a_session_that_was_ended_elsewhere_is_over_for_good(server: str) -> None:
    async with client_of(server) as other, client_of(server) as client:
        states = observed(client)
        await client.create("/e", mode=CreateMode.EPHEMERAL)
        await end_session(server, client.client_id)
        await states.wait_for(EXPIRED)
        assert states == [DISCONNECTED, EXPIRED]
        assert client.state is EXPIRED
        assert await other.exists("/e") is None
        for call in (client.get("/"), client.create("/a"), client.sync(), client.transaction().commit()):
            with pytest.raises(errors.SessionExpired):
                await call
        with pytest.raises(errors.SessionExpired):
            client.watch_created_nowait(["/a"], Events())
        assert await other.exists("/a") is None


@pytest.mark.long
async def test_what_is_pending_when_the_session_ends_raises(own_server: OwnServer) -> None:
    async with client_of(own_server.hosts, session_timeout=1.0) as client:
        own_server.pause()
        pending = [asyncio.ensure_future(call) for call in (client.get("/"), client.create("/a"), client.sync())]
        for result in await asyncio.gather(*pending, return_exceptions=True):
            assert isinstance(result, errors.ConnectionLoss | errors.SessionExpired)
        assert isinstance(pending[0].exception(), errors.SessionExpired), "a read is no loss"
        assert isinstance(pending[1].exception(), errors.ConnectionLoss)
        own_server.resume()


@pytest.mark.long
async def test_a_client_declares_expiry_by_itself_while_no_server_answers(own_server: OwnServer) -> None:
    async with client_of(own_server.hosts, session_timeout=1.0) as client:
        states = observed(client)
        ends: list[float] = []
        client.add_listener(lambda state: ends.append(client.clock()) if state is EXPIRED else None)
        start = client.clock()
        own_server.pause()
        await states.wait_for(EXPIRED)
        assert states == [DISCONNECTED, EXPIRED]
        assert start + 1.0 <= ends[0] < start + 10.0
        assert client.deadline <= ends[0], "what must stop by the deadline has stopped"
        own_server.resume()
    async with client_of(own_server.hosts) as fresh:
        assert await fresh.exists("/")


async def test_a_server_that_lost_everything_ends_the_session(own_server: OwnServer) -> None:
    async with client_of(own_server.hosts, session_timeout=1.0) as client:
        for number in range(5):
            await client.create(f"/{number}")
        own_server.kill()
        own_server.forget()
        await own_server.start()
        # It closes without a word on a client that has seen more than it has.
        await wait_until(lambda: client.state is EXPIRED)


@pytest.mark.long
async def test_an_abandoned_session_lapses_by_itself(server: str) -> None:
    async with client_of(server) as other:
        client = await client_of(server, session_timeout=1.0).open()
        await client.create("/e", mode=CreateMode.EPHEMERAL)
        await client.abandon()
        assert client.state is CLOSED
        assert await other.exists("/e") is not None
        gone = Events()
        await other.exists("/e", gone)
        await gone.wait()
        assert gone.seen == [("DELETED", "/e")]


# --- servers that go and come back -----------------------------------------------------------------------------------


async def test_calls_made_while_the_server_is_down_go_through_when_it_is_back(own_server: OwnServer) -> None:
    async with client_of(own_server.hosts) as client:
        states = observed(client)
        identity = client.client_id
        await client.create("/e", mode=CreateMode.EPHEMERAL)
        own_server.stop()
        await states.wait_for(DISCONNECTED)
        creates = [asyncio.ensure_future(client.create(f"/{number}")) for number in range(3)]
        listing = asyncio.ensure_future(client.children("/"))
        await own_server.start()
        assert await asyncio.gather(*creates) == ["/0", "/1", "/2"]
        assert set(await listing) == {"0", "1", "2", "e"}
        assert states == [DISCONNECTED, CONNECTED]
        assert client.client_id == identity


async def test_a_write_under_way_when_the_server_dies_is_a_loss_and_a_read_is_not(own_server: OwnServer) -> None:
    async with client_of(own_server.hosts) as client:
        own_server.pause()
        write, read = asyncio.ensure_future(client.create("/a")), asyncio.ensure_future(client.get("/"))
        await asyncio.sleep(0.05)  # they leave
        own_server.kill()
        with pytest.raises(errors.ConnectionLoss, match="after a Create had been sent"):
            await write
        assert not read.done()
        await own_server.start()
        await read


@pytest.mark.long
async def test_a_server_that_pauses_for_less_than_the_timeout_costs_no_session(own_server: OwnServer) -> None:
    async with client_of(own_server.hosts, session_timeout=3.0) as client:
        states = observed(client)
        identity = client.client_id
        own_server.pause()
        await states.wait_for(DISCONNECTED)
        own_server.resume()
        await client.get("/")
        assert states == [DISCONNECTED, CONNECTED]
        assert client.client_id == identity


async def test_a_lost_connection_costs_no_session(server: str) -> None:
    async with client_of(server) as client:
        await client.create("/e", mode=CreateMode.EPHEMERAL)
        for _ in range(5):
            await kick(server, client)
        _, stat = await client.get("/e")
        assert stat.ephemeral_owner == client.session_id


@pytest.mark.long
async def test_writes_go_on_while_connections_are_lost_again_and_again(server: str) -> None:
    async with client_of(server) as client, client_of(server) as observer:
        created: list[str] = []
        await observer.add_watch("/", lambda event: created.append(event.path), recursive=True)
        losses = 0

        async def write(number: int) -> None:
            nonlocal losses
            try:
                await client.create(f"/{number}")
            except errors.ConnectionLoss:
                losses += 1
                # Only a look tells whether it was applied. This is a new request, which comes after the old one.
                if await client.exists(f"/{number}") is None:
                    await write(number)

        async def write_all() -> None:
            for start in range(0, 2000, 20):
                await asyncio.gather(*(write(number) for number in range(start, start + 20)))

        writing = asyncio.ensure_future(write_all())
        kicks = 0
        while not writing.done():
            await kick(server, client)
            kicks += 1
        await writing
        await observer.sync()
        assert sorted(created) == sorted(f"/{number}" for number in range(2000)), "each exactly once"
        assert kicks > 3
        assert losses > 0
        deletion = client.transaction()
        for number in range(2000):
            deletion.delete(f"/{number}")
        await deletion.commit()


async def test_credentials_are_shown_again_after_a_reconnect(server: str) -> None:
    async with client_of(server, auth=Digest("al", "pw")) as client:
        await client.add_credential("digest", b"bo:pw")
        before = await client.who_am_i()
        await kick(server, client)
        assert set(await client.who_am_i()) == set(before)


@pytest.mark.long
async def test_a_quiet_client_keeps_its_session_with_pings(server: str) -> None:
    async with client_of(server, session_timeout=1.0) as client:
        states = observed(client)
        first = client.deadline
        await wait_until(lambda: client.deadline > first + 1.3)
        assert states == []


# --- which server ----------------------------------------------------------------------------------------------------


@contextmanager
def black_hole() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen(100)
        yield f"{LOOPBACK}:{listener.getsockname()[1]}"


@pytest.mark.long
async def test_a_dead_server_in_the_connect_string_is_passed_over(server: str) -> None:
    (dead,) = free_ports(1)
    with black_hole() as silent:
        for _ in range(3):
            async with client_of(f"{LOOPBACK}:{dead},{silent},{server}", session_timeout=1.0) as client:
                await client.create("/a")
                await kick(server, client)
                await client.delete("/a")


async def test_no_server_at_all_is_said_with_what_to_do() -> None:
    first, second = free_ports(2)
    client = Client(f"{LOOPBACK}:{first},{LOOPBACK}:{second}/app", connect_timeout=0.5)
    start = time.monotonic()
    with pytest.raises(errors.NoServerReachable) as caught:
        await client.open()
    assert time.monotonic() - start < 10
    message = str(caught.value)
    assert f"no session with {LOOPBACK}:{first},{LOOPBACK}:{second}/app within 0.5 s" in message
    assert "refused" in message or "Connect call failed" in message
    assert message.endswith("is ZooKeeper running?")
    assert client.state is CLOSED


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 63 + ".invalid"])
async def test_a_name_that_does_not_resolve_is_said(host: str) -> None:
    with pytest.raises(errors.NoServerReachable, match=f"{host}:2181: "):
        await Client(host, connect_timeout=0.5).open()


async def test_a_server_that_never_answers_is_said() -> None:
    with black_hole() as silent, pytest.raises(errors.NoServerReachable, match="did not answer the handshake in time"):
        await Client(silent, session_timeout=0.2, connect_timeout=0.5).open()


async def test_a_server_that_comes_up_late_is_found(own_server: OwnServer) -> None:
    own_server.stop()
    opening = asyncio.ensure_future(client_of(own_server.hosts).open())
    await asyncio.sleep(0.1)
    assert not opening.done()
    await own_server.start()
    await (await opening).close()


# --- calls and clients that are given up -----------------------------------------------------------------------------


async def test_a_call_that_is_cancelled_before_it_left_is_never_made(server: str) -> None:
    async with client_of(server) as client:
        cancelled = asyncio.ensure_future(client.create("/cancelled"))
        made = asyncio.ensure_future(client.create("/made"))
        await asyncio.sleep(0)  # both have been asked for, and leave in the next turn
        cancelled.cancel()
        await made
        assert cancelled.cancelled()
        assert await client.children("/") == ("made",)


async def test_a_call_that_is_cancelled_while_disconnected_is_never_made(own_server: OwnServer) -> None:
    async with client_of(own_server.hosts) as client:
        states = observed(client)
        own_server.stop()
        await states.wait_for(DISCONNECTED)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.create("/cancelled")
        await own_server.start()
        assert await client.exists("/cancelled") is None


async def test_a_call_that_is_cancelled_on_its_way_disturbs_no_other(server: str) -> None:
    async with client_of(server) as client:
        for number in range(20):
            calls = [asyncio.ensure_future(client.create(f"/{number}-{index}")) for index in range(5)]
            for _ in range(number % 4):
                await asyncio.sleep(0)
            calls[2].cancel()
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [results[index] for index in (0, 1, 3, 4)] == [f"/{number}-{index}" for index in (0, 1, 3, 4)]


async def test_opening_that_is_cancelled_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    with black_hole() as silent:
        client = Client(silent)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.open()
    assert client.state is CLOSED
    assert asyncio.all_tasks() == before


async def test_closing_while_disconnected_does_not_wait(own_server: OwnServer) -> None:
    client = await client_of(own_server.hosts).open()
    states = observed(client)
    own_server.stop()
    await states.wait_for(DISCONNECTED)
    pending = asyncio.ensure_future(client.get("/"))
    await asyncio.sleep(0)
    start = time.monotonic()
    await client.close()
    assert time.monotonic() - start < 3, "it waited for the end of the session"
    with pytest.raises(errors.ClientClosed):
        await pending
    assert states == [DISCONNECTED, CLOSED]


async def test_closing_does_not_wait_for_a_silent_server_longer_than_the_timeout(own_server: OwnServer) -> None:
    client = await client_of(own_server.hosts, session_timeout=0.6).open()
    own_server.pause()
    start = time.monotonic()
    await client.close()
    assert time.monotonic() - start < 10
    assert client.state.is_final
    own_server.resume()


async def test_a_client_that_is_closed_from_elsewhere_while_it_opens_says_so() -> None:
    with black_hole() as silent:
        client = Client(silent)
        opening = asyncio.ensure_future(client.open())
        await asyncio.sleep(0.05)
        await client.close()
        with pytest.raises(errors.ClientClosed):
            await opening
