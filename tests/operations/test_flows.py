"""Flows that an operator cancels, retries and removes. No primary runs here: what it does is put there by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from herdmaster.core import flow_moves, layout
from herdmaster.core.access import Identity
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flows import FlowHeader, FlowState, Reference, encode_header, task_of
from herdmaster.core.operations import Move
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome
from herdmaster.core.payload import decode_call
from herdmaster.errors import HerdError
from herdmaster.inspection.flows import NoSuchFlow
from herdmaster.operations import flows
from herdmaster.operations.committing import commit
from herdmaster.operations.flows import cancel_flow, remove_flow, retry_flow, wait_for_end
from herdmaster.roles.shared.access import use_policy
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.client import Client
from tests.closed import close_namespace, reopen_namespace, session_of
from tests.flow_scene import CREATED, FLOW, FlowScene
from tests.lagging import lagging
from tests.proxy import Proxy, multi_with

pytestmark = pytest.mark.long

NAMES = {"0": "fetch", "1": "parse", "2": "merge"}
PARENTS = {"1": ["0"], "2": ["1"]}
FAILED = encode_outcome(FLOW, Outcome(OutcomeState.FAILED, error=ErrorInfo("FlowFailed", "1")))


@pytest.fixture
async def zk(namespace: str) -> AsyncIterator[Client]:
    async with Client(namespace, session_timeout=4.0, connect_timeout=15.0) as client:
        await make_folders(client)
        yield client


async def ended(zk: Client, state: FlowState = FlowState.FAILED, failed: int = 2) -> FlowScene:
    """A flow that has ended: its first step is done, so many items of the second failed, the third waits."""
    scene = FlowScene(zk, NAMES, PARENTS).begin(state, ended=CREATED + 9000, error=ErrorInfo("FlowFailed", "1"))
    scene.done("0", "1", "1.0").waiting("2", [f"1.{item}" for item in range(1, failed + 1)])
    for item in range(1, failed + 1):
        scene.failed(f"1.{item}", attempt=3)
    await scene.write()
    await zk.create(layout.status_path(FLOW), FAILED)
    return scene


async def running(scene: FlowScene) -> dict[str, str]:
    """Return the step of each task that the flow says it has, after a look at its payload."""
    found: dict[str, str] = {}
    for task in await scene.names_in(layout.flow_running_path(FLOW)):
        step = (await scene.client.get(layout.flow_running_path(FLOW, task)))[0]
        call = decode_call((await scene.client.get(layout.task_path(task)))[0] or b"")
        assert call.flow is not None
        assert (call.flow.step, call.attempt, call.error) == ((step or b"").decode(), 1, None)
        found[task] = call.flow.step
    return found


async def end_again(scene: FlowScene, steps: list[str], run: int) -> None:
    """Let tasks of steps fail, and the primary end the flow."""
    for step in steps:
        flow_step = scene.step(step)
        task = task_of(flow_step, run)
        transaction = scene.client.transaction()
        transaction.create(layout.flow_failed_path(FLOW, step), scene.payload(step, run=run, error=ErrorInfo("E")))
        transaction.delete(layout.task_path(task))
        await transaction.delete(layout.flow_running_path(FLOW, task)).commit()
    header, stat = await scene.client.get(layout.flow_path(FLOW))
    failed = msgspec.structs.replace(await scene.header(), state=FlowState.FAILED)
    assert header is not None
    assert await commit(scene.client, [flow_moves.end_flow(FLOW, stat.version, encode_header(failed), FAILED)])


async def test_an_ended_flow_is_opened_and_only_what_failed_runs_again(zk: Client) -> None:
    scene = await ended(zk)
    assert await retry_flow(zk, FLOW) == 2
    assert await running(scene) == {task_of(scene.step(each), 1): each for each in ("1.1", "1.2")}
    header = await scene.header()
    assert (header.state, header.retries, header.ended, header.error) == (FlowState.RUNNING, 1, None, None)
    assert await scene.names_in(layout.flow_failed_path(FLOW)) == set()
    assert await scene.names_in(layout.flow_results_path(FLOW)) == {"0", "1", "1.0"}
    assert await zk.exists(layout.status_path(FLOW)) is None
    with pytest.raises(flows.NothingToRetry, match="is running, and no step has failed"):
        await retry_flow(zk, FLOW)
    await end_again(scene, ["1.1", "1.2"], 1)
    assert await retry_flow(zk, FLOW) == 2
    assert await running(scene) == {task_of(scene.step(each), 2): each for each in ("1.1", "1.2")}
    assert (await scene.header()).retries == 2


async def test_a_flow_that_runs_on_is_retried_for_what_failed(zk: Client) -> None:
    scene = FlowScene(zk, NAMES).begin().live("0").failed("1").failed("2", missing=("0", "1"))
    await scene.write()
    version = (await zk.get(layout.flow_path(FLOW)))[1].version
    assert await retry_flow(zk, FLOW, ["parse"]) == 1
    assert (await zk.get(layout.flow_path(FLOW)))[1].version > version  # an end that was decided before is refused
    assert await retry_flow(zk, FLOW, ["2"]) == 1
    assert await scene.names_in(layout.flow_failed_path(FLOW)) == set()
    optional = task_of(scene.step("2"), 1)
    assert (await zk.get(layout.flow_running_path(FLOW, optional)))[0] == b"2?"
    assert decode_call((await zk.get(layout.task_path(optional)))[0] or b"").missing == ("0", "1")


async def test_steps_are_chosen_by_id_by_name_and_by_their_each(zk: Client) -> None:
    scene = await ended(zk, failed=3)
    with pytest.raises(flows.NothingToRetry, match=r"is failed, and none of 0, merge has failed"):
        await retry_flow(zk, FLOW, ["0", "merge"])
    assert await retry_flow(zk, FLOW, ["1.2"]) == 1
    assert await scene.names_in(layout.flow_failed_path(FLOW)) == {"1.1", "1.3"}
    assert await retry_flow(zk, FLOW, ["1"]) == 2


async def test_a_flow_that_was_cancelled_goes_on_although_nothing_failed(zk: Client) -> None:
    scene = FlowScene(zk, NAMES, PARENTS).begin(FlowState.CANCELLED).done("0").waiting("0:1")
    await scene.write()
    await zk.create(layout.flow_cancel_path(FLOW))
    assert await retry_flow(zk, FLOW) == 0
    assert (await scene.header()).state is FlowState.RUNNING
    assert await zk.exists(layout.flow_cancel_path(FLOW)) is None
    assert await zk.exists(layout.flow_running_path(FLOW)) is not None


async def test_many_steps_are_retried_in_several_transactions_while_the_flow_ends_in_between(
    zk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "_MAX_STEPS", 10)
    scene = await ended(zk, failed=15)
    first = 0

    async def interrupted(client: Client, moves: Sequence[Move]) -> bool | None:
        nonlocal first
        monkeypatch.setattr(flows, "commit", commit)
        done = await commit(client, moves)
        steps = list((await running(scene)).values())
        first = len(steps)
        await end_again(scene, steps, 1)
        return done

    monkeypatch.setattr(flows, "commit", interrupted)
    assert await retry_flow(zk, FLOW) == 15
    live = await running(scene)
    failed = await scene.names_in(layout.flow_failed_path(FLOW))
    assert first == 10
    assert len(live) == 5
    assert len(failed) == first  # those that failed again are left alone
    assert not set(live.values()) & failed
    assert (await scene.header()).state is FlowState.RUNNING


@pytest.mark.parametrize("lose", ["request", "reply"])
async def test_a_retry_whose_request_or_reply_is_lost_is_made_once(zk: Client, namespace: str, lose: str) -> None:
    scene = await ended(zk)
    async with Proxy(namespace) as proxy:
        match = multi_with(layout.flow_failed_path(FLOW, "1.1"))
        lost = proxy.lose_request(match) if lose == "request" else proxy.lose_reply(match)
        async with Client(proxy.hosts, session_timeout=4.0, connect_timeout=15.0) as client:
            assert await retry_flow(client, FLOW) == 2
        assert lost.happened.is_set()
    assert len(await running(scene)) == 2
    assert (await scene.header()).retries == 1


async def test_a_retry_of_what_was_cancelled_is_made_once_although_its_reply_is_lost(
    zk: Client, namespace: str
) -> None:
    scene = FlowScene(zk, NAMES, PARENTS).begin(FlowState.CANCELLED).done("0").waiting("0:1")
    await scene.write()
    await zk.create(layout.flow_cancel_path(FLOW))
    async with Proxy(namespace) as proxy:
        lost = proxy.lose_reply(multi_with(layout.flow_cancel_path(FLOW)))
        async with Client(proxy.hosts, session_timeout=4.0, connect_timeout=15.0) as client:
            assert await retry_flow(client, FLOW) == 0
        assert lost.happened.is_set()
    assert (await scene.header()).retries == 1


async def test_each_transaction_of_a_retry_is_made_at_the_version_that_the_one_before_has_left(
    zk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "_MAX_STEPS", 1)
    monkeypatch.setattr(flows, "_MAX_TRIES", 1)
    await ended(zk, failed=3)
    assert await retry_flow(zk, FLOW) == 3


async def test_a_parent_that_is_done_by_now_is_not_missing_in_the_next_run(zk: Client) -> None:
    scene = FlowScene(zk, NAMES).begin().done("0").live("1").failed("2", missing=("0", "1"))
    await scene.write()
    assert await retry_flow(zk, FLOW) == 1
    task = task_of(scene.step("2"), 1)
    assert decode_call((await zk.get(layout.task_path(task)))[0] or b"").missing == ("1",)


async def test_items_that_are_not_done_are_missing_of_an_each_that_was_made_since(zk: Client) -> None:
    scene = FlowScene(zk, NAMES).begin().done("0")
    takes = msgspec.structs.replace(scene.step("2"), refs=(Reference(("args", 0), "0", each=True),))
    await scene.failed("2", missing=("0",), flow=takes).write()
    assert await retry_flow(zk, FLOW) == 1
    task = task_of(scene.step("2"), 1)
    assert decode_call((await zk.get(layout.task_path(task)))[0] or b"").missing == ("0.0",)


async def test_a_server_that_lags_behind_is_not_believed() -> None:
    header = FlowHeader(1, "report", 1, FlowState.DONE, 1)
    assert await cancel_flow(lagging({layout.flow_path(FLOW): encode_header(header)}), FLOW) is FlowState.DONE


async def test_each_step_is_retried_by_one_of_two_operators(
    zk: Client, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "_MAX_STEPS", 2)
    scene = await ended(zk, failed=6)
    async with Client(namespace, session_timeout=4.0, connect_timeout=15.0) as other:
        counts = await asyncio.gather(retry_flow(zk, FLOW), retry_flow(other, FLOW), return_exceptions=True)
    assert 6 in counts
    assert len(await running(scene)) == 6


async def test_a_request_to_cancel_stands_once_and_ended_flows_are_told(zk: Client) -> None:
    await FlowScene(zk, NAMES).begin().live("0").write()
    assert await cancel_flow(zk, FLOW) is None
    assert await cancel_flow(zk, FLOW) is None
    with pytest.raises(HerdError, match="is about to be cancelled: retry it when it has ended"):
        await retry_flow(zk, FLOW)
    assert await zk.exists(layout.flow_cancel_path(FLOW)) is not None
    assert await wait_for_end(zk, FLOW, 0.05) is None
    waiting = asyncio.ensure_future(wait_for_end(zk, FLOW, 10.0))
    task = FlowScene(zk, NAMES).task("0")
    await zk.delete(layout.flow_running_path(FLOW, task))
    header, stat = await zk.get(layout.flow_path(FLOW))
    over = (header or b"").replace(b'"running"', b'"cancelled"')
    assert await commit(zk, [flow_moves.end_flow(FLOW, stat.version, over, None)])
    assert await waiting is FlowState.CANCELLED
    assert await wait_for_end(zk, FLOW, 0.0) is FlowState.CANCELLED
    assert await cancel_flow(zk, FLOW) is FlowState.CANCELLED
    with pytest.raises(NoSuchFlow):
        await cancel_flow(zk, "flow-01kb5w3a00000000000000000z")


async def test_a_flow_that_is_being_built_is_neither_cancelled_nor_retried(zk: Client) -> None:
    await FlowScene(zk, NAMES).begin(FlowState.BUILDING).waiting("0").write()
    for operation in (cancel_flow, retry_flow):
        with pytest.raises(HerdError, match="still being built"):
            await operation(zk, FLOW)
    with pytest.raises(flows.FlowNotEnded, match="is still being built: give --force if"):
        await remove_flow(zk, FLOW)
    await remove_flow(zk, FLOW, force_within=1.0)
    assert await zk.children(layout.FLOWS) == ()


async def test_a_flow_is_removed_with_all_its_znodes(zk: Client) -> None:
    await ended(zk)
    await remove_flow(zk, FLOW)
    assert await zk.children(layout.FLOWS) == ()
    assert await zk.exists(layout.status_path(FLOW)) is None
    with pytest.raises(NoSuchFlow):
        await remove_flow(zk, FLOW)


async def test_a_removal_that_was_begun_is_finished_and_not_undone(zk: Client) -> None:
    await ended(zk, FlowState.REMOVED)
    with pytest.raises(HerdError, match="is being removed"):
        await retry_flow(zk, FLOW)
    await remove_flow(zk, FLOW)
    assert await zk.children(layout.FLOWS) == ()


async def test_a_flow_that_runs_is_removed_by_force_when_a_primary_has_ended_it(zk: Client) -> None:
    await FlowScene(zk, NAMES).begin().waiting("0").write()
    with pytest.raises(flows.FlowNotEnded):
        await remove_flow(zk, FLOW)
    with pytest.raises(HerdError, match="the request to cancel it stands"):
        await remove_flow(zk, FLOW, force_within=0.05)
    removing = asyncio.ensure_future(remove_flow(zk, FLOW, force_within=10.0))
    header, stat = await zk.get(layout.flow_path(FLOW))
    over = (header or b"").replace(b'"running"', b'"cancelled"')
    assert await commit(zk, [flow_moves.end_flow(FLOW, stat.version, over, None)])
    await removing
    assert await zk.children(layout.FLOWS) == ()


async def test_the_rights_of_a_client_suffice_in_a_closed_namespace(namespace: str) -> None:
    hosts = await close_namespace(namespace)
    try:
        async with session_of(hosts, Identity.MASTER) as master, session_of(hosts, Identity.CLIENT) as client:
            await use_policy(master)
            await use_policy(client)
            await make_folders(master)
            scene = FlowScene(client, NAMES).begin().live("0")
            await scene.write()
            assert await retry_after_failure(master, client, scene) == 1
            assert await cancel_flow(client, FLOW) is None
            header, stat = await master.get(layout.flow_path(FLOW))
            await master.delete(layout.flow_running_path(FLOW, task_of(scene.step("0"), 1)))
            over = (header or b"").replace(b'"running"', b'"cancelled"')
            assert await commit(master, [flow_moves.end_flow(FLOW, stat.version, over, FAILED)])
            await remove_flow(client, FLOW)
            assert (await scene.header()).state is FlowState.REMOVED  # the masters delete the rest
            await remove_flow(master, FLOW)
            assert await master.children(layout.FLOWS) == ()
    finally:
        await reopen_namespace(hosts, is_checked=True)


async def retry_after_failure(master: Client, client: Client, scene: FlowScene) -> int:
    """Let the primary fail a step that waits, and retry it as a client."""
    task, step = scene.task("0"), scene.step("0")
    data = scene.payload("0", error=ErrorInfo("E"))
    assert await commit(master, [flow_moves.fail_step_waiting(task, step, data)])
    return await retry_flow(client, FLOW)


async def test_a_header_that_cannot_be_read_is_removed_by_force_only(zk: Client) -> None:
    await zk.create(layout.flow_path(FLOW), b"{}")
    with pytest.raises(HerdError, match="herd flows remove --force"):
        await remove_flow(zk, FLOW)
    await remove_flow(zk, FLOW, force_within=1.0)
    assert await zk.children(layout.FLOWS) == ()
