"""The embedded ZooKeeper as users' tests have it: its life, and every fault that it offers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from herdmaster.testing.embedded import EmbeddedZooKeeper
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Security
from herdmaster.zookeeper.client.credentials import Digest
from herdmaster.zookeeper.model import CreateMode, SessionState
from herdmaster.zookeeper.wire.records import CloseSession, Create, Exists, Record, Request


@pytest.fixture
def zookeeper() -> Iterator[EmbeddedZooKeeper]:
    with EmbeddedZooKeeper() as server:
        yield server


@pytest.fixture
async def client(zookeeper: EmbeddedZooKeeper) -> AsyncIterator[Client]:
    async with Client(zookeeper.hosts, session_timeout=4.0) as client:
        yield client


def untyped(request: Request[Record]) -> Any:  # as the tests of users have it, who look at fields of any request
    return request


async def wait_for_state(client: Client, state: SessionState) -> None:
    while client.state is not state:
        await asyncio.sleep(0.01)


async def test_it_is_an_async_context_manager_too() -> None:
    async with EmbeddedZooKeeper() as zookeeper, Client(zookeeper.hosts) as client:
        assert await client.create("/a") == "/a"


def test_it_says_so_when_it_is_not_running() -> None:
    with pytest.raises(RuntimeError, match="context manager"):
        EmbeddedZooKeeper().drop_connections()


async def test_without_a_data_directory_a_restart_forgets_everything(zookeeper: EmbeddedZooKeeper) -> None:
    async with Client(zookeeper.hosts) as client:
        await client.create("/a")
    port = zookeeper.port
    await asyncio.to_thread(zookeeper.stop)
    await asyncio.to_thread(zookeeper.start)
    assert zookeeper.port == port
    async with Client(zookeeper.hosts) as client:
        assert await client.exists("/a") is None


async def test_with_a_data_directory_a_restart_forgets_nothing(tmp_path: Path) -> None:
    async with EmbeddedZooKeeper(data_dir=tmp_path) as zookeeper:
        async with Client(zookeeper.hosts) as client:
            await client.create("/a", b"kept")
        await asyncio.to_thread(zookeeper.stop)
        await asyncio.to_thread(zookeeper.start)
        async with Client(zookeeper.hosts) as client:
            assert (await client.get("/a"))[0] == b"kept"


async def test_a_request_dropped_before_is_not_applied(zookeeper: EmbeddedZooKeeper, client: Client) -> None:
    zookeeper.drop_before()
    with pytest.raises(errors.ConnectionLoss):
        await client.create("/a")
    assert await client.exists("/a") is None


async def test_a_request_dropped_after_is_applied(zookeeper: EmbeddedZooKeeper, client: Client) -> None:
    zookeeper.drop_after()
    with pytest.raises(errors.ConnectionLoss):
        await client.create("/a")
    assert await client.exists("/a") is not None


async def test_only_the_requests_that_are_chosen_are_dropped(zookeeper: EmbeddedZooKeeper, client: Client) -> None:
    zookeeper.drop_before(lambda request: isinstance(request, Create) and request.path == "/b", times=2)
    await client.create("/a")
    for _ in range(2):
        with pytest.raises(errors.ConnectionLoss):
            await client.create("/b")
    assert await client.create("/b") == "/b"


async def test_replies_are_delayed_until_told_otherwise(zookeeper: EmbeddedZooKeeper, client: Client) -> None:
    zookeeper.delay_replies(0.3)
    began = time.monotonic()
    await client.create("/a")
    assert time.monotonic() - began >= 0.3
    zookeeper.delay_replies(0)
    await client.create("/b")


async def test_the_latency_that_it_tells_includes_a_delay(zookeeper: EmbeddedZooKeeper, client: Client) -> None:
    zookeeper.delay_replies(0.3)
    await client.create("/a")
    reader, writer = await asyncio.open_connection("127.0.0.1", zookeeper.port)
    writer.write(b"mntr")
    told = dict(line.split("\t") for line in (await reader.read()).decode().splitlines())
    writer.close()

    assert int(told["zk_max_latency"]) >= 300
    assert 0 < float(told["zk_avg_latency"]) < int(told["zk_max_latency"])
    assert int(told["zk_min_latency"]) < 300  # that of the handshake


async def test_cut_connections_come_back_with_their_session(zookeeper: EmbeddedZooKeeper, client: Client) -> None:
    before = client.session_id
    await asyncio.to_thread(zookeeper.drop_connections)
    await client.sync()  # a read, so it is asked again if it left before the loss was noticed
    await client.create("/a", mode=CreateMode.EPHEMERAL)
    assert client.session_id == before


async def test_an_expired_session_is_over(zookeeper: EmbeddedZooKeeper, client: Client) -> None:
    await asyncio.to_thread(zookeeper.expire, client.session_id)
    await wait_for_state(client, SessionState.EXPIRED)
    with pytest.raises(errors.SessionExpired):
        await client.create("/a")


async def test_moving_time_expires_sessions_silent_for_as_long(zookeeper: EmbeddedZooKeeper, client: Client) -> None:
    await asyncio.to_thread(zookeeper.move_time, 10.0)
    await wait_for_state(client, SessionState.EXPIRED)


def test_a_server_that_cannot_start_leaves_no_thread(zookeeper: EmbeddedZooKeeper) -> None:
    before = set(threading.enumerate())
    with pytest.raises(OSError, match="address already in use"):
        EmbeddedZooKeeper(port=zookeeper.port).start()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    ("port", "kind"), [("x", TypeError), (2.5, TypeError), (True, TypeError), (70_000, ValueError), (-1, ValueError)]
)
def test_a_port_that_is_none_is_refused(port: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"port is {port!r}: it takes a number from 1 to 65535, or 0 for a free one"):
        EmbeddedZooKeeper(port=port)


def test_an_empty_data_directory_is_not_the_working_directory() -> None:
    with pytest.raises(ValueError, match="data_dir is empty: name a folder, or leave it out"):
        EmbeddedZooKeeper(data_dir="")


# --- what is dropped and delayed -------------------------------------------------------------------------------------


async def test_a_request_without_the_field_that_is_asked_for_is_not_chosen(
    zookeeper: EmbeddedZooKeeper, client: Client
) -> None:
    zookeeper.drop_before(lambda request: untyped(request).path == "/x")
    await client.who_am_i()  # has no path
    await client.create("/a")
    with pytest.raises(errors.ConnectionLoss):
        await client.create("/x")
    zookeeper.check_selects()


@pytest.mark.parametrize("drop", [EmbeddedZooKeeper.drop_before, EmbeddedZooKeeper.drop_after])
async def test_what_selects_raises_is_raised_to_the_test_and_its_fault_taken_off(
    drop: Callable[..., None], client: Client, zookeeper: EmbeddedZooKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    def select(request: Request[Record]) -> bool:
        raise ValueError("on purpose")

    drop(zookeeper, select, times=3)
    await client.create("/a")
    with pytest.raises(ValueError, match="on purpose") as caught:
        await asyncio.to_thread(zookeeper.drop_connections)
    (note,) = caught.value.__notes__
    assert note == f"raised by the `selects` of {drop.__name__}, given a Create; the fault is removed"
    await client.create("/b")
    await asyncio.to_thread(zookeeper.drop_connections)  # it is raised once
    assert "Fatal error" not in caplog.text


def test_what_selects_raises_is_raised_at_the_latest_when_the_server_is_left() -> None:
    async def create(hosts: str) -> None:
        async with Client(hosts) as client:
            await client.create("/a")

    def misspell(request: Request[Record]) -> bool:
        return bool(untyped(request).pth)

    server = EmbeddedZooKeeper()
    server.start()
    server.drop_before(misspell)
    asyncio.run(create(server.hosts))
    with pytest.raises(AttributeError, match="pth"):
        server.stop()
    with pytest.raises(RuntimeError, match="not running"):
        server.drop_connections()


async def test_what_a_client_sends_by_itself_is_neither_offered_nor_counted(zookeeper: EmbeddedZooKeeper) -> None:
    seen: list[Request[Record]] = []

    def see(request: Request[Record]) -> bool:
        seen.append(request)
        return False

    security = Security(auth=(Digest("me", "secret"),))
    async with Client(zookeeper.hosts, session_timeout=1.0, security=security) as client:
        await client.exists("/a", lambda _event: None)
        zookeeper.drop_after(see)
        await asyncio.to_thread(zookeeper.drop_connections)  # the next connection arms the watch, and authenticates
        await client.exists("/b")
        answered = client.deadline
        while client.deadline == answered:  # until a ping is answered
            await asyncio.sleep(0.01)
    assert [type(request) for request in seen] == [Exists, CloseSession]


@pytest.mark.parametrize("drop", [EmbeddedZooKeeper.drop_before, EmbeddedZooKeeper.drop_after])
def test_a_drop_that_cannot_work_is_refused(drop: Callable[..., None], zookeeper: EmbeddedZooKeeper) -> None:
    with pytest.raises(TypeError, match=rf"{drop.__name__} takes a function .*, not 'abc'"):
        drop(zookeeper, "abc")
    with pytest.raises(TypeError, match="times is 'two': it takes a whole number from 1"):
        drop(zookeeper, times="two")
    for times in (-1, 0):
        with pytest.raises(ValueError, match=f"times is {times}: it takes a whole number from 1"):
            drop(zookeeper, times=times)


@pytest.mark.parametrize("method", [EmbeddedZooKeeper.delay_replies, EmbeddedZooKeeper.move_time])
def test_seconds_that_cannot_be_are_refused(method: Callable[..., None], zookeeper: EmbeddedZooKeeper) -> None:
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"seconds is {seconds}: it takes a number of seconds from 0"):
            method(zookeeper, seconds)
    with pytest.raises(TypeError, match="seconds is '1': it takes a number of seconds from 0"):
        method(zookeeper, "1")


# --- sessions, the primary, workers ----------------------------------------------------------------------------------


async def test_only_a_session_that_is_open_can_be_expired(zookeeper: EmbeddedZooKeeper, client: Client) -> None:
    with pytest.raises(LookupError, match=rf"session 12345 is not open; open: {client.session_id}"):
        await asyncio.to_thread(zookeeper.expire, 12345)
    with pytest.raises(TypeError, match="'x' is not a session id: pass an integer"):
        zookeeper.expire("x")  # type: ignore[arg-type]  # the mistake that this is about


async def join(client: Client, namespace: str, name: str) -> None:
    for path in (namespace, f"{namespace}/workers"):
        if path and await client.exists(path) is None:
            await client.create(path)
    await client.create(f"{namespace}/workers/{name}", mode=CreateMode.EPHEMERAL)


FIRST, SECOND = "worker-ffffffffffffffff", "worker-0000000000000000"


async def test_workers_and_their_sessions_are_told_in_the_order_in_which_they_joined(
    zookeeper: EmbeddedZooKeeper, client: Client
) -> None:
    await join(client, "/prod", FIRST)
    await client.create("/prod/workers/notes")
    asking = asyncio.ensure_future(asyncio.to_thread(zookeeper.worker_sessions, "/prod", least=2))
    async with Client(zookeeper.hosts) as other:
        await join(other, "/prod", SECOND)
        found = await asking
        assert list(found.items()) == [(FIRST, client.session_id), (SECOND, other.session_id)]
    assert await asyncio.to_thread(zookeeper.worker_sessions, "/empty", least=0) == {}


async def test_killing_a_worker_ends_the_session_of_the_first(zookeeper: EmbeddedZooKeeper, client: Client) -> None:
    await join(client, "", FIRST)
    async with Client(zookeeper.hosts) as other:
        await join(other, "", SECOND)
        assert await asyncio.to_thread(zookeeper.kill_worker) == FIRST
        await wait_for_state(client, SessionState.EXPIRED)
        assert await asyncio.to_thread(zookeeper.worker_sessions) == {SECOND: other.session_id}


async def test_killing_the_primary_waits_for_one_and_needs_no_request_that_a_fault_could_hit(
    zookeeper: EmbeddedZooKeeper, client: Client
) -> None:
    killing = asyncio.ensure_future(asyncio.to_thread(zookeeper.kill_primary))
    await client.create("/master", mode=CreateMode.EPHEMERAL)
    await killing
    await wait_for_state(client, SessionState.EXPIRED)
    async with Client(zookeeper.hosts) as other:
        await other.create("/master", mode=CreateMode.EPHEMERAL)
        zookeeper.drop_before()
        await asyncio.to_thread(zookeeper.kill_primary)
        await wait_for_state(other, SessionState.EXPIRED)


@pytest.mark.parametrize("given", ["/prod", "{hosts}/prod"])
async def test_a_namespace_is_a_path_or_a_connect_string(
    given: str, zookeeper: EmbeddedZooKeeper, client: Client
) -> None:
    await client.create("/prod")
    await client.create("/prod/master", mode=CreateMode.EPHEMERAL)
    await asyncio.to_thread(zookeeper.kill_primary, given.format(hosts=zookeeper.hosts))
    await wait_for_state(client, SessionState.EXPIRED)


def test_a_namespace_that_cannot_be_is_refused(zookeeper: EmbeddedZooKeeper) -> None:
    for given in ("prod", "elsewhere:2181/prod", "127.0.0.1:1"):
        with pytest.raises(ValueError, match=f"'{given}' is no namespace of this server: give a path"):
            zookeeper.kill_primary(given)
    with pytest.raises(ValueError, match="empty segment"):
        zookeeper.kill_primary("/a//b")
    with pytest.raises(TypeError, match="namespace is None: it takes a path"):
        zookeeper.kill_primary(None)  # type: ignore[arg-type]  # the mistake that this is about


async def test_a_primary_or_worker_that_does_not_come_is_told_with_where_it_was_looked_for(
    zookeeper: EmbeddedZooKeeper,
) -> None:
    hint = "; herd_worker's roles are in a namespace of their own: `with herd_worker(...) as hosts`, then `"
    told: dict[Callable[..., object], str] = {
        zookeeper.kill_primary: "no primary: no process owns {}/master on {}, after 0.05 s",
        zookeeper.kill_worker: "no worker: none is in {}/workers on {}, after 0.05 s",
        zookeeper.worker_sessions: "fewer than 1 workers are in {}/workers on {}, after 0.05 s",
    }
    for method, text in told.items():
        with pytest.raises(TimeoutError) as caught:
            await asyncio.to_thread(method, patience=0.05)
        assert str(caught.value) == text.format("", zookeeper.hosts) + hint + f"{method.__name__}(hosts)`"
        with pytest.raises(TimeoutError) as caught:
            await asyncio.to_thread(method, "/prod", patience=0.05)
        assert str(caught.value) == text.format("/prod", zookeeper.hosts)
