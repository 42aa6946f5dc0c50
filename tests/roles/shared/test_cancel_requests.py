"""A client's requests to cancel: whatever is lost on the way, it learns what came of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.errors import OutcomeGone
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Fault, Match, Proxy, request_of
from tests.roles.stage import Stage, StagedClient, Submitted, new_call, until

pytestmark = pytest.mark.long

CANCELLED = b'{"herd":1,"state":"cancelled"}'
DONE = b'{"herd":1,"state":"done","result":5}'


async def _delayed(client: StagedClient) -> Submitted:
    submitted = client.put(msgspec.structs.replace(new_call("m:f"), delay_ms=3_600_000))
    await submitted.accepted
    return submitted


def _request(client: StagedClient, task: str) -> asyncio.Future[bool]:
    told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    client.cancels.request(task, told.set_result)
    return told


async def test_a_delayed_task_ends_as_cancelled(stage: Stage) -> None:
    client = await stage.client()
    submitted = await _delayed(client)
    told = _request(client, submitted.name)
    await stage.until_exists(layout.cancel_path(submitted.name))
    await stage.master()

    async with asyncio.timeout(30):
        outcome = await submitted.ended
    assert outcome.state == "cancelled"
    async with asyncio.timeout(30):
        assert await told is True
    await stage.until_empty(layout.DELAYED, layout.CANCEL)


@pytest.mark.parametrize(("status", "is_cancelled"), [(CANCELLED, True), (DONE, False), (b"x", False), (None, False)])
async def test_a_task_that_this_client_does_not_wait_for_is_judged_by_its_status(
    stage: Stage, status: bytes | None, is_cancelled: bool
) -> None:
    client = await stage.client()
    name = new_call("m:f").name
    told = _request(client, name)
    await stage.until_exists(layout.cancel_path(name))
    if status is not None:
        await stage.put(layout.status_path(name), data=status)
    await stage.zk.delete(layout.cancel_path(name))

    async with asyncio.timeout(30):
        assert await told is is_cancelled


def _lose_request(proxy: Proxy, match: Match) -> Fault:
    return proxy.lose_request(match)


def _lose_reply(proxy: Proxy, match: Match) -> Fault:
    return proxy.lose_reply(match)


@pytest.mark.parametrize("lose", [_lose_request, _lose_reply])
@pytest.mark.parametrize(
    "step",
    [
        request_of(OpCode.CREATE, "/cancel/"),
        request_of(OpCode.EXISTS, "/cancel/"),
        request_of(OpCode.GET_DATA, "/status/"),
    ],
)
@pytest.mark.parametrize("expires", [False, True], ids=["the session lives", "the session ends"])
async def test_whatever_is_lost_on_the_way_the_verdict_comes(
    namespace: str, stage: Stage, lose: Callable[[Proxy, Match], Fault], step: Match, expires: bool
) -> None:
    other = await stage.client()
    submitted = await _delayed(other)
    other.outcomes.forget(submitted.name)  # or it would be collected, and no client could look it up
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        lost = lose(proxy, step)
        told = _request(client, submitted.name)
        is_last_step = step(OpCode.GET_DATA, b"/status/")
        if is_last_step:
            await stage.master()
        async with asyncio.timeout(30):
            await lost.happened.wait()
        if expires:
            proxy.refuse()
            await stage.expire(client)
            proxy.refuse(refusing=False)
        if not is_last_step:
            await stage.master()

        async with asyncio.timeout(30):
            assert await told is True
        assert await stage.names(layout.STATUS) == [submitted.name]
        await stage.until_empty(layout.CANCEL)
        await stage.stop(client)


async def test_nothing_is_told_before_the_outcome_that_is_waited_for(stage: Stage) -> None:
    client = await stage.client()
    submitted = await _delayed(client)
    told = _request(client, submitted.name)
    await stage.until_exists(layout.cancel_path(submitted.name))
    client.outcomes.forget(submitted.name)  # as if its event were late
    client.outcomes._waiting[submitted.name] = submitted.handle_ended
    await stage.put(layout.status_path(submitted.name), data=CANCELLED)
    await stage.zk.delete(layout.cancel_path(submitted.name))
    await until(lambda: submitted.name in client.cancels._decided, "the primary's decision is known")

    assert not told.done()
    client.cancels.settle(submitted.name, is_cancelled=True)
    assert told.result() is True


async def test_at_the_end_of_the_client_everybody_is_told(stage: Stage) -> None:
    client = await stage.client()
    told = _request(client, new_call("m:f").name)
    await stage.stop(client)

    assert told.result() is False


async def test_a_folder_that_was_taken_away_is_made_again(stage: Stage) -> None:
    client = await stage.client()
    await stage.zk.delete(layout.CANCEL)
    name = new_call("m:f").name
    told = _request(client, name)
    await stage.until_exists(layout.cancel_path(name))

    await stage.zk.delete(layout.cancel_path(name))
    async with asyncio.timeout(30):
        assert await told is False


async def test_a_request_for_what_is_nowhere_is_answered(stage: Stage) -> None:
    await stage.master()
    client = await stage.client()
    name = new_call("m:f").name
    told = _request(client, name)
    submitted = client.wait_by_name(name)

    async with asyncio.timeout(30):
        assert await told is False
        with pytest.raises(OutcomeGone):
            await submitted.ended
    await stage.until_empty(layout.CANCEL)


async def test_a_request_is_fulfilled_although_the_primary_dies_on_it(namespace: str, stage: Stage) -> None:
    client = await stage.client()
    submitted = await _delayed(client)
    async with Proxy(namespace) as proxy:
        first = await stage.master(hosts=proxy.hosts)
        await stage.master(is_primary=False)
        proxy.hold(requests=True)  # it hears of the request, and nothing that it does arrives
        told = _request(client, submitted.name)
        await stage.until_exists(layout.cancel_path(submitted.name))
        await stage.abandon(first)

        async with asyncio.timeout(30):
            assert await told is True
        await stage.until_empty(layout.DELAYED, layout.CANCEL)
