"""Flows: written, submitted, run, and their results."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from herdmaster import (
    ConfigurationError,
    DuplicateTask,
    Flow,
    FlowFuture,
    FlowState,
    Herd,
    HerdClosed,
    InvalidName,
    NotSerializable,
    OutcomeGone,
    StepState,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
)
from herdmaster.api.internals import core_of
from herdmaster.operations import flows
from herdmaster.roles.client.flow_ends import EndOfFlow
from herdmaster.roles.shared.instruments import Instruments
from herdmaster.zookeeper.client import Client
from tests.api.conftest import run_roles
from tests.api.flow_tasks import FlowApp, Point, gates


@pytest.fixture(scope="module")
def running(shared_zookeeper: Any) -> Iterator[str]:
    herd = Herd("localhost:1")
    FlowApp(herd)
    hosts = f"{shared_zookeeper.hosts}/flows"
    with run_roles(hosts, core_of(herd).registry.functions):
        yield hosts


@pytest.fixture
def app(running: str, make_herd: Callable[..., Herd]) -> FlowApp:
    return FlowApp(make_herd(running))


pytestmark = pytest.mark.long


def states(run: FlowFuture[Any]) -> dict[str, str]:
    return {step.id: step.state.value for step in run.steps()}


def test_the_flow_of_the_guide_gives_its_result(app: FlowApp) -> None:
    with app.herd.flow("report", timeout=3600) as flow:
        pages = app.fetch.step("a")
        sizes = flow.each(app.measure, pages)
        total = app.merge.step(sizes, title="all")
        app.notify.step(total, on="failure")
        flow.returns(total)
    run = flow.submit()

    assert run.result(timeout=20) == "all: [3, 3, 3]"
    assert run.name.startswith("flow-")
    assert [(step.name, step.state) for step in run.steps()] == [
        ("fetch", "done"), ("measure", "done"), ("merge", "done"), ("notify", "skipped"),
    ]  # fmt: skip
    assert (run.info().state, run.info().done) == ("done", 6)
    assert "merge" in run.to_dot()
    assert (run._repr_svg_() or "").startswith("<svg")
    gone = app.herd.flow_run("flow-01h00000000000000000000000")
    assert gone._repr_svg_() is None, "a notebook shows its repr"


def test_a_chain_is_submitted_with_its_result(app: FlowApp) -> None:
    run = app.herd.flow("chain").submit(app.fetch.step("ab") | app.parse.step(strict=True) | app.store.step())
    assert run.result(timeout=20) == 15
    assert set(states(run).values()) == {"done"}


def test_a_flow_returns_what_it_was_told_however_nested(app: FlowApp) -> None:
    with app.herd.flow("nested") as flow:
        point = app.point.step(1)
        moved = app.shift.step(point, by=4)
        sizes = flow.each(app.measure, ["a", "bc"], "kB")
        again = flow.each(app.total, [[1], [2]])
        value = {"points": [point, (moved, 7)], "sizes": sizes, "again": again, "plain": None}
    run = flow.submit(value)

    expected = {"points": [Point(1), [Point(5), 7]], "sizes": [1000, 2000], "again": [1, 2], "plain": None}
    assert run.result(timeout=20) == expected


def test_an_each_over_an_each_and_over_nothing(app: FlowApp) -> None:
    with app.herd.flow("each") as flow:
        twice = flow.each(app.measure, app.fetch.step("a"))
        lists = flow.each(app.shift, flow.each(app.point, app.numbers.step(twice)), 10)
        none = flow.each(app.measure, app.fetch_none.step())
        total = app.total.step(none, extra=5)
    run = flow.submit([lists, none, total])
    assert run.result(timeout=20) == [[Point(13), Point(13), Point(13)], [], 5]


def test_an_each_in_chunks_gives_the_results_of_its_items(app: FlowApp) -> None:
    with app.herd.flow("chunks") as flow:
        sizes = flow.each(app.measure, app.fetch.step("a"), "kB", chunk_size=2)
        again = flow.each(app.point.using(chunk_size=1000), sizes)
        flow.returns([sizes, app.merge.step(sizes), again])
    run = flow.submit()
    assert run.result(30) == [[3000] * 3, "all: [3000, 3000, 3000]", [Point(3000)] * 3]
    made = {step.id: step.items for step in run.steps()}
    assert made["1"] == {StepState.DONE: 2}
    assert made["2"] == {StepState.DONE: 1}


def test_the_elements_of_lists_are_items(app: FlowApp) -> None:
    with app.herd.flow("flat") as flow:
        lists = flow.each(app.both, app.numbers.step([1, 2, 3]))
        points = flow.each(app.point, flow.flat(lists), chunk_size=4)
        with pytest.raises(NotSerializable):
            app.total.step(cast("list[int]", flow.flat(lists)))
        with pytest.raises(ConfigurationError, match="flat takes a step, or what `each` over a step returned"):
            flow.flat([[1]])
    assert flow.submit(points).result(30) == [Point(each) for each in (1, 1, 2, 2, 3, 3)]


def test_a_wide_join_reads_its_results_one_by_one_from_a_file(app: FlowApp) -> None:
    with app.herd.flow("wide") as flow:
        numbers = app.numbers.step(list(range(210)))
        sums = flow.each(app.total.using(chunk_size=2), flow.each(app.both, numbers))
        flow.returns([app.wide.step(sums), app.wide_async.step(sizes=sums), app.total.step(sums)])
    total = sum(range(210)) * 2
    assert flow.submit().result(30) == [["LazyResults", 210, 418, [4, 6], total], total, total]


def test_a_chunk_fails_with_the_error_of_its_first_item_that_failed(app: FlowApp) -> None:
    with app.herd.flow("chunks") as flow:
        names = app.names.step(["a", "b", "c", "bad", "worse", "bad"])
        sizes = flow.each(app.measure, names, chunk_size=3)
        app.check_missing.step(sizes, [1, 1, 1, None, None, None], optional=True)
    run = flow.submit()
    with pytest.raises(TaskFailed, match=r"1.1 \(measure\): ValueError: bad \(element 3: .bad.; 2 of the 3 items"):
        run.result(30)
    steps = run.steps()
    assert [step.state for step in steps] == [StepState.DONE, StepState.FAILED, StepState.DONE]
    assert [(step.items, step.chunked) for step in steps] == [
        (None, None),
        ({StepState.DONE: 1, StepState.FAILED: 1}, 6),
        (None, None),
    ]


def test_each_refuses_what_is_no_list_and_returns_an_empty_one(app: FlowApp) -> None:
    flow = app.herd.flow("each")
    with flow:
        app.fetch.step("a")
        wrongs: tuple[Any, ...] = (5, "text", b"text", {"a": 1})
        for wrong in wrongs:
            with pytest.raises(ConfigurationError, match="`each` takes a list, or a step that returns one"):
                flow.each(app.measure, wrong)
        with pytest.raises(ConfigurationError, match="let a step return this list"):
            flow.each(app.measure, ["a"], chunk_size=2)
        with pytest.raises(ConfigurationError, match="chunk_size=0: from 1 to 1000 items"):
            flow.each(app.measure, ["a"], chunk_size=0)
        with pytest.raises(ConfigurationError, match="chunk_size= is for `flow"):
            app.measure.using(chunk_size=2).step("a")
        flow.returns(flow.each(app.measure, []))
    assert flow.submit().result(30) == []


def test_a_flow_whose_step_fails_names_it_and_runs_what_waits_for_that(app: FlowApp) -> None:
    with app.herd.flow("failing") as flow:
        failed = app.fail.step("boom")
        blocked = app.total.step([failed])
        told = app.notify.using(on="failure", after=failed).step("it failed")
        anyway = app.merge.step([1, blocked], title="some", optional=True)
        flow.returns([told, anyway])
    run = flow.submit()

    with pytest.raises(TaskFailed, match="fail") as raised:
        run.result(timeout=20)
    assert f"herd flows retry {run.name}" in raised.value.__notes__[0]
    assert states(run) == {"0": "failed", "1": "blocked", "2": "done", "3": "done"}
    assert run.info().error is not None


def test_a_future_keeps_its_failure_after_a_retry_and_a_new_one_has_the_result(app: FlowApp, running: str) -> None:
    run = app.herd.flow("mended").submit(app.wait.step("mended"))
    with pytest.raises(TaskFailed, match="KeyError"):
        run.result(timeout=20)

    gates["mended"] = threading.Event()
    assert asyncio.run(retry(running, run.name)) == 1
    again = app.herd.flow_run(run.name)
    with pytest.raises(TaskFailed, match="KeyError"):
        run.result(timeout=20)
    assert not again.done()
    assert run.info().state is FlowState.RUNNING
    gates["mended"].set()
    assert again.result(timeout=20) == "mended"
    assert (run.info().state, type(run.exception(0))) == (FlowState.DONE, TaskFailed)


async def retry(hosts: str, flow: str) -> int:
    async with Client(hosts, session_timeout=4.0) as client:
        return await flows.retry_flow(client, flow)


def test_what_starts_after_failures_only_is_none_where_nothing_failed(app: FlowApp) -> None:
    with app.herd.flow("fine") as flow:
        total = app.total.step([1])
        told = app.notify.using(on="failure", after=total).step("x")
        flow.returns({"total": total, "told": told})
    assert flow.submit().result(timeout=20) == {"total": 1, "told": None}


def test_a_flow_may_be_submitted_several_times(app: FlowApp) -> None:
    with app.herd.flow("again") as flow:
        flow.returns(app.total.step([1, 2]))
    runs = [flow.submit() for _ in range(3)]
    assert len({run.name for run in runs}) == 3
    assert [run.result(timeout=20) for run in runs] == [3, 3, 3]


def test_running_steps_add_steps_and_the_flow_ends_with_them(app: FlowApp) -> None:
    run = app.herd.flow("growing").submit(app.grow.step(3))
    assert run.result(timeout=20) == 3
    found = states(run)
    assert set(found.values()) == {"done"}
    assert len(found) == 8
    assert {"0+3", "0+6"} <= set(found)


def test_a_task_outside_of_any_flow_is_told_what_to_write(app: FlowApp) -> None:
    with pytest.raises(TaskFailed, match=r"is no step of a flow.*with herd\.flow"):
        app.grow.submit(3).result(timeout=20)


def test_a_flow_is_attached_to_by_its_name_while_it_runs_and_long_after(
    app: FlowApp, make_herd: Callable[..., Herd], running: str
) -> None:
    gate = gates["attach"] = threading.Event()
    run = app.herd.flow("attach").submit([app.wait.step("attach"), app.point.step(2)])
    other = make_herd(running)
    waiting = other.flow_run(run.name)
    assert waiting.info().state == "running"
    gate.set()
    assert run.result(timeout=20) == ["attach", Point(2)]
    assert waiting.result(timeout=20) == ["attach", {"x": 2}]  # without the function's hints it is plain JSON
    third = make_herd(running)
    assert third.future(run.name).result(timeout=20) == ["attach", {"x": 2}]  # its outcome was collected
    with pytest.raises(InvalidName, match="flow_run"):
        third.find(run.name)


def test_a_name_that_no_flow_has_is_gone(app: FlowApp) -> None:
    run = app.herd.flow_run("flow-01h00000000000000000000000")
    with pytest.raises(OutcomeGone, match="no such flow"):
        run.result(timeout=20)
    with pytest.raises(OutcomeGone, match="there is no flow"):
        run.steps()
    with pytest.raises(InvalidName, match="no flow's name"):
        _ = app.herd.flow_run("task-1")


def test_a_flow_that_is_cancelled_ends_as_cancelled(app: FlowApp) -> None:
    gate = gates["cancel"] = threading.Event()
    run = app.herd.flow("cancel").submit(
        app.merge.step([app.total.step([1, app.measure.step(app.wait.step("cancel"))])])
    )
    until_running(run, "0")
    assert run.cancel(timeout=20)
    gate.set()
    assert run.cancelled()
    with pytest.raises(TaskCancelled):
        run.result(timeout=5)
    assert run.info().state == "cancelled"


def test_a_flow_that_takes_too_long_expires(app: FlowApp) -> None:
    gate = gates["slow"] = threading.Event()
    run = app.herd.flow("slow", timeout=0.5).submit(app.wait.step("slow"))
    with pytest.raises(TaskExpired, match=r"^flow-\w+ did not end in the time that it had"):
        run.result(timeout=20)
    gate.set()


def test_a_flow_with_a_key_is_one_flow(app: FlowApp) -> None:
    gate = gates["key"] = threading.Event()

    def flow(**options: Any) -> Flow:
        with app.herd.flow("keyed", key="k", **options) as flow:
            flow.returns(app.wait.step("key"))
        return flow

    first, second = flow().submit(), flow().submit()
    assert first.name == second.name
    with pytest.raises(DuplicateTask, match=first.name):
        _ = flow(on_duplicate="error").submit()
    gate.set()
    assert first.result(timeout=20) == second.result(timeout=20) == "key"
    assert flow().submit().result(timeout=20) == "key"  # that has ended, and is still there


def test_a_large_flow_is_accepted_and_done(app: FlowApp) -> None:
    with app.herd.flow("large") as flow:
        flow.returns(app.total.step(flow.each(app.total, [[number] for number in range(400)])))
    assert flow.submit().result(timeout=40) == sum(range(400))


async def test_flows_in_an_event_loop(app: FlowApp) -> None:
    with app.herd.flow("async") as flow:
        total = app.total.step([1, 2])
        flow.returns(app.notify.step(app.merge.step([total])))
    with pytest.raises(RuntimeError, match=r"await flow\.submit_async"):
        _ = flow.submit()
    run = await flow.submit_async()
    assert await run == "all: [3]"
    with pytest.raises(RuntimeError, match=r"await run\.steps_async"):
        run.steps()
    assert len(await run.steps_async()) == 3
    assert (await run.info_async()).state == "done"
    assert (await run.to_dot_async()).startswith("digraph")
    assert not await run.cancel_async()


def test_callbacks_are_called_with_the_result_of_the_flow(app: FlowApp) -> None:
    done = threading.Event()
    run = app.herd.flow("callback").submit(app.total.step([4]))
    run.add_done_callback(lambda _run: done.set())
    assert done.wait(20)
    assert run.result(0) == 4


def test_a_herd_that_is_closed_while_a_result_is_read_says_so(app: FlowApp, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    async def hang(*_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(EndOfFlow, "conclude", hang)
    run = app.herd.flow("closed").submit(app.total.step([4]))
    assert asked.wait(20)
    app.herd.close()
    with pytest.raises(HerdClosed, match="before the outcome came"):
        run.result(timeout=20)


def test_each_step_of_a_flow_is_counted_as_a_submission(app: FlowApp) -> None:
    counted: list[tuple[str, str]] = []

    class Counting(Instruments):
        @property
        def count_submissions(self) -> Callable[[str, str], None]:
            return lambda queue, result: counted.append((queue, result))

    core_of(app.herd).measure(Counting())
    with app.herd.flow("counted", key="counted", on_duplicate="error") as flow:
        app.merge.step([app.total.options(queue="mail").step([1])])
    assert flow.submit().result(timeout=20) is None
    with pytest.raises(DuplicateTask):
        _ = flow.submit()
    assert counted == [("mail", "accepted"), ("default", "accepted"), ("mail", "duplicate"), ("default", "duplicate")]


def test_an_error_in_the_block_submits_nothing(app: FlowApp) -> None:
    flow = app.herd.flow("broken")
    with pytest.raises(ZeroDivisionError), flow:
        app.total.step([1 // 0])
    with pytest.raises(ConfigurationError, match="its block ended with ZeroDivisionError"):
        _ = flow.submit()


def test_steps_of_different_flows_do_not_mix(app: FlowApp) -> None:
    with app.herd.flow("one"):
        one: Any = app.total.step([1])
    with app.herd.flow("two") as two:
        with pytest.raises(ConfigurationError, match="'one', and cannot be used in the flow 'two'"):
            app.total.step([one])
        with pytest.raises(ConfigurationError, match="belongs to the flow 'one'"):
            two.returns(one)
        with pytest.raises(ConfigurationError, match="belongs to the flow 'one'"):
            app.total.step([2], after=one)
        with pytest.raises(ConfigurationError, match="belongs to the flow 'one'"):
            two.each(app.measure, one)
        with pytest.raises(ConfigurationError, match="takes a step, or a list"):
            two.returns({"a": 1})


def test_a_step_that_lacks_its_argument_at_the_end_of_the_block_is_named(app: FlowApp) -> None:
    with (
        pytest.raises(ConfigurationError, match="<Step 0 parse> lacks its first argument"),
        app.herd.flow("lacking"),
    ):
        app.parse.step()


def test_the_picture_of_a_flow_that_was_not_submitted(app: FlowApp) -> None:
    with app.herd.flow("picture") as flow:
        total = app.total.step([1])
        app.merge.step([1], on="failure", after=total)
    assert "on failure" in flow.to_dot()
    assert flow._repr_svg_().startswith("<svg")
    assert repr(flow) == "<Flow picture: 2 steps>"


def until_running(run: FlowFuture[Any], step: str) -> None:
    for _ in range(400):
        if states(run).get(step) in ("running", "assigned"):
            return
        time.sleep(0.05)
    raise AssertionError("the step did not begin")


async def test_submissions_with_one_key_at_once_are_one_flow(app: FlowApp) -> None:
    flows = []
    for _ in range(4):
        with app.herd.flow("at once", key="k") as flow:
            flow.returns(app.total.step([1, 2]))
        flows.append(flow)
    runs = await asyncio.gather(*(flow.submit_async() for flow in flows))
    assert len({run.name for run in runs}) == 1
    assert [await run for run in runs] == [3, 3, 3, 3]
