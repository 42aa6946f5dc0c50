"""Steps of a flow on a worker alone with its inbox: the test plays client and primary."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest

from herdmaster.core import layout
from herdmaster.core.flows import Reference
from herdmaster.core.options import PoolKind
from herdmaster.core.signing import Keyring, SignedOnly
from herdmaster.roles.worker import references
from herdmaster.roles.worker.held import State
from herdmaster.roles.worker.worker import WorkerSettings
from herdmaster.running import spool
from herdmaster.running.hooks import Hooks
from herdmaster.running.registration import Function
from herdmaster.zookeeper.client import Client
from tests.roles import app
from tests.roles.stage import TIMEOUT, Ran, Stage, StagedWorker, until
from tests.roles.worker.flow_scene import FlowScene


def add(*numbers: Decimal) -> str:
    return str(sum(numbers))


def add_all(numbers: list[int]) -> int:
    return sum(numbers)


def measure_all(values: Iterable[str]) -> list[int]:
    return [len(value) for value in values]


def take(value: object) -> object:
    return value


FUNCTIONS: dict[str, Function] = {
    "m:add": add,
    "m:add_all": add_all,
    "m:measure_all": measure_all,
    "m:take": take,
    "m:item": take,
}

pytestmark = pytest.mark.long


@pytest.fixture
async def scene(stage: Stage) -> FlowScene:
    return await FlowScene(stage).make()


@pytest.fixture
async def worker(stage: Stage) -> StagedWorker:
    return await stage.worker(FUNCTIONS)


def ref(step: str, *at: str | int, each: bool = False) -> Reference:
    return Reference(at or ("args", 0), step, each)


async def until_left(stage: Stage, worker: StagedWorker) -> None:
    """Wait until the inbox is empty, and the worker knows it."""

    async def is_left() -> bool:
        return await stage.names(layout.inbox_path(worker.name)) == []

    await until(is_left, "an empty inbox")


# --- inputs ----------------------------------------------------------------------------------------------------------


async def test_a_step_gets_the_results_of_its_parents_and_leaves_one_result(
    stage: Stage, scene: FlowScene, worker: StagedWorker
) -> None:
    await scene.put_result("0", "1.5")
    await scene.put_result("1", "2")
    await scene.put_join("3", "2", "1")
    payload = scene.payload("2", "m:add", None, None, refs=(ref("0"), ref("1", "args", 1)), joins=("3",))
    await scene.assign(worker.name, "2", payload)

    assert await scene.result("2") == "3.5"
    assert await scene.names("running") == []
    assert await scene.names("steps", "3") == ["1"], "its edge is gone, and the other one stays"
    assert await stage.names("/status") == []
    await until_left(stage, worker)


async def test_a_step_without_references_starts_at_once(scene: FlowScene, worker: StagedWorker) -> None:
    await scene.assign(worker.name, "0", scene.payload("0", "m:take", 5))
    assert await scene.result("0") == 5


async def test_a_join_gets_the_results_of_all_items(
    scene: FlowScene, worker: StagedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "_SLICE", 3)
    await scene.put_result("1", 10)
    for index in range(10):
        await scene.put_result(f"1.{index}", index)
    await scene.assign(worker.name, "2", scene.payload("2", "m:add_all", None, refs=(ref("1", each=True),)))
    assert await scene.result("2") == 45


async def test_missing_parents_are_none(scene: FlowScene, worker: StagedWorker) -> None:
    await scene.put_result("1", 3)
    await scene.put_result("1.0", 1)
    await scene.put_result("1.2", 2)
    refs = (ref("1", "args", 0, "a", each=True), ref("8", "args", 0, "b"))
    payload = scene.payload("2", "m:take", {"a": None, "b": 0}, refs=refs, missing=("1.1", "8"))
    await scene.assign(worker.name, "2", payload)
    assert await scene.result("2") == {"a": [1, None, 2], "b": None}


async def test_hooks_know_flow_and_step(stage: Stage, scene: FlowScene) -> None:
    seen: list[tuple[str, str | None, str | None]] = []

    def fail() -> None:
        raise ValueError

    hooks = Hooks(
        on_error=lambda task, _error: seen.append(("error", task.flow, task.step)),
        on_final_failure=lambda task, _error: seen.append(("final", task.flow, task.step)),
    )
    worker = await stage.worker({"m:fail": fail}, hooks=hooks)
    await scene.assign(worker.name, "0", scene.payload("0", "m:fail"))
    await scene.error("0")
    await until(lambda: len(seen) == 2, "both hooks")
    assert sorted(seen) == [("error", scene.flow, "0"), ("final", scene.flow, "0")]


async def test_the_step_holds_no_slot_while_it_reads(stage: Stage, scene: FlowScene) -> None:
    """The results of the first step are not there before the second one, in the only slot, has ended."""
    worker = await stage.worker(FUNCTIONS, slots=1)
    session = worker._session
    assert session is not None
    session._steps._references.send = lambda: None  # type: ignore[method-assign] # as a server that does not answer
    await scene.put_result("0", 1)
    name = await scene.assign(worker.name, "1", scene.payload("1", "m:take", None, refs=(ref("0"),)))
    await scene.assign(worker.name, "2", scene.payload("2", "m:take", 2))
    assert await scene.result("2") == 2
    held = session._tasks.get(name)
    assert held is not None
    assert held.state is State.READING

    del session._steps._references.send  # the method of the class again
    session.turn()
    assert await scene.result("1") == 1


async def test_results_are_read_again_after_a_lost_connection(
    stage: Stage, scene: FlowScene, worker: StagedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.put_result("0", 1)
    payload = scene.payload("1", "m:take", None, refs=(ref("0"),))
    session = worker._session
    assert session is not None
    reader = session._steps._references._reader
    read, lost = reader.read, threading.Event()

    def lose(*args: Any) -> None:
        """The connection breaks when the request has left."""
        read(*args)
        if not lost.is_set():
            lost.set()
            stage.break_connections()

    monkeypatch.setattr(reader, "read", lose)
    await scene.assign(worker.name, "1", payload)
    assert await scene.result("1") == 1
    assert lost.is_set()


async def test_a_worker_that_dies_while_it_reads_leaves_the_step_to_others(stage: Stage, scene: FlowScene) -> None:
    worker = await stage.worker(FUNCTIONS)
    session = worker._session
    assert session is not None
    session._steps._references.send = lambda: None  # type: ignore[method-assign] # as a server that does not answer
    await scene.put_result("0", 1)
    name = await scene.assign(worker.name, "1", scene.payload("1", "m:take", None, refs=(ref("0"),)))
    await until(lambda: session._tasks.get(name) is not None, "the step to arrive")
    await stage.expire(worker)
    await stage.until_registered(worker, unlike=session._worker)

    data = await stage.data(layout.assignment_path(session._worker, name))
    await stage.put(layout.assignment_path(worker.name, name), data=data)
    assert await scene.result("1") == 1


async def test_a_step_whose_flow_is_gone_is_dropped(stage: Stage, scene: FlowScene, worker: StagedWorker) -> None:
    name = await scene.assign(worker.name, "0", scene.payload("0", "m:take", 0))
    await scene.result("0")
    await stage.put(
        layout.assignment_path(worker.name, name), data=scene.payload("0", "m:take", None, refs=(ref("9"),))
    )
    await until_left(stage, worker)
    assert await scene.names("failed") == []


async def test_a_copy_of_a_step_that_has_ended_is_dropped(
    stage: Stage, scene: FlowScene, worker: StagedWorker, caplog: pytest.LogCaptureFixture
) -> None:
    payload = scene.payload("0", "m:take", 0)
    name = await scene.assign(worker.name, "0", payload)
    await scene.result("0")
    await until_left(stage, worker)
    await stage.put(layout.assignment_path(worker.name, name), data=payload)
    await until_left(stage, worker)

    await stage.zk.delete(scene.path("results", "0"))  # the flow is removed
    await stage.put(layout.assignment_path(worker.name, name), data=payload)
    await until_left(stage, worker)
    assert await scene.names("results") == []
    assert len([line for line in caplog.messages if " done" in line]) == 1


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"{", "is not an outcome"),
        (b'{"herd":1,"state":"failed","error":{"type":"X","message":""}}', "step 0 has no result: it is failed"),
        (b'{"herd":1,"state":"done","result":-1}', "no number of items"),
        (b'{"herd":1,"state":"done","result":{}}', "no number of items"),
        (b'{"herd":1,"state":"done","result":1000001}', "no number of items"),
        (None, "the result of step 0 is not there"),
    ],
)
async def test_a_result_that_cannot_be_read_fails_the_step(
    stage: Stage, scene: FlowScene, worker: StagedWorker, data: bytes | None, text: str
) -> None:
    if data is not None:
        await stage.put(scene.path("results", "0"), data=data)
    await scene.assign(worker.name, "1", scene.payload("1", "m:take", None, refs=(ref("0", each=True),)))
    error = await scene.error("1")
    assert error.type == "BadOutcome"
    assert text in error.message
    assert await scene.names("running") == []


async def test_results_that_are_too_large_together_fail_the_step(
    scene: FlowScene, worker: StagedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "MAX_INPUTS", 1024**2)
    for step in "012":
        await scene.put_result(step, "x" * 400_000)
    refs = tuple(ref(step, "args", index) for index, step in enumerate("012"))
    await scene.assign(worker.name, "3", scene.payload("3", "m:add", None, None, None, refs=refs))
    assert "more than 1 MiB" in (await scene.error("3")).message


async def test_a_chunk_with_too_few_results_fails_the_step_that_takes_them(
    scene: FlowScene, worker: StagedWorker
) -> None:
    await scene.put_result("0", [3, 2])
    await scene.put_result("0.0", [1, 2])
    await scene.put_result("0.1", [])
    await scene.assign(worker.name, "1", scene.payload("1", "m:add_all", None, refs=(ref("0", each=True),)))
    assert (await scene.error("1")).message == "the chunk 0.1 has 1 items, and 0 results"


async def test_results_that_are_taken_one_by_one_are_in_a_file(
    scene: FlowScene, worker: StagedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "MAX_INPUTS", 1000)
    monkeypatch.setattr(references, "_SLICE", 2)
    await scene.put_result("0", 5)
    for item in range(5):
        await scene.put_result(f"0.{item}", "x" * (400 + item))

    async def assign(step: str) -> None:
        payload = scene.payload(step, "m:measure_all", None, refs=(ref("0", each=True),))
        await scene.assign(worker.name, step, payload)

    await assign("1")
    assert await scene.result("1") == [400, 401, 402, 403, 404]
    monkeypatch.setattr(spool, "MAX_SPOOL", 1000)
    await assign("2")
    assert "the results of step 0 have more than" in (await scene.error("2")).message
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    await assign("3")
    assert "the results of step 0 cannot be kept in a file" in (await scene.error("3")).message


async def test_steps_are_read_ahead_only_as_far_as_there_is_room(
    stage: Stage, scene: FlowScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "MAX_INPUTS", 1000)
    gate = threading.Event()
    worker = await stage.worker({"m:take": lambda _value: gate.wait(30)}, slots=1)
    session = worker._session
    assert session is not None
    await scene.put_result("0", "x" * 700)
    names = [
        await scene.assign(worker.name, str(step), scene.payload(str(step), "m:take", None, refs=(ref("0"),)))
        for step in range(1, 8)
    ]

    def states() -> list[State]:
        found = [session._tasks.get(name) for name in names]
        return [held.state for held in found if held is not None]

    try:
        await until(lambda: len(states()) == 7 and not session._steps._references._readings, "all steps")
        await asyncio.sleep(0)
    finally:
        gate.set()
    for step in range(1, 8):
        assert await scene.result(str(step)) is True


@pytest.mark.parametrize("pool", [PoolKind.THREAD, PoolKind.PROCESS])
async def test_inputs_and_added_steps_are_the_same_in_each_pool(stage: Stage, scene: FlowScene, pool: PoolKind) -> None:
    worker = await stage.worker(app.functions(pool), app=app.APP)
    await scene.put_result("1", 3)
    await scene.put_result("1.0", 20)
    await scene.put_result("1.2", 22)
    payload = scene.payload("2", "m:grow", None, refs=(ref("1", each=True),), missing=("1.1",))
    await scene.assign(worker.name, "2", payload)
    assert await scene.result("2") == [42, ["1.1"]]
    assert await stage.names("/tasks") == [scene.task("2+0")]


async def test_a_step_whose_process_dies_fails_and_adds_nothing(stage: Stage, scene: FlowScene) -> None:
    worker = await stage.worker(app.functions(PoolKind.PROCESS), app=app.APP)
    await scene.assign(worker.name, "0", scene.payload("0", "m:die", 3))
    assert (await scene.error("0")).type == "TaskDied"
    assert await stage.names("/tasks") == await scene.names("running") == []


async def test_a_worker_with_keys_takes_signed_results_only_and_signs_results_and_items(
    stage: Stage, scene: FlowScene
) -> None:
    keyring = Keyring({"a": b"s" * 32})
    signed_only = SignedOnly(keyring)
    worker = StagedWorker(
        stage.hosts, FUNCTIONS, WorkerSettings(session_timeout=TIMEOUT), Ran(), signed_only=signed_only
    )
    stage.start(worker)
    await stage.until_registered(worker)

    async def assign(step: str, payload: bytes) -> None:
        await scene.assign(worker.name, step, keyring.sign_task(scene.task(step), payload))

    await assign("0", scene.payload("0", "m:take", [1, 2]))
    await scene.result("0")
    assert keyring.open_outcome(f"{scene.flow}/0", await stage.data(scene.path("results", "0")))[1]
    await assign("1", scene.payload("1", "m:take", None, refs=(ref("0"),)))
    assert await scene.result("1") == [1, 2]

    await assign("2", scene.payload_of_each("2", Reference((), "0")))
    assert await scene.result("2") == 2
    for name in await stage.names("/tasks"):
        signed_only.check_task(name, await stage.data(layout.task_path(name)))

    await scene.put_result("3", [1, 2])
    await assign("4", scene.payload("4", "m:take", None, refs=(ref("3"),)))
    error = await scene.error("4")
    assert (error.type, f"{scene.flow}/3 is not signed" in error.message) == ("BadSignature", True)


async def test_joins_that_come_together_share_the_requests_for_their_results(
    stage: Stage, worker: StagedWorker, scene: FlowScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[list[str]] = []
    multi_read = Client.multi_read_nowait

    def count(client: Client, paths: Iterable[str], done: Any) -> None:
        paths = list(paths)
        reads.append([path for path in paths if "/results/" in path])
        multi_read(client, paths, done)

    monkeypatch.setattr(Client, "multi_read_nowait", count)
    await scene.put_result("0", 1)
    await scene.put_result("1", 2)
    transaction = stage.zk.transaction()
    refs = (ref("0"), ref("1", "args", 1))
    for number in range(2, 12):
        step = str(number)
        transaction.create(scene.path("running", scene.task(step)), step.encode())
        path = layout.assignment_path(worker.name, scene.task(step))
        transaction.create(path, scene.payload(step, "m:add", None, None, refs=refs))
    await transaction.commit()

    assert [await scene.result(str(number)) for number in range(2, 12)] == ["3"] * 10
    assert sum(map(len, reads)) == 20
    assert len(list(filter(None, reads))) < 10
