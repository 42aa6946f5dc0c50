"""A worker alone with its inbox: the test plays the primary."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable

import pytest

from herdmaster.core import layout
from herdmaster.core.members import WorkerRecord, decode_worker
from herdmaster.core.outcome import Outcome, OutcomeState, decode_outcome, decode_result
from herdmaster.core.payload import ENVELOPE_GROWTH, MAX_PAYLOAD
from herdmaster.errors import ConfigurationError, InvalidName
from herdmaster.roles.shared.primary_kind import primary_is_ours
from herdmaster.roles.worker.pools import Capacity
from herdmaster.roles.worker.worker import Worker, WorkerSettings, default_slots
from herdmaster.zookeeper.model import CreateMode
from tests.roles.stage import REFERENCE, Ran, Stage, StagedWorker, call_payload, new_call_name, new_raw_name, until


async def assign(stage: Stage, worker: StagedWorker, *names: str, data: bytes = b"payload") -> None:
    await stage.put(*(layout.assignment_path(worker.name, name) for name in names), data=data)


async def outcome(stage: Stage, name: str) -> Outcome:
    await stage.until_exists(layout.status_path(name))
    return decode_outcome(name, await stage.data(layout.status_path(name)))


async def run_call(stage: Stage, worker: StagedWorker, function: str, *args: object) -> Outcome:
    name = new_call_name()
    await assign(stage, worker, name, data=call_payload(function, *args))
    return await outcome(stage, name)


# --- registration ----------------------------------------------------------------------------------------------------


async def test_registration_is_one_transaction_and_says_what_the_worker_takes(stage: Stage) -> None:
    worker = await stage.worker(slots=3, queues=("default", "mail"))
    data, stat = await stage.zk.get(layout.worker_path(worker.name))
    record = decode_worker(data)
    inbox = await stage.zk.exists(layout.inbox_path(worker.name))

    assert isinstance(record, WorkerRecord)
    assert (record.slots, record.queues, record.state) == (3, ("default", "mail"), "ready")
    assert stat.ephemeral_owner == worker.session.session_id
    assert inbox is not None
    assert inbox.czxid == stat.czxid


@pytest.mark.parametrize("slots", [0, -1, 10_001])
def test_slots_that_cannot_work_are_refused(slots: int) -> None:
    with pytest.raises(ConfigurationError, match="slots"):
        Worker("127.0.0.1:2181", {}, WorkerSettings(slots=slots))


def test_bad_queues_are_refused() -> None:
    with pytest.raises(InvalidName, match="'Mail'"):
        Worker("127.0.0.1:2181", {}, WorkerSettings(queues=("Mail",)))
    with pytest.raises(ConfigurationError, match="at least one queue"):
        Worker("127.0.0.1:2181", {}, WorkerSettings(queues=()))


def test_a_worker_of_coroutines_alone_has_many_slots() -> None:
    async def later() -> None: ...

    assert Worker("127.0.0.1:2181", {"m:later": later})._capacity == Capacity(
        1000, default_slots(), min(1000, os.cpu_count() or 1)
    )


def test_slots_are_by_default_a_little_more_than_there_are_processors() -> None:
    assert 5 <= default_slots() <= 32


# --- running ---------------------------------------------------------------------------------------------------------


async def test_a_raw_task_goes_to_the_raw_handler_and_is_answered_done(stage: Stage) -> None:
    ran = Ran()
    worker = await stage.worker(raw=ran)
    await assign(stage, worker, name := new_raw_name(), data=b"\x00\xff")
    await outcome(stage, name)

    assert await stage.data(layout.status_path(name)) == b"done"
    assert ran.payloads == {name: b"\x00\xff"}
    assert await stage.names(layout.inbox_path(worker.name)) == []


async def test_a_call_runs_with_its_arguments_and_its_outcome_says_who_ran_it(stage: Stage) -> None:
    worker = await stage.worker({"m:add": lambda a, b: a + b})
    found = await run_call(stage, worker, "m:add", 2, 3)

    assert (decode_result(found), found.worker, found.attempt) == (5, worker.name, 1)
    assert found.started is not None
    assert found.ended is not None
    assert 0 <= found.ended - found.started < 15_000


async def test_what_a_task_raises_is_its_outcome_and_never_ends_the_worker(stage: Stage) -> None:
    def fail(kind: str) -> None:
        raise {"value": ValueError("no"), "exit": SystemExit(3), "interrupt": KeyboardInterrupt()}[kind]

    worker = await stage.worker({"m:fail": fail})
    found = [await run_call(stage, worker, "m:fail", kind) for kind in ("value", "exit", "interrupt")]

    assert [each.error.type for each in found if each.error] == ["ValueError", "SystemExit", "KeyboardInterrupt"]
    assert found[0].error is not None
    assert "raise {" in found[0].error.traceback


async def test_a_call_that_wants_no_outcome_leaves_nothing(stage: Stage) -> None:
    ran = threading.Event()
    worker = await stage.worker({"m:f": ran.set})
    payload = call_payload("m:f")[:-1] + b',"outcome":false}'
    await assign(stage, worker, new_call_name(), data=payload)
    await until(ran.is_set, "it to run")

    await stage.until_empty()


async def test_higher_priorities_are_started_first(stage: Stage) -> None:
    gate = stage.gate()
    order: list[int] = []
    worker = await stage.worker({"m:note": order.append}, raw=gate, slots=1)
    await assign(stage, worker, new_raw_name())
    await until(lambda: len(gate.entered) == 1, "the slot to be taken")
    ulid = new_raw_name().removeprefix("task-")
    for priority in (1, 9, 5, 7):
        marker = "" if priority == 5 else f".p{priority}"
        await assign(stage, worker, f"task-{ulid}.default{marker}", data=call_payload("m:note", priority))
    await until(lambda: worker._session is not None and len(worker._session._tasks) == 5, "all to be taken in")
    gate.open()
    await until(lambda: len(order) == 4, "all to run")

    assert order[0] in (1, 9)  # what is in the pool's queue already when a more urgent one comes keeps its place
    assert sorted(order) == [1, 5, 7, 9]


async def test_outcomes_that_come_together_are_committed_together(stage: Stage) -> None:
    gate = stage.gate()
    left: list[str] = []

    def run(name: str, payload: bytes) -> None:
        gate(name, payload)
        left.append(name)

    worker = await stage.worker(raw=run, slots=8)
    names = [new_raw_name() for _ in range(8)]
    await assign(stage, worker, *names)
    await until(lambda: len(gate.entered) == 8, "all to run")
    gate.open()
    while len(left) < 8:
        time.sleep(0.01)  # noqa: ASYNC251 - the loop is to see the ends in one turn, however late the threads are
    for name in names:
        await outcome(stage, name)
    stats = [await stage.zk.exists(layout.status_path(name)) for name in names]

    assert len({stat.czxid for stat in stats if stat}) < 8


async def test_an_assignment_that_is_taken_back_before_it_began_is_not_started(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker(raw=gate, slots=1)
    first, second, third = (new_raw_name() for _ in range(3))
    await assign(stage, worker, first)
    await until(lambda: gate.entered == [first], "the first to run")
    await assign(stage, worker, second, third)
    await until(lambda: worker._session is not None and len(worker._session._tasks) == 3, "all to be taken in")
    await stage.zk.delete(layout.assignment_path(worker.name, second))
    await until(lambda: worker._session is not None and len(worker._session._tasks) == 2, "the end of the second")
    gate.open()
    await outcome(stage, third)

    assert gate.entered == [first, third]
    assert not await stage.exists(layout.status_path(second))


async def test_an_assignment_that_is_taken_back_while_it_runs_leaves_no_outcome(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker(raw=gate)
    first, second = new_raw_name(), new_raw_name()
    await assign(stage, worker, first)
    await until(lambda: gate.entered == [first], "it to run")
    await stage.zk.delete(layout.assignment_path(worker.name, first))
    gate.open()
    await assign(stage, worker, second)
    await outcome(stage, second)

    assert await stage.names(layout.STATUS) == [second]


async def test_a_status_that_exists_already_drops_the_assignment(stage: Stage) -> None:
    worker = await stage.worker()
    name = new_raw_name()
    await stage.put(layout.status_path(name), data=b"done by another")
    await assign(stage, worker, name)

    await stage.until_gone(layout.assignment_path(worker.name, name))
    assert await stage.data(layout.status_path(name)) == b"done by another"


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"garbage", "not JSON"),
        (call_payload("m:f")[:-3], "not JSON"),
        (b'{"herd":2,"call":"m:f","args":[],"kwargs":{}}', "version 2"),
        (b'{"herd":1,"call":"m:f","args":{},"kwargs":{}}', "`args`"),
        (b'{"herd":1,"call":7,"args":[],"kwargs":{}}', "envelope"),
        (call_payload("m:f", "x" * (MAX_PAYLOAD - 100)) + b" " * (ENVELOPE_GROWTH + 100), "at most"),
    ],
    ids=["empty", "garbage", "truncated", "later version", "args no list", "call no text", "too large"],
)
async def test_a_bad_envelope_fails_with_one_sentence_and_the_others_are_unharmed(
    stage: Stage, data: bytes, says: str
) -> None:
    worker = await stage.worker({"m:f": lambda: 1})
    bad, good = new_call_name(), new_call_name()
    await assign(stage, worker, bad, data=data)
    await assign(stage, worker, good, data=call_payload("m:f"))
    found = await outcome(stage, bad)

    assert found.error is not None
    assert found.error.type == "BadPayload"
    assert says in found.error.message
    assert found.error.traceback == ""
    assert decode_result(await outcome(stage, good)) == 1


@pytest.mark.parametrize(
    ("result", "kind"),
    [(object(), "NotSerializable"), (float("nan"), "NotSerializable"), ("x" * 600_000, "ResultTooLarge")],
    ids=["object", "nan", "too large"],
)
async def test_a_result_that_cannot_be_written_fails_the_task(stage: Stage, result: object, kind: str) -> None:
    worker = await stage.worker({"m:f": lambda: result})
    found = await run_call(stage, worker, "m:f")

    assert found.state is OutcomeState.FAILED
    assert found.error is not None
    assert found.error.type == kind


async def test_names_in_the_inbox_that_are_no_tasks_are_left_alone_and_hold_up_nothing(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await stage.worker()
    await assign(stage, worker, "garbage", "task-", name := new_raw_name())
    await outcome(stage, name)
    began = time.monotonic()
    await stage.stop(worker)

    assert time.monotonic() - began < 8.0  # the drain timeout is 10 s
    assert await stage.names(layout.inbox_path(worker.name)) == ["garbage", "task-"]
    assert sum("garbage in the inbox is no task's name" in message for message in caplog.messages) == 1


# --- its session -----------------------------------------------------------------------------------------------------


async def test_after_an_expiry_it_starts_again_under_a_new_id_and_the_old_outcome_is_dropped(stage: Stage) -> None:
    gate = stage.gate()
    handlers: list[Callable[[str, bytes], None]] = [gate, Ran()]

    def handle(name: str, data: bytes) -> None:
        handlers.pop(0)(name, data)

    worker = await stage.worker(raw=handle)
    old, name = worker.name, new_raw_name()
    await assign(stage, worker, name)
    await until(lambda: gate.entered == [name], "it to run")
    await stage.expire(worker)
    await stage.until_registered(worker, unlike=old)
    gate.open()
    await assign(stage, worker, later := new_raw_name())
    await outcome(stage, later)

    assert await stage.names(layout.STATUS) == [later]
    assert await stage.names(layout.inbox_path(old)) == [name]


async def test_a_worker_whose_own_ephemeral_vanishes_starts_again(stage: Stage) -> None:
    worker = await stage.worker()
    old = worker.name
    await stage.zk.delete(layout.worker_path(old))
    await stage.until_registered(worker, unlike=old)

    await assign(stage, worker, name := new_raw_name())
    await outcome(stage, name)


async def test_a_worker_whose_inbox_vanishes_starts_again(stage: Stage) -> None:
    worker = await stage.worker()
    old = worker.name
    await stage.zk.delete(layout.inbox_path(old))
    await stage.until_registered(worker, unlike=old)

    assert not await stage.exists(layout.worker_path(old))
    await assign(stage, worker, name := new_raw_name())
    await outcome(stage, name)


async def test_a_wiped_namespace_is_made_again(stage: Stage) -> None:
    worker = await stage.worker()
    old = worker.name
    await stage.clear()
    await stage.until_registered(worker, unlike=old)

    assert await stage.exists(layout.TASKS)


async def test_its_identity_is_its_session_not_its_data(stage: Stage) -> None:
    worker = await stage.worker()
    path = layout.worker_path(worker.name)
    data = await stage.data(path)
    await stage.zk.delete(path)
    await stage.zk.create(path, data, mode=CreateMode.EPHEMERAL)  # the same data, of another session
    old = worker.name

    await stage.until_registered(worker, unlike=old)


@pytest.mark.long
async def test_a_stalled_loop_is_told_with_the_tasks_that_run(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    gate = stage.gate()
    worker = await stage.worker(raw=gate)
    await assign(stage, worker, name := new_raw_name())
    await until(lambda: gate.entered == [name], "it to run")
    await asyncio.sleep(0.3)  # it is looking after itself now
    time.sleep(worker.session.timeout / 2)  # noqa: ASYNC251 - the stall
    await until(lambda: any("stood still" in message and name in message for message in caplog.messages), "the word")


async def test_a_primary_that_is_ours_is_told_from_a_reference_one(stage: Stage) -> None:
    worker = await stage.worker()
    assert not await primary_is_ours(worker.session)
    await stage.play_primary()
    assert await primary_is_ours(worker.session)
    await stage.play_primary(REFERENCE)
    assert not await primary_is_ours(worker.session)
