"""A worker that makes the items of an `each`: how many, in which transactions, and after every loss."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from herdmaster.core import expansion, layout
from herdmaster.core.flows import Each, FlowStep, Reference
from herdmaster.core.payload import MAX_PAYLOAD, Call, decode_call, encode_arguments, encode_call
from herdmaster.core.table import TransitionName
from herdmaster.core.transitions import Move
from herdmaster.roles.shared.committer import Fate, Settlement
from herdmaster.roles.worker.worker_session import WorkerSession
from tests.roles.stage import Stage, StagedWorker, until
from tests.roles.worker.flow_scene import FlowScene

pytestmark = pytest.mark.long


@pytest.fixture
async def scene(stage: Stage) -> FlowScene:
    return await FlowScene(stage).make()


@pytest.fixture
async def worker(stage: Stage) -> StagedWorker:
    return await stage.worker()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "MAX_ITEMS", 2)


def session_of(worker: StagedWorker) -> WorkerSession:
    assert worker._session is not None
    return worker._session


async def elements(stage: Stage) -> list[object]:
    """The first arguments of the tasks that wait, in the order of their steps."""
    found: dict[str, object] = {}
    for name in await stage.names("/tasks"):
        call = decode_call(await stage.data(layout.task_path(name)))
        assert call.flow is not None
        assert call.flow.task == name
        found[call.flow.step] = json.loads(bytes(call.args))[0]
    return [found[step] for step in sorted(found, key=lambda step: int(step.rpartition(".")[2]))]


def on_expand(worker: StagedWorker, act: Callable[[int], None], *, after: bool = False) -> list[int]:
    """Call `act` with the number of each transaction that makes items, right before it is sent, or right after that."""
    committer = session_of(worker)._commits._committer
    commit, seen = committer.commit, [0]

    def wrapped(moves: Any, settled: Any) -> None:
        moves = list(moves)
        is_one = any(move.transition is TransitionName.EXPAND_STEP for move in moves)
        seen[0] += is_one
        if is_one and not after:
            act(seen[0])
        commit(moves, settled)
        if is_one and after:
            act(seen[0])

    committer.commit = wrapped  # type: ignore[method-assign] # passed on
    return seen


# --- what is made ----------------------------------------------------------------------------------------------------


async def test_each_element_becomes_a_step_with_its_edges_and_the_result_is_their_number(
    stage: Stage, scene: FlowScene, worker: StagedWorker
) -> None:
    await scene.put_result("0", ["a", {"b": 1}, None])
    await scene.put_join("2", "1")
    await scene.put_join("3?", "1", "0")
    await scene.assign_each(worker.name, "1", "0", "more", joins=("2", "3?"), ttl=60.0)

    assert await scene.result("1") == 3
    assert await elements(stage) == ["a", {"b": 1}, None]
    assert await scene.names("steps", "2") == ["1.0", "1.1", "1.2"]
    assert await scene.names("steps", "3?") == ["0", "1.0", "1.1", "1.2"]
    assert await scene.names("running") == await stage.names("/tasks")
    assert await stage.names(layout.inbox_path(worker.name)) == []


async def test_an_empty_list_makes_nothing(stage: Stage, scene: FlowScene, worker: StagedWorker) -> None:
    await scene.put_result("0", [])
    await scene.put_join("2", "1")
    await scene.assign_each(worker.name, "1", "0", joins=("2",))
    assert await scene.result("1") == 0
    assert await scene.names("steps", "2") == await stage.names("/tasks") == await scene.names("running") == []


async def test_items_of_items(stage: Stage, scene: FlowScene, worker: StagedWorker) -> None:
    await scene.put_result("0", 2)
    await scene.put_result("0.0", "a")
    await scene.put_result("0.1", "b")
    payload = scene.payload_of_each("1", Reference((), "0", each=True))
    await scene.assign(worker.name, "1", payload)
    assert await scene.result("1") == 2
    assert await elements(stage) == ["a", "b"]


@pytest.mark.slow
async def test_ten_thousand_items(stage: Stage, scene: FlowScene, worker: StagedWorker) -> None:
    await scene.put_result("0", list(range(10_000)))
    await scene.put_join("2", "1")
    await scene.assign_each(worker.name, "1", "0", joins=("2",))
    assert await scene.result("1", 60.0) == 10_000
    for folder in ("/tasks", scene.path("running"), scene.path("steps", "2")):
        assert len(await stage.names(folder)) == 10_000


async def test_an_item_runs_as_any_step(stage: Stage, scene: FlowScene) -> None:
    worker = await stage.worker({"m:item": lambda element, factor: element * factor})
    await scene.put_result("0", [1, 2])
    await scene.assign_each(worker.name, "1", "0", 10)
    await scene.result("1")
    for name in await stage.names("/tasks"):
        data = await stage.data(layout.task_path(name))
        await stage.zk.delete(layout.task_path(name))
        await stage.put(layout.assignment_path(worker.name, name), data=data)
    assert [await scene.result("1.0"), await scene.result("1.1")] == [10, 20]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("what", ["flow", "step"])
async def test_an_each_that_is_to_be_cancelled_makes_no_more_items(
    what: str, stage: Stage, scene: FlowScene, worker: StagedWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """The primary cannot end it: each transaction that makes items refuses its own."""
    caplog.set_level(logging.INFO, "herdmaster.worker")
    path = scene.path("cancel") if what == "flow" else layout.cancel_path(scene.task("1"))
    await stage.put(path)
    await scene.put_result("0", list(range(20)))
    transactions = on_expand(worker, lambda _number: None)
    await scene.assign_each(worker.name, "1", "0")
    assert (await scene.error("1")).type == "TaskCancelled"
    assert (transactions, await elements(stage)) == ([1], [0, 1])
    assert decode_call(await stage.data(scene.path("failed", "1"))).expanded == 2, "for a retry"
    assert await scene.names("running") == await stage.names("/tasks")
    assert await stage.names(layout.inbox_path(worker.name)) == []
    line = f"{scene.task('1')} herdmaster:each (step 1 of {scene.flow}) was cancelled"
    await until(lambda: line in caplog.messages, "the line of the end")


# --- what fails ------------------------------------------------------------------------------------------------------


async def test_a_result_that_is_no_list_fails_the_step(stage: Stage, scene: FlowScene, worker: StagedWorker) -> None:
    await scene.put_result("0", {"a": 1})
    await scene.assign_each(worker.name, "1", "0")
    error = await scene.error("1")
    assert error.message == "the result of step 0 is no list, and an `each` makes one step for each element of a list"
    assert await stage.names("/tasks") == []


@pytest.mark.usefixtures("small_chunks")
async def test_an_item_that_is_too_large_fails_the_step_which_keeps_its_progress(
    stage: Stage, scene: FlowScene, worker: StagedWorker
) -> None:
    await scene.put_result("0", ["a", "b", "x" * 400_000])
    await scene.assign_each(worker.name, "1", "0", "y" * 150_000)
    error = await scene.error("1")
    assert error.type == "PayloadTooLarge"
    assert str(MAX_PAYLOAD) in error.message
    made = await elements(stage)
    assert made == ["a"], "an item of the same transaction is not made either"
    assert decode_call(await stage.data(scene.path("failed", "1"))).expanded == len(made)


async def test_items_that_no_transaction_holds_fail_the_step(
    stage: Stage, scene: FlowScene, worker: StagedWorker
) -> None:
    await scene.put_result("0", ["a"])
    await scene.assign_each(worker.name, "1", "0", "y" * 495_000)
    assert "item 0 is too large to be made" in (await scene.error("1")).message
    assert await stage.names("/tasks") == []


async def test_an_each_without_its_list_fails(scene: FlowScene, worker: StagedWorker) -> None:
    item = FlowStep("", "", "m:item", "")
    each = Each(msgspec.Raw(encode_call(Call(1, "m:item", *encode_arguments((None,), {}), flow=item))), "default", 5)
    await scene.assign(worker.name, "1", scene.payload("1", "herdmaster:each", each=each))
    assert "makes items of one list, and not of 0" in (await scene.error("1")).message


# --- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("after", [False, True], ids=["before it is sent", "before its reply"])
async def test_after_a_lost_connection_no_item_is_missing_and_none_is_made_twice(
    stage: Stage, scene: FlowScene, worker: StagedWorker, *, after: bool
) -> None:
    await scene.put_result("0", list(range(7)))
    await scene.put_join("2", "1")
    seen = on_expand(worker, lambda number: stage.break_connections() if number == 2 else None, after=after)
    await scene.assign_each(worker.name, "1", "0", joins=("2",))
    assert await scene.result("1") == 7
    assert await elements(stage) == list(range(7))
    assert len(await scene.names("steps", "2")) == 7
    assert seen[0] in (4, 5)


@pytest.mark.usefixtures("small_chunks")
async def test_an_item_that_has_ended_is_not_made_again_after_an_unknown_fate(
    stage: Stage, scene: FlowScene, worker: StagedWorker
) -> None:
    """The reply of a transaction is lost, and its items end before the worker is back."""
    await scene.put_result("0", list(range(4)))
    making: list[Move] = []
    committer = session_of(worker)._commits._committer
    commit = committer.commit

    def keep(moves: Any, settled: Any) -> None:
        moves = list(moves)
        if moves and moves[0].transition is TransitionName.EXPAND_STEP and not making:
            making.extend(moves)
            stage.break_connections()
        else:
            commit(moves, settled)

    committer.commit = keep  # type: ignore[method-assign] # passed on
    await scene.assign_each(worker.name, "1", "0")
    await until(lambda: bool(making), "the first transaction")
    await scene.apply(making[0])
    for name in await stage.names("/tasks"):
        await stage.zk.delete(layout.task_path(name))
        await stage.zk.delete(scene.path("running", name))
    session = session_of(worker)
    settle_as_lost(session, making[0])
    await until(lambda: session._inbox.is_current, "the connection")
    session.turn()

    assert await scene.result("1") == 4
    assert await elements(stage) == [2, 3]


def settle_as_lost(session: WorkerSession, move: Move) -> None:
    session._commits._settled(Settlement(move, Fate.UNKNOWN))


@pytest.mark.usefixtures("small_chunks")
async def test_another_worker_goes_on_where_one_that_died_stood(
    stage: Stage, scene: FlowScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = await stage.worker()
    first = session_of(worker)
    await scene.put_result("0", list(range(7)))
    gone: list[bool] = []

    def end(number: int) -> None:
        if number == 3 and not gone:
            gone.append(True)
            monkeypatch.setattr(first._commits._committer, "commit", lambda *_: None)  # it dies

    on_expand(worker, end, after=True)
    name = await scene.assign_each(worker.name, "1", "0")
    await until(lambda: bool(gone), "the third transaction")

    async def is_made() -> bool:
        return len(await stage.names("/tasks")) == 6

    await until(is_made, "its items")
    await stage.expire(worker)
    await stage.until_registered(worker, unlike=first._worker)
    data = await stage.data(layout.assignment_path(first._worker, name))
    assert decode_call(data).expanded == 6
    await stage.put(layout.assignment_path(worker.name, name), data=data)
    assert await scene.result("1") == 7
    assert await elements(stage) == list(range(7))


@pytest.mark.usefixtures("small_chunks")
async def test_two_workers_with_copies_make_each_item_once(stage: Stage, scene: FlowScene) -> None:
    """A master of the reference may leave a copy of a task."""
    workers = [await stage.worker(), await stage.worker()]
    await scene.put_result("0", list(range(9)))
    await scene.put_join("2", "1")
    name = scene.task("1")
    payload = scene.payload_of_each("1", Reference((), "0"), joins=("2",))
    transaction = stage.zk.transaction()
    transaction.create(scene.path("running", name), b"1")
    for worker in workers:
        transaction.create(layout.assignment_path(worker.name, name), payload)
    await transaction.commit()

    assert await scene.result("1") == 9
    for worker in workers:
        inbox = layout.inbox_path(worker.name)

        async def is_empty(inbox: str = inbox) -> bool:
            return await stage.names(inbox) == []

        await until(is_empty, "an empty inbox")
    assert await elements(stage) == list(range(9))
    assert len(await scene.names("steps", "2")) == 9
    assert name not in await scene.names("running")


@pytest.mark.usefixtures("small_chunks")
async def test_a_copy_goes_on_where_the_flow_says_that_another_one_stood(
    stage: Stage, scene: FlowScene, worker: StagedWorker
) -> None:
    """The first items have ended, and left nothing that would refuse to be made again."""
    await scene.put_result("0", list(range(4)))
    name = scene.task("1")
    transaction = stage.zk.transaction().create(scene.path("running", name), b"1 2")
    payload = scene.payload_of_each("1", Reference((), "0"))
    await transaction.create(layout.assignment_path(worker.name, name), payload).commit()
    assert await scene.result("1") == 4
    assert await elements(stage) == [2, 3]


@pytest.mark.usefixtures("small_chunks")
async def test_a_join_that_started_without_the_items_is_left_out(
    stage: Stage, scene: FlowScene, worker: StagedWorker
) -> None:
    await scene.put_result("0", [1, 2, 3])
    await scene.put_join("3", "1")
    await scene.assign_each(worker.name, "1", "0", joins=("2?", "3"))
    assert await scene.result("1") == 3
    assert await scene.names("steps", "3") == ["1.0", "1.1", "1.2"]


@pytest.mark.usefixtures("small_chunks")
async def test_nothing_is_made_for_a_step_that_has_ended(stage: Stage, scene: FlowScene, worker: StagedWorker) -> None:
    await scene.put_result("0", [1, 2, 3])
    payload = scene.payload_of_each("1", Reference((), "0"))
    await stage.put(layout.assignment_path(worker.name, scene.task("1")), data=payload)

    async def is_empty() -> bool:
        return await stage.names(layout.inbox_path(worker.name)) == []

    await until(is_empty, "an empty inbox")
    assert await stage.names("/tasks") == []
    assert await scene.names("results") == ["0"]


@pytest.mark.usefixtures("small_chunks")
async def test_a_step_that_ends_in_the_middle_makes_no_further_items(
    stage: Stage, scene: FlowScene, worker: StagedWorker
) -> None:
    """The flow is cancelled: the primary takes the assignment away."""
    await scene.put_result("0", list(range(100)))
    name = scene.task("1")
    session = session_of(worker)
    seen = on_expand(worker, lambda number: session.task_left(name) if number == 2 else None)
    await scene.assign_each(worker.name, "1", "0")
    await until(lambda: seen[0] == 2, "the second transaction")
    await stage.zk.delete(layout.assignment_path(worker.name, name))
    await until(lambda: session._inbox.is_known and len(session._inbox) == 0, "an empty inbox")
    assert not session._steps.makes_items(name)
    assert len(await elements(stage)) <= 4
