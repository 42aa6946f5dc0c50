"""How steps of a flow end on a worker alone with its inbox, and the steps that they add."""

from __future__ import annotations

import logging
from functools import partial

import pytest

from herdmaster.core import layout
from herdmaster.core.added_steps import AddedStep
from herdmaster.core.flows import Reference
from herdmaster.core.options import RunOptions
from herdmaster.core.payload import decode_call
from herdmaster.running.added_steps import added_now
from herdmaster.running.registration import Registration
from tests.roles.stage import Stage, StagedWorker, until
from tests.roles.worker.flow_scene import FlowScene


def take(value: object) -> object:
    return value


pytestmark = pytest.mark.long


@pytest.fixture
async def scene(stage: Stage) -> FlowScene:
    return await FlowScene(stage).make()


@pytest.fixture
async def worker(stage: Stage) -> StagedWorker:
    return await stage.worker({"m:take": take})


def ref(step: str) -> Reference:
    return Reference(("args", 0), step)


async def test_a_step_that_fails_leaves_its_payload_with_the_error_and_its_edges(
    stage: Stage, scene: FlowScene, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("no")

    worker = await stage.worker({"m:fail": Registration(fail, RunOptions(max_attempts=2, backoff=0.0))})
    await stage.play_primary(b"1a2b3c4d")  # of the reference: it is retried in place
    await scene.put_join("1", "0")
    name = await scene.assign(worker.name, "0", scene.payload("0", "m:fail", joins=("1",)))
    error = await scene.error("0")

    assert (error.type, error.message) == ("ValueError", "no")
    call = decode_call(await stage.data(scene.path("failed", "0")))
    assert (call.attempt, call.flow is not None and call.flow.step) == (2, "0")
    assert await scene.names("running") == []
    assert await scene.names("steps", "1") == ["0"]
    assert await stage.names("/dead") == await stage.names("/status") == []
    (line,) = [line for line in caplog.messages if "attempt 2 of 2" in line]
    assert f"{name} m:fail (step 0 of {scene.flow}) failed" in line
    assert f"herd flows retry {scene.flow}" in line


async def test_a_step_that_is_retried_in_place_keeps_its_inputs(stage: Stage, scene: FlowScene) -> None:
    values: list[object] = []

    def fail_once(value: object) -> None:
        values.append(value)
        if len(values) == 1:
            raise ValueError

    worker = await stage.worker({"m:f": Registration(fail_once, RunOptions(max_attempts=2, backoff=0.0))})
    await stage.play_primary(b"1a2b3c4d")
    await scene.put_result("0", 7)
    await scene.assign(worker.name, "1", scene.payload("1", "m:f", None, refs=(ref("0"),)))
    assert await scene.result("1") is None
    assert values == [7, 7]


async def test_an_edge_that_is_gone_is_left_out(scene: FlowScene, worker: StagedWorker) -> None:
    await scene.put_join("2", "0")
    payload = scene.payload("0", "m:take", 1, joins=("1?", "2", "3?"))
    await scene.assign(worker.name, "0", payload)
    assert await scene.result("0") == 1
    assert await scene.names("steps", "2") == []


async def test_a_step_that_expires_fails(scene: FlowScene, worker: StagedWorker) -> None:
    await scene.assign(worker.name, "0", scene.payload("0", "m:take", 1, expires=1))
    assert (await scene.error("0")).type == "TaskExpired"


async def test_a_step_of_an_unknown_function_fails_after_enough_workers_were_asked(
    scene: FlowScene, worker: StagedWorker
) -> None:
    asked = tuple(f"worker-{number}" for number in range(20))
    await scene.assign(worker.name, "0", scene.payload("0", "m:unknown", asked=asked))
    assert (await scene.error("0")).type == "UnknownCall"


# --- added steps -----------------------------------------------------------------------------------------------------


def add_two_steps(scene: FlowScene) -> None:
    added = added_now.get()
    first, second = added.new_id(), added.new_id()
    added.add(AddedStep(first, scene.task(first), scene.payload(first, "m:take", 1)))
    payload = scene.payload(second, "m:take", None, refs=(ref(first),))
    added.add(AddedStep(second, scene.task(second), payload, (first,)))


async def test_the_steps_that_the_code_adds_are_created_with_its_result(stage: Stage, scene: FlowScene) -> None:
    worker = await stage.worker({"m:f": partial(add_two_steps, scene)})
    await scene.assign(worker.name, "3", scene.payload("3", "m:f"))
    assert await scene.result("3") is None
    assert await scene.names("running") == [scene.task("3+0")]
    assert await stage.names("/tasks") == [scene.task("3+0")]
    assert await scene.names("steps") == ["3+0:3+1"]
    assert await stage.data(scene.path("running", scene.task("3+0"))) == b"3+0"


@pytest.mark.parametrize("moved_on", [(), ("tasks",), ("tasks", "running"), ("tasks", "running", "steps")])
async def test_a_copy_of_a_step_that_has_added_steps_is_dropped_however_far_these_are(
    moved_on: tuple[str, ...], stage: Stage, scene: FlowScene
) -> None:
    worker = await stage.worker({"m:f": partial(add_two_steps, scene)})
    payload, first = scene.payload("3", "m:f"), scene.task("3+0")
    name = await scene.assign(worker.name, "3", payload)
    await scene.result("3")
    places = {"tasks": layout.task_path(first), "running": scene.path("running", first)}
    for place in moved_on:
        await stage.zk.delete(places.get(place, scene.path("steps", "3+0:3+1")))

    inbox = layout.inbox_path(worker.name)
    await until(lambda: is_empty(stage, inbox), "the end of the first run")
    await stage.put(layout.assignment_path(worker.name, name), data=payload)
    await until(lambda: is_empty(stage, inbox), "the copy to be dropped")
    assert await scene.names("results") == ["3"]


async def is_empty(stage: Stage, folder: str) -> bool:
    return not await stage.names(folder)


async def test_added_steps_that_do_not_fit_one_transaction_fail_the_step(stage: Stage, scene: FlowScene) -> None:
    def add_steps() -> str:
        added = added_now.get()
        for _ in range(3):
            step = added.new_id()
            added.add(AddedStep(step, scene.task(step), scene.payload(step, "m:take", "x" * 120_000)))
        return "x" * 480_000

    worker = await stage.worker({"m:f": add_steps})
    joins = tuple(f"{number}" for number in range(4, 1500))
    await scene.assign(worker.name, "3", scene.payload("3", "m:f", joins=joins))
    error = await scene.error("3")
    assert error.type == "ConfigurationError"
    assert "the 3 steps that it adds" in error.message
    assert await stage.names("/tasks") == []


async def test_lines_and_records_of_steps_name_flow_and_step(
    scene: FlowScene, worker: StagedWorker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "herdmaster")
    name = await scene.assign(worker.name, "0", scene.payload("0", "m:take", 1))
    await scene.result("0")
    of = f"{name} m:take (step 0 of {scene.flow})"
    await until(lambda: any(line.startswith(f"{of} done in") for line in caplog.messages), "the line of the end")
    assert f"{of} starts, attempt 1" in caplog.messages
