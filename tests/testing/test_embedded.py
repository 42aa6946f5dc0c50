"""The embedded ZooKeeper as users' tests have it: its life, and every fault that it offers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from herdmaster.testing.embedded import EmbeddedZooKeeper
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import CreateMode, SessionState
from herdmaster.zookeeper.wire.records import Create


@pytest.fixture
def zookeeper() -> Iterator[EmbeddedZooKeeper]:
    with EmbeddedZooKeeper() as server:
        yield server


@pytest.fixture
async def client(zookeeper: EmbeddedZooKeeper) -> AsyncIterator[Client]:
    async with Client(zookeeper.hosts, session_timeout=4.0) as client:
        yield client


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


async def test_moving_time_expires_whoever_was_silent_for_as_long(zookeeper: EmbeddedZooKeeper, client: Client) -> None:
    await asyncio.to_thread(zookeeper.move_time, 10.0)
    await wait_for_state(client, SessionState.EXPIRED)


async def test_killing_the_primary_ends_the_session_that_owns_master(
    zookeeper: EmbeddedZooKeeper, client: Client
) -> None:
    await client.create("/prod")
    await client.create("/prod/master", mode=CreateMode.EPHEMERAL)
    await asyncio.to_thread(zookeeper.kill_primary, "/prod")
    await wait_for_state(client, SessionState.EXPIRED)


async def test_killing_the_primary_says_so_when_there_is_none(zookeeper: EmbeddedZooKeeper) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(zookeeper.kill_primary, patience=0.05)
