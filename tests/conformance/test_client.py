"""What the client makes of both servers in requests that Herdmaster itself does not send: times to live (2.3, 2.4 and
3.5), and getEphemerals and getAllChildrenNumber (2.3), with and without a namespace."""

from __future__ import annotations

import asyncio

import pytest

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.client.creates import MAX_TTL
from herdmaster.zookeeper.model import CreateMode, EventType, WatchEvent
from tests.conformance.rig import Rig

PATIENCE = 20.0
TTL, SEQUENTIAL_TTL = CreateMode.PERSISTENT_TTL, CreateMode.PERSISTENT_SEQUENTIAL_TTL
PERSISTENT, SEQUENTIAL = CreateMode.PERSISTENT, CreateMode.PERSISTENT_SEQUENTIAL


@pytest.fixture(params=["", "/prod"])
def hosts(rig: Rig, request: pytest.FixtureRequest) -> str:
    """A connect string without a namespace, and one with."""
    rig.client().create("/prod")
    return f"{rig.hosts}{request.param}"


@pytest.fixture
def within(rig: Rig) -> str:
    """A connect string with a namespace."""
    rig.client().create("/prod")
    return f"{rig.hosts}/prod"


def client_of(hosts: str) -> Client:
    return Client(hosts, session_timeout=10.0, connect_timeout=PATIENCE)


class Events:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.all: list[WatchEvent] = []
        self._came = asyncio.Event()

    def __call__(self, event: WatchEvent) -> None:
        self.all.append(event)
        self._came.set()

    async def wait_for(self, event: WatchEvent) -> None:
        async with asyncio.timeout(PATIENCE):
            while event not in self.all:
                self._came.clear()
                await self._came.wait()


# --- times to live ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [PERSISTENT, TTL])
async def test_a_znode_with_a_time_to_live_goes_when_it_is_over(within: str, mode: CreateMode) -> None:
    events = Events()
    async with client_of(within) as client:
        await client.add_watch("/t", events)
        assert await client.create("/t", b"data", mode=mode, ttl=0.001) == "/t"
        await events.wait_for(WatchEvent(EventType.DELETED, "/t"))
        assert await client.exists("/t") is None
    assert events.all == [WatchEvent(EventType.CREATED, "/t"), WatchEvent(EventType.DELETED, "/t")]


@pytest.mark.parametrize("ttl", [60, MAX_TTL])
async def test_the_unit_of_a_time_to_live_is_the_second(within: str, ttl: float) -> None:
    """On the wire it is the millisecond: by that the one would be over, and the other out of range as it is."""
    events = Events()
    async with client_of(within) as client:
        await client.create("/t", ttl=ttl)
        await client.add_watch("/witness", events)
        await client.create("/witness", ttl=0.5)
        await events.wait_for(WatchEvent(EventType.DELETED, "/witness"))
        assert await client.exists("/t")


@pytest.mark.parametrize("mode", [SEQUENTIAL, SEQUENTIAL_TTL])
async def test_a_sequential_znode_may_have_a_time_to_live(within: str, mode: CreateMode) -> None:
    events = Events()
    async with client_of(within) as client:
        await client.create("/s")
        await client.add_watch("/s", events, recursive=True)
        assert await client.create("/s/n-", mode=mode, ttl=0.05) == "/s/n-0000000000"
        assert await client.create("/s/", mode=mode, ttl=60.0) == "/s/0000000001"
        await events.wait_for(WatchEvent(EventType.DELETED, "/s/n-0000000000"))
        assert await client.children("/s") == ("0000000001",)


async def test_a_transaction_may_create_znodes_with_times_to_live(within: str) -> None:
    events = Events()
    async with client_of(within) as client:
        await client.create("/s")
        await client.add_watch("/t", events)
        transaction = client.transaction().create("/t", b"1", ttl=0.05).set("/t", b"22", 0)
        transaction.create("/s/n-", mode=SEQUENTIAL, ttl=60.0).create("/plain")
        first, _, numbered, _ = await transaction.commit()
        assert (first, numbered) == ("/t", "/s/n-0000000000")
        await events.wait_for(WatchEvent(EventType.DELETED, "/t"))
        assert await client.exists("/plain")
        assert await client.exists("/s/n-0000000000")


async def test_a_transaction_that_fails_leaves_nothing_with_a_time_to_live(within: str) -> None:
    async with client_of(within) as client:
        with pytest.raises(errors.TransactionFailed) as caught:
            await client.transaction().create("/t", ttl=60.0).create("/t", ttl=60.0).commit()
        assert (caught.value.index, caught.value.path) == (1, "/t")
        assert await client.exists("/t") is None


@pytest.mark.parametrize("mode", [PERSISTENT, SEQUENTIAL])
async def test_a_server_that_allows_no_times_to_live_is_named_as_the_reason(strict_rig: Rig, mode: CreateMode) -> None:
    async with client_of(strict_rig.hosts) as client:
        with pytest.raises(errors.Unimplemented, match="/t") as alone:
            await client.create("/t", mode=mode, ttl=1.0)
        with pytest.raises(errors.TransactionFailed, match=r"operation 1 .* Unimplemented: /t") as together:
            await client.transaction().check("/").create("/t", mode=mode, ttl=1.0).commit()
        for caught in (alone, together):
            (note,) = caught.value.__notes__
            assert "zookeeper.extendedTypesEnabled=true" in note
        assert await client.exists("/t") is None, "and the session goes on"


# --- ephemerals and descendants --------------------------------------------------------------------------------------


async def test_ephemerals_are_those_of_the_own_session_below_the_namespace_by_a_plain_prefix(
    hosts: str,
) -> None:
    async with client_of(hosts) as client, client_of(hosts) as other:
        assert await client.ephemerals() == ()
        await client.create("/folder")
        for path in ("/ab", "/abc", "/folder/e", "/x"):
            await client.create(path, mode=CreateMode.EPHEMERAL)
        numbered = await client.create("/folder/n-", mode=CreateMode.EPHEMERAL_SEQUENTIAL)
        await other.create("/other", mode=CreateMode.EPHEMERAL)
        assert sorted(await client.ephemerals()) == ["/ab", "/abc", "/folder/e", numbered, "/x"]
        assert sorted(await client.ephemerals("/ab")) == ["/ab", "/abc"]
        assert sorted(await client.ephemerals("/folder/")) == ["/folder/e", numbered]
        assert await client.ephemerals("/none") == ()
        assert await other.ephemerals() == ("/other",)
        await client.delete("/ab")
        assert await client.ephemerals("/ab") == ("/abc",)


async def test_descendants_are_counted_at_every_depth_and_at_segment_boundaries(hosts: str) -> None:
    async with client_of(hosts) as client:
        before = await client.count_descendants("/")
        for path in ("/a", "/a/b", "/a/b/c", "/a/d", "/aa", "/aa/x"):
            await client.create(path)
        await client.create("/a/b/e", mode=CreateMode.EPHEMERAL)
        assert await client.count_descendants("/") == before + 7
        assert await client.count_descendants("/a") == 4
        assert await client.count_descendants("/a/b") == 2
        assert await client.count_descendants("/a/b/c") == 0
        with pytest.raises(errors.NoNode) as caught:
            await client.count_descendants("/none")
        assert caught.value.path == "/none"


async def test_the_descendants_of_a_namespace_are_not_those_of_its_neighbour(rig: Rig) -> None:
    peer = rig.client()
    for path in ("/prod", "/prod/a", "/product", "/product/a", "/product/b"):
        peer.create(path)
    async with client_of(f"{rig.hosts}/prod") as client:
        assert await client.count_descendants("/") == 1
