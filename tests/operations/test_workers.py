"""Draining and stopping workers: what operators ask, and what becomes of the tasks and of the request."""

from __future__ import annotations

import pytest

from herdmaster.core import layout
from herdmaster.core.members import (
    DRAIN,
    DRAINED,
    DRAINING,
    NO_REQUEST,
    READY,
    STOP,
    WorkerRecord,
    decode_worker,
    encode_record,
)
from herdmaster.core.progress import TaskProgress
from herdmaster.errors import HerdError
from herdmaster.operations.workers import ask_worker, find_successor, watch_drain
from tests.roles.stage import REFERENCE, Stage, StagedWorker, new_raw_name, until


async def record_of(stage: Stage, worker: StagedWorker) -> WorkerRecord:
    record = decode_worker(await stage.data(layout.worker_path(worker.name)))
    assert record is not None
    return record


async def until_state(stage: Stage, worker: StagedWorker, state: str) -> None:
    async def is_there() -> bool:
        found = await stage.zk.exists(layout.worker_path(worker.name))
        return found is not None and (await record_of(stage, worker)).state == state

    await until(is_there, f"a worker that is {state}")


async def assign(stage: Stage, worker: StagedWorker, *names: str) -> None:
    await stage.put(*(layout.assignment_path(worker.name, name) for name in names), data=b"payload")


async def test_a_drained_worker_stays_without_tasks_until_it_is_told_to_go_on(stage: Stage) -> None:
    await stage.play_primary()
    gate = stage.gate()
    worker = await stage.worker(raw=gate, slots=1)
    running, waiting, late = (new_raw_name() for _ in range(3))
    await assign(stage, worker, running)
    await until(lambda: gate.entered == [running], "it to run")
    await assign(stage, worker, waiting)

    assert (await ask_worker(stage.zk, worker.name, DRAIN)).state == DRAINING
    await stage.until_exists(layout.task_path(waiting))
    assert (await record_of(stage, worker)).state == DRAINING
    gate.open()
    await until_state(stage, worker, DRAINED)
    await assign(stage, worker, late)  # by a primary that had decided before
    await stage.until_exists(layout.task_path(late))
    assert gate.entered == [running]

    await ask_worker(stage.zk, worker.name, NO_REQUEST)
    assert (await record_of(stage, worker)).state == READY
    session = worker._session
    assert session is not None
    await until(lambda: session.may_start, "it to go on")  # an assignment before that is handed back
    await assign(stage, worker, after := new_raw_name())
    await stage.until_exists(layout.status_path(after))
    assert gate.entered == [running, after]


async def test_a_primary_of_ours_gives_no_task_to_a_worker_that_drains(stage: Stage) -> None:
    await stage.master()
    first, second = await stage.worker(), await stage.worker()
    await ask_worker(stage.zk, first.name, DRAIN)
    await until_state(stage, first, DRAINED)
    client = await stage.client()
    ended = [client.put_raw() for _ in range(10)]
    for each in ended:
        await each.outcome()
    assert await stage.names(layout.inbox_path(first.name)) == []
    assert not second.is_stopping


async def test_a_worker_that_is_told_to_stop_ends_as_by_a_signal(stage: Stage) -> None:
    await stage.play_primary()
    worker = await stage.worker()
    await ask_worker(stage.zk, worker.name, STOP)
    seen = [each async for each in watch_drain(stage.zk, worker.name)]
    assert (seen[-1].state, seen[-1].left, seen[-1].is_inbox) == (None, 0, False)
    assert worker.is_stopping
    await stage.stop(worker)  # returns at once: its run has ended or ends


async def test_a_request_outlives_the_connection_and_the_session_of_the_worker(stage: Stage) -> None:
    await stage.play_primary()
    worker = await stage.worker()
    stage.break_connections()
    await ask_worker(stage.zk, worker.name, DRAIN)
    await until_state(stage, worker, DRAINED)
    before = worker.name
    await stage.expire(worker)
    await stage.until_registered(worker, unlike=before)
    await until_state(stage, worker, DRAINED)
    assert (await record_of(stage, worker)).request == DRAIN


async def test_the_same_request_again_changes_nothing(stage: Stage) -> None:
    await stage.play_primary()
    worker = await stage.worker()
    await ask_worker(stage.zk, worker.name, DRAIN)
    await until_state(stage, worker, DRAINED)
    assert (await ask_worker(stage.zk, worker.name, DRAIN)).state == DRAINED


async def test_the_worker_does_not_overwrite_a_request_that_it_has_not_read(stage: Stage) -> None:
    from herdmaster.roles.worker.own_znode import OwnZnode

    await stage.play_primary()
    await stage.zk.create(path := layout.worker_path("worker-aa"), encode_record(WorkerRecord(1, request=NO_REQUEST)))
    own = OwnZnode(stage.zk, "worker-aa")
    await ask_worker(stage.zk, "worker-aa", DRAIN)
    assert await own.write(encode_record(WorkerRecord(1, request=NO_REQUEST))) is None
    found = decode_worker(await stage.data(path))
    assert found is not None
    assert found.request == DRAIN


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"Idle", "is a worker of the reference, and takes no requests"),
        (b"\xff", "has a record that this version cannot read"),
        (encode_record(WorkerRecord(1, host="h7", pid=7, version="0.1.0")), "send SIGTERM to process 7 on h7"),
        (encode_record(WorkerRecord(1, request=STOP)), "is stopping already"),
    ],
)
async def test_a_worker_that_cannot_take_the_request_is_left_alone(stage: Stage, data: bytes, reason: str) -> None:
    await stage.play_primary()
    await stage.put(path := layout.worker_path("worker-aa"), data=data)
    with pytest.raises(HerdError, match=reason):
        await ask_worker(stage.zk, "worker-aa", DRAIN)
    assert await stage.data(path) == data


async def test_a_worker_that_is_not_alive_is_told_from_those_that_are(stage: Stage) -> None:
    await stage.play_primary()
    with pytest.raises(HerdError, match="worker-aa is not alive: no worker is"):
        await ask_worker(stage.zk, "worker-aa", DRAIN)
    await stage.put(layout.worker_path("worker-bb"), data=b"Idle")
    with pytest.raises(HerdError, match="worker-aa is not alive: there are worker-bb"):
        await ask_worker(stage.zk, "worker-aa", DRAIN)


async def test_under_a_reference_primary_a_worker_can_be_stopped_and_not_drained(stage: Stage) -> None:
    await stage.play_primary(REFERENCE)
    worker = await stage.worker()
    with pytest.raises(HerdError, match="the primary is a program of the reference"):
        await ask_worker(stage.zk, worker.name, DRAIN)
    await ask_worker(stage.zk, worker.name, STOP)
    await until(lambda: worker.is_stopping, "it to stop")


async def test_a_worker_that_came_back_under_another_name_is_found(stage: Stage) -> None:
    await stage.play_primary()
    old = WorkerRecord(1, host="h", pid=7, request=STOP)
    assert await find_successor(stage.zk, old) is None
    await stage.put(layout.worker_path("worker-bb"), data=encode_record(WorkerRecord(1, host="h", pid=7, request="")))
    assert await find_successor(stage.zk, old) == "worker-bb"


async def test_a_wait_shows_what_still_runs(stage: Stage) -> None:
    from herdmaster.core.progress import encode_progress

    await stage.play_primary()
    await stage.put(layout.worker_path("worker-aa"), data=encode_record(WorkerRecord(1, state=DRAINING, request=DRAIN)))
    await stage.put(layout.inbox_path("worker-aa"), layout.assignment_path("worker-aa", name := new_raw_name()))
    await stage.put(layout.progress_path("worker-aa"), data=encode_progress([TaskProgress(name, 5)]))
    async for seen in watch_drain(stage.zk, "worker-aa"):
        assert (seen.state, seen.left, [each.task for each in seen.running]) == (DRAINING, 1, [name])
        break
