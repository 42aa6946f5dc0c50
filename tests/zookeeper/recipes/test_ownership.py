"""Election and membership: who owns an ephemeral, by its session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import CreateMode
from herdmaster.zookeeper.recipes.election import Election
from herdmaster.zookeeper.recipes.membership import join_group, wait_member_lost
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Proxy, request_of
from tests.roles.stage import end_session


@pytest.fixture
async def first(namespace: str) -> AsyncIterator[Client]:
    async with Client(namespace, session_timeout=2.0, connect_timeout=15.0) as client:
        yield client


@pytest.fixture
async def second(namespace: str) -> AsyncIterator[Client]:
    async with Client(namespace, session_timeout=2.0, connect_timeout=15.0) as client:
        yield client


async def elect(client: Client) -> None:
    async with asyncio.timeout(10):
        await Election(client, "/m", b"").wait_elected()


async def stand_by(client: Client) -> None:
    """Return when another candidate is found to be elected."""
    standing_by = asyncio.Event()
    waiting = asyncio.ensure_future(Election(client, "/m", b"").wait_elected(standing_by.set))
    await asyncio.wait_for(standing_by.wait(), 10)
    assert not waiting.done()
    waiting.cancel()


async def test_of_two_candidates_one_is_elected_and_the_other_follows(first: Client, second: Client) -> None:
    await elect(first)
    standing_by = asyncio.Event()
    waiting = asyncio.ensure_future(Election(second, "/m", b"").wait_elected(standing_by.set))
    await standing_by.wait()
    assert not waiting.done()
    await first.close()
    await asyncio.wait_for(waiting, 10)

    stat = await second.exists("/m")
    assert stat is not None
    assert stat.ephemeral_owner == second.session_id


async def test_one_that_is_elected_already_is_elected(first: Client) -> None:
    await elect(first)
    await elect(first)


async def test_the_data_says_nothing_about_who_is_elected(first: Client, second: Client) -> None:
    await elect(first)
    await second.set("/m", b"second")

    await stand_by(second)


@pytest.mark.parametrize("lose", ["lose_request", "lose_reply"])
async def test_a_lost_connection_makes_no_second_candidate_out_of_one(
    namespace: str, second: Client, lose: str
) -> None:
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=2.0) as client:
        lost = getattr(proxy, lose)(request_of(OpCode.CREATE, "/m"))
        await Election(client, "/m", b"").wait_elected()
        assert lost.happened.is_set()
        await stand_by(second)


async def test_the_loss_of_the_znode_is_learned_of(first: Client, second: Client) -> None:
    election = Election(first, "/m", b"")
    await election.wait_elected()
    waiting = asyncio.ensure_future(election.wait_lost())
    await second.set("/m", b"a change is no loss")
    await second.set("/m", b"nor is another")
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await second.delete("/m")

    await asyncio.wait_for(waiting, 10)


async def test_a_znode_that_another_session_made_anew_is_a_loss(namespace: str, second: Client) -> None:
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as client:
        election = Election(client, "/m", b"")
        await election.wait_elected()
        waiting = asyncio.ensure_future(election.wait_lost())
        proxy.refuse()
        await second.delete("/m")
        await second.create("/m", mode=CreateMode.EPHEMERAL)
        proxy.refuse(refusing=False)

        await asyncio.wait_for(waiting, 10)


@pytest.mark.parametrize(
    "wait",
    [
        lambda client: Election(client, "/other", b"").wait_elected(),
        lambda client: Election(client, "/mine", b"").wait_lost(),
        lambda client: wait_member_lost(client, "/mine"),
    ],
    ids=["standing by", "elected", "member"],
)
async def test_the_end_of_the_session_ends_every_wait(
    namespace: str, first: Client, second: Client, wait: Callable[[Client], asyncio.Future[None]]
) -> None:
    await second.create("/other", mode=CreateMode.EPHEMERAL)
    await join_group(first, "/mine", b"")
    waiting = asyncio.ensure_future(wait(first))
    await asyncio.sleep(0.05)
    await end_session(first, namespace)

    with pytest.raises(errors.SessionExpired):
        await asyncio.wait_for(waiting, 10)


async def test_a_member_announces_itself_and_learns_of_its_loss(first: Client, second: Client) -> None:
    await join_group(first, "/member", b"data")
    data, stat = await second.get("/member")
    assert (data, stat.ephemeral_owner) == (b"data", first.session_id)
    waiting = asyncio.ensure_future(wait_member_lost(first, "/member"))
    await second.delete("/member")

    await asyncio.wait_for(waiting, 10)


async def test_a_member_that_another_session_owns_cannot_be_announced(first: Client, second: Client) -> None:
    await join_group(first, "/member", b"")

    with pytest.raises(errors.NodeExists):
        await join_group(second, "/member", b"")
