"""Flows are accepted as a whole, however many transactions that takes."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from herdmaster.core import layout
from herdmaster.core.flow_creation import NewFlow, NewStep
from herdmaster.core.flows import FlowHeader, FlowState, decode_header, encode_header
from herdmaster.core.names import UlidFactory, flow_name
from herdmaster.core.outcome import Outcome
from herdmaster.errors import DuplicateTask, HerdError, NotSubmitted, SubmissionUnknown
from tests.proxy import Proxy, multi_with
from tests.roles.stage import Stage, StagedClient, until

pytestmark = pytest.mark.long

_ulids = UlidFactory(lambda: 1_700_000_000_000, lambda count: b"\1" * count)


def flow_of(count: int, *, size: int = 10, key: str | None = None) -> NewFlow:
    steps = tuple(NewStep(str(number), f"task-{_ulids.new()}.default.f", b"x" * size) for number in range(count))
    return NewFlow(flow_name(_ulids.new()), FlowHeader(1, "report", 1, FlowState.BUILDING, count, key=key), steps)


SMALL = 3
LARGE = 500


class Put:
    """A flow that was submitted."""

    def __init__(self, client: StagedClient, flow: NewFlow) -> None:
        self.flow = flow
        self.path = layout.flow_path(flow.name)
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.parts = 0
        client.submit_flow(flow, self._accepted, lambda _flow, _outcome, _error: True, self._went_on)

    def _accepted(self, error: HerdError | None) -> None:
        if error is None:
            self.accepted.set_result(None)
        else:
            self.accepted.set_exception(error)

    def _went_on(self) -> None:
        self.parts += 1

    async def is_complete(self, stage: Stage) -> bool:
        """Say whether the flow runs, with all its steps in one place each."""
        header = decode_header(await stage.data(self.path))
        waiting = await stage.names(f"{self.path}/steps")
        running = await stage.names(f"{self.path}/running")
        return header.state is FlowState.RUNNING and len(waiting) + len(running) == len(self.flow.steps)


async def test_a_small_flow_is_accepted_with_one_transaction(stage: Stage) -> None:
    client = await stage.client()
    put = Put(client, flow_of(SMALL))
    await put.accepted

    assert await put.is_complete(stage)
    assert len(await stage.names(layout.TASKS)) == SMALL
    assert put.parts == 0
    (journal,) = await stage.names(layout.CLIENTS)
    stat = await stage.zk.exists(layout.client_path(journal))
    assert stat is not None
    assert stat.version == 1


async def test_a_large_flow_runs_when_all_its_parts_are_accepted(stage: Stage) -> None:
    client = await stage.client()
    put = Put(client, flow_of(LARGE))
    await put.accepted

    assert await put.is_complete(stage)
    assert put.parts > 2
    assert await stage.names(layout.TASKS) == []  # the primary starts them


@pytest.mark.parametrize("part", ["steps", "steps/200", "running"])
@pytest.mark.parametrize("expires", [False, True], ids=["the session lives", "the session ends"])
async def test_a_large_flow_is_built_once_although_a_reply_is_lost(
    namespace: str, stage: Stage, part: str, expires: bool
) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        flow = flow_of(LARGE)
        lost = proxy.lose_reply(multi_with(f"/flows/{flow.name}/{part}"))
        put = Put(client, flow)
        await lost.happened.wait()
        if expires:
            await stage.expire(client)
        await put.accepted

        assert await put.is_complete(stage)
        await stage.stop(client)


async def test_nothing_is_sent_before_the_header_is_accepted_nor_the_end_before_the_rest(
    namespace: str, stage: Stage
) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        flow = flow_of(LARGE)
        lost = proxy.lose_request(multi_with(f"/flows/{flow.name}/steps/200"))
        put = Put(client, flow)
        await lost.happened.wait()
        proxy.refuse()  # or the flow might be complete by the time of the look
        header = decode_header(await stage.data(put.path))
        assert header.state is FlowState.BUILDING
        assert not await stage.exists(f"{put.path}/running")
        proxy.refuse(refusing=False)
        await put.accepted
        await stage.stop(client)


@pytest.mark.parametrize("count", [SMALL, LARGE])
async def test_a_second_flow_with_the_same_name_is_refused_and_named(stage: Stage, count: int) -> None:
    client = await stage.client()
    flow = flow_of(count, key="k")
    await Put(client, flow).accepted

    with pytest.raises(DuplicateTask, match=flow.name):
        await Put(client, flow).accepted


@pytest.mark.parametrize("count", [SMALL, LARGE])
async def test_one_of_several_flows_with_the_same_key_is_accepted(stage: Stage, count: int) -> None:
    client = await stage.client()
    first, *others = [replace(flow_of(count, key="k"), keyed_name=flow_name("0" * 26)) for _ in range(4)]
    accepted = Put(client, first)
    puts = [Put(client, flow) for flow in others]
    client.give_up(others[0].name)

    with pytest.raises(NotSubmitted, match="not accepted in time"):
        await puts[0].accepted
    await accepted.accepted
    for put in puts[1:]:
        with pytest.raises(DuplicateTask, match=first.flow):
            await put.accepted
    assert await stage.names(layout.FLOWS) == [first.flow]


async def test_the_next_flow_with_a_key_is_sent_when_the_first_is_given_up(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        proxy.refuse()
        first, second = [replace(flow_of(SMALL, key="k"), keyed_name=flow_name("0" * 26)) for _ in range(2)]
        given_up, put = Put(client, first), Put(client, second)
        client.give_up(first.name)
        with pytest.raises(NotSubmitted, match=first.flow):
            await given_up.accepted
        proxy.refuse(refusing=False)
        await put.accepted
        await stage.stop(client)


async def test_a_large_flow_that_is_given_up_in_the_middle_is_certainly_not_accepted(
    namespace: str, stage: Stage
) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        flow = flow_of(LARGE)
        lost = proxy.lose_request(multi_with(f"/flows/{flow.name}/steps/200"))
        put = Put(client, flow)
        await lost.happened.wait()
        proxy.refuse()
        client.give_up(flow.name)
        with pytest.raises(NotSubmitted, match=flow.name):
            await put.accepted
        proxy.refuse(refusing=False)
        other = Put(client, flow_of(SMALL))
        await other.accepted  # the first one's parts would have come before

        assert not await stage.exists(f"{put.path}/running")
        await stage.stop(client)


async def test_what_is_under_way_last_is_unknown_when_it_is_given_up(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        flow = flow_of(LARGE)
        lost = proxy.lose_reply(multi_with(f"/flows/{flow.name}/running"))
        put = Put(client, flow)
        await lost.happened.wait()
        proxy.refuse()
        client.give_up(flow.name)
        with pytest.raises(SubmissionUnknown, match=flow.name):
            await put.accepted
        proxy.refuse(refusing=False)
        await stage.stop(client)


async def test_a_flow_that_is_removed_while_it_is_built_is_not_submitted(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        client = await stage.client(proxy.hosts)
        flow = flow_of(LARGE)
        lost = proxy.lose_request(multi_with(f"/flows/{flow.name}/steps/200"))
        put = Put(client, flow)
        await lost.happened.wait()
        proxy.refuse()
        removed = FlowHeader(1, "report", 1, FlowState.REMOVED, LARGE)
        await stage.zk.set(put.path, encode_header(removed))
        proxy.refuse(refusing=False)

        with pytest.raises(NotSubmitted, match=flow.name):
            await put.accepted
        assert not await stage.exists(f"{put.path}/running")
        await stage.stop(client)


async def test_a_client_that_is_stopped_tells_what_is_known_of_its_flows() -> None:
    client = StagedClient("127.0.0.1:1")
    put = Put(client, flow_of(LARGE))
    client.stop()

    with pytest.raises(NotSubmitted, match=put.flow.name):
        await put.accepted


async def test_the_outcome_of_a_flow_is_awaited_as_that_of_a_task(stage: Stage) -> None:
    client = await stage.client()
    flow = flow_of(SMALL)
    ended: list[Outcome | None] = []
    accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def note(_name: str, outcome: Outcome | None, _error: HerdError | None) -> bool:
        ended.append(outcome)
        return True

    client.submit_flow(flow, lambda _error: accepted.set_result(None), note, lambda: None)
    await accepted
    await stage.zk.create(layout.status_path(flow.name), b'{"herd":1,"state":"done","result":null}')
    await until(lambda: bool(ended), "the outcome")
    assert ended[0] is not None
