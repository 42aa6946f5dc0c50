"""Flows that are listed and shown, from a namespace that has them in every state."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.flows import FlowState, encode_header
from herdmaster.core.progress import TaskProgress, encode_progress
from herdmaster.errors import HerdError
from herdmaster.inspection.flow_seen import StepInfo, StepState
from herdmaster.inspection.flows import FlowFilter, FlowInfo, NoSuchFlow, find_flow, find_info, list_flows, resolve_flow
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.roles.shared.flow_removal import remove_flow
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import CreateMode
from tests.flow_scene import CREATED, FLOW, WORKER, FlowScene

pytestmark = pytest.mark.long

OTHER = "flow-01kb5w3a00000000000000000b"
NAMES = {"0": "fetch", "1": "parse", "2": "merge", "3": "store", "4": "notify", "5": "log"}
PARENTS = {"1": ["0"], "2": ["1"], "3": ["2"], "4": ["3"], "5": ["0", "2"]}


@pytest.fixture
async def zk(namespace: str) -> AsyncIterator[Client]:
    async with Client(namespace, session_timeout=4.0, connect_timeout=15.0) as client:
        await make_folders(client)
        yield client


async def shown(zk: Client, flow: str = FLOW) -> dict[str, StepInfo]:
    details = await find_flow(zk, flow)
    assert details is not None
    return {step.id: step for step in details.steps}


async def test_a_running_flow_is_shown_with_the_state_of_each_step(zk: Client) -> None:
    scene = FlowScene(zk, NAMES, PARENTS).begin().done("0")
    scene.live("1", layout.assignment_path(WORKER, scene.task("1")), attempt=2)
    scene.waiting("2", ["1"]).waiting("2:3").waiting("4!", ["3"]).waiting("5?", ["2"])
    await zk.create(layout.inbox_path(WORKER))
    await zk.create(layout.worker_path(WORKER), mode=CreateMode.EPHEMERAL)
    await scene.write()
    began = CREATED + 3000
    progress = [TaskProgress(scene.task("1"), began, "shop:f")]
    await zk.create(layout.progress_path(WORKER), encode_progress(progress))

    steps = await shown(zk)
    assert steps["0"] == StepInfo("0", "fetch", StepState.DONE, worker=WORKER, began=CREATED, ended=CREATED + 2000)
    assert steps["1"] == StepInfo(
        "1", "parse", StepState.RUNNING, ("0",), task=scene.task("1"), worker=WORKER, attempt=2, began=began
    )
    assert steps["2"] == StepInfo("2", "merge", StepState.WAITING, ("1",), ("1",))
    assert steps["3"] == StepInfo("3", "store", StepState.WAITING, ("2",), ("2",))
    assert steps["4"] == StepInfo("4", "notify", StepState.WAITING, ("3",), ("3",), "failure")
    assert steps["5"] == StepInfo("5", "log", StepState.WAITING, ("0", "2"), ("2",), "optional")
    assert await list_flows(zk) == [FlowInfo(FLOW, "report", FlowState.RUNNING, CREATED, done=1, running=1, waiting=4)]


async def test_steps_whose_tasks_no_worker_has_are_pending_and_not_running(zk: Client) -> None:
    scene = FlowScene(zk, NAMES).begin().live("0").live("2", layout.delayed_path(CREATED, "task-x"))
    await zk.create(layout.inbox_path(WORKER))
    await scene.live("1", layout.assignment_path(WORKER, scene.task("1"))).write()
    details = await find_flow(zk, FLOW)
    assert details is not None
    for info in (details.info, await find_info(zk, FLOW), *await list_flows(zk)):
        assert info is not None
        assert (info.running, info.pending) == (1, 2)


async def test_ended_steps_keep_the_mark_that_says_when_they_start(zk: Client) -> None:
    scene = FlowScene(zk, NAMES, PARENTS, marks={"2": "!", "3": "?", "4": "?"}).begin().done("0", "2", "3")
    await scene.failed("4").write()
    steps = await shown(zk)
    assert [steps[each].when for each in "0234"] == ["", "failure", "optional", "optional"]


async def test_what_a_failure_blocks_is_told_from_what_waits(zk: Client) -> None:
    scene = FlowScene(zk, NAMES, PARENTS).begin().done("0").failed("1", "OSError", "no route")
    scene.waiting("2", ["1"]).waiting("2:3").waiting("4!", ["3"]).waiting("5?", ["2"])
    await scene.write()
    steps = await shown(zk)
    assert {each: step.state.value for each, step in steps.items()} == {
        "0": "done", "1": "failed", "2": "blocked", "3": "blocked", "4": "waiting", "5": "waiting",
    }  # fmt: skip
    error = steps["1"].error
    assert error is not None
    assert (error.type, error.message, steps["1"].parents) == ("OSError", "no route", ("0",))
    (info,) = await list_flows(zk)
    assert (info.done, info.failed, info.waiting, info.blocked) == (1, 1, 2, 2)
    assert await find_info(zk, FLOW) == info


async def test_steps_that_a_flow_ended_without_are_skipped(zk: Client) -> None:
    scene = FlowScene(zk, NAMES, PARENTS).begin(FlowState.DONE, ended=CREATED + 9000).done("0", "1", "2", "3", "5")
    await scene.waiting("4!").write()
    assert (await shown(zk))["4"].state is StepState.SKIPPED
    (info,) = await list_flows(zk)
    assert (info.state, info.waiting, info.blocked, info.ended) == (FlowState.DONE, 0, 0, CREATED + 9000)
    assert await find_info(zk, FLOW) == info
    assert await find_info(zk, OTHER) is None


async def test_cancelled_and_expired_steps_and_delayed_ones_have_words_of_their_own(zk: Client) -> None:
    due = CREATED + 60_000
    scene = FlowScene(zk, NAMES).begin().failed("0", "TaskCancelled", "").failed("1", "TaskExpired", "")
    scene.live("2", layout.delayed_path(due, scene.task("2"))).live("3")
    await scene.write()
    steps = await shown(zk)
    assert [steps[each].state.value for each in "0123"] == ["cancelled", "expired", "delayed", "pending"]
    assert steps["2"].due == due


async def test_items_are_counted_in_the_step_that_made_them(zk: Client) -> None:
    scene = FlowScene(zk, NAMES, PARENTS).begin().done("0", "1", "1.0", "1.1").live("1.2")
    for item in range(3, 20):
        scene.failed(f"1.{item}", message=f"file {item}")
    await scene.waiting("2", [f"1.{item}" for item in range(2, 20)]).write()
    steps = await shown(zk)
    assert list(steps) == ["0", "1", "2"]
    parse = steps["1"]
    assert (parse.name, parse.state) == ("parse", StepState.PENDING)
    assert parse.items == {StepState.DONE: 2, StepState.PENDING: 1, StepState.FAILED: 17}
    assert list(parse.errors)[:2] == ["1.3", "1.4"]
    assert len(parse.errors) == 10
    assert (steps["2"].state, steps["2"].waits_for) == (StepState.BLOCKED, ("1",))


async def test_items_that_are_not_all_read_all_count_as_failed(zk: Client) -> None:
    scene = FlowScene(zk, NAMES, PARENTS).begin().done("0", "1")
    for item in range(12):
        scene.failed(f"1.{item}", "TaskCancelled", "")
    await scene.write()
    assert (await shown(zk))["1"].items == {StepState.FAILED: 12}


async def test_steps_that_items_add_are_one_group(zk: Client) -> None:
    scene = FlowScene(zk, NAMES, PARENTS).begin().done("1", "1.0", "1.1", "1.0+0").live("1.1+0")
    await scene.write()
    added = (await shown(zk))["1.*+0"]
    assert (added.name, added.items) == ("parse", {StepState.PENDING: 1, StepState.DONE: 1})


async def test_a_step_that_was_added_stands_below_the_one_that_added_it(zk: Client) -> None:
    names = {"0": "walk", "0+0": "walk", "0+1": "walk", "0+0+0": "walk"}
    await (
        FlowScene(zk, names, {"0+1": ["0+0"]})
        .begin()
        .done("0", "0+0")
        .live("0+1")
        .failed("0+0+0")
        .done("0.7+0")
        .write()
    )
    steps = await shown(zk)
    assert {each: step.parents for each, step in steps.items()} == {
        "0": (), "0.*+0": ("0",), "0+0": ("0",), "0+1": ("0+0",), "0+0+0": ("0+0",),
    }  # fmt: skip


async def test_flows_are_chosen_by_state_and_name_and_found_by_a_part_of_their_name(zk: Client) -> None:
    await FlowScene(zk, NAMES).begin(FlowState.FAILED).failed("0").waiting("1", ["0"]).write()
    await FlowScene(zk, NAMES, flow=OTHER).begin(FlowState.BUILDING, name="etl", created=CREATED - 1).write()
    await zk.create(layout.flow_path("foreign"), b"")
    assert [info.id for info in await list_flows(zk)] == [OTHER, FLOW]
    assert [info.id for info in await list_flows(zk, limit=1)] == [OTHER]
    (failed,) = await list_flows(zk, FlowFilter(frozenset({FlowState.FAILED})))
    assert (failed.id, failed.failed, failed.blocked, failed.waiting) == (FLOW, 1, 1, 0)
    assert [info.id for info in await list_flows(zk, FlowFilter(name="etl"))] == [OTHER]
    assert await resolve_flow(zk, FLOW.removeprefix("flow-")) == FLOW
    assert await resolve_flow(zk, OTHER) == OTHER
    with pytest.raises(HerdError, match="2 flows begin with 'flow-01kb5'"):
        await resolve_flow(zk, "flow-01kb5")
    for text in ("", "flow-", "zz"):
        with pytest.raises(NoSuchFlow):
            await resolve_flow(zk, text)
    with pytest.raises(NoSuchFlow, match=f"a flow is called 'etl': give the name {OTHER}"):
        await resolve_flow(zk, "etl")
    assert await find_flow(zk, "flow-01kb5w3a00000000000000000z") is None


async def test_a_header_that_cannot_be_read_is_told(zk: Client) -> None:
    await zk.create(layout.flow_path(FLOW), b"{}")
    (info,) = await list_flows(zk)
    assert info.problem is not None
    assert "cannot be read" in info.problem
    details = await find_flow(zk, FLOW)
    assert details is not None
    assert details.info.problem == info.problem


async def test_a_flow_of_ten_thousand_items_is_shown_with_few_requests(zk: Client, namespace: str) -> None:
    scene = FlowScene(zk, NAMES, PARENTS).begin().done("0", "1")
    scene.done(*(f"1.{item}" for item in range(7_900)))
    for item in range(7_900, 8_000):
        scene.failed(f"1.{item}")
    for item in range(8_000, 10_000):
        scene.live(f"1.{item}")
    await scene.waiting("2", [f"1.{item}" for item in range(7_900, 10_000)]).write()
    sent: list[str] = []
    began = time.process_time()
    async with Client(namespace, measure=lambda operation, _seconds: sent.append(operation)) as client:
        steps = await shown(client)
    assert time.process_time() - began < 5.0
    assert steps["1"].items == {StepState.DONE: 7_900, StepState.FAILED: 100, StepState.PENDING: 2_000}
    assert len(sent) < 30
    ended = msgspec.structs.replace(await scene.header(), state=FlowState.FAILED)
    await zk.set(layout.flow_path(FLOW), encode_header(ended))
    assert await remove_flow(zk, FLOW)
    tasks = await zk.children(layout.TASKS)
    for start in range(0, len(tasks), 500):
        transaction = zk.transaction()
        for task in tasks[start : start + 500]:
            transaction.delete(layout.task_path(task))
        await transaction.commit()
