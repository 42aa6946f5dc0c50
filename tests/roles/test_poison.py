"""Tasks that take their workers with them, and tasks that are only near when it happens."""

from __future__ import annotations

import pytest

from herdmaster.core import layout
from herdmaster.core.outcome import decode_outcome, decode_result
from herdmaster.core.payload import decode_call, with_isolation
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.zookeeper.model import READ_ONLY_ACL
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Proxy
from tests.roles.stage import TIMEOUT, Stage, StagedWorker, call_payload, new_call_name, new_raw_name, until


async def assign(stage: Stage, worker: StagedWorker, name: str, data: bytes) -> str:
    await stage.put(layout.assignment_path(worker.name, name), data=data)
    return layout.assignment_path(worker.name, name)


async def test_the_start_of_a_task_with_a_delivery_behind_it_is_marked_before_it_runs(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker({"m:f": lambda: gate("f", b"")})
    path = await assign(stage, worker, new_call_name(), call_payload("m:f", deliveries=1))
    await until(lambda: gate.entered == ["f"], "it to run")

    call = decode_call(await stage.data(path))
    assert (call.started, call.deliveries) == (worker.name, 1)


async def test_nothing_is_marked_of_a_task_that_no_worker_was_lost_with(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker({"m:f": lambda: gate("f", b"")})
    path = await assign(stage, worker, new_call_name(), call_payload("m:f"))
    await until(lambda: gate.entered == ["f"], "it to run")

    stat = await stage.zk.exists(path)
    assert stat is not None
    assert stat.version == 0


async def test_a_task_with_a_delivery_behind_it_is_not_prefetched(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker({"m:f": lambda: gate("f", b"")}, raw=gate, slots=1)
    first = new_raw_name()
    await assign(stage, worker, first, b"")
    await until(lambda: gate.entered == [first], "the slot to be taken")
    path = await assign(stage, worker, new_call_name(), call_payload("m:f", deliveries=1))
    session = worker._session
    assert session is not None
    await until(lambda: len(session._tasks) == 2, "it to be taken in")

    assert decode_call(await stage.data(path)).started is None
    gate.open()
    await until(lambda: gate.entered == [first, "f"], "its turn")


@pytest.mark.long
async def test_only_started_tasks_lose_a_further_delivery(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker({"m:f": lambda: gate("f", b"")}, slots=1)
    started, waiting = new_call_name(), new_call_name()
    await assign(stage, worker, started, call_payload("m:f", deliveries=1))
    await until(lambda: gate.entered == ["f"], "it to run")
    await assign(stage, worker, waiting, call_payload("m:f", deliveries=1))
    session = worker._session
    assert session is not None
    await until(lambda: len(session._tasks) == 2, "the other to be taken in")
    await stage.abandon(worker)
    await stage.master()
    await stage.until_exists(layout.task_path(started))
    await stage.until_exists(layout.task_path(waiting))

    found = [decode_call(await stage.data(layout.task_path(name))) for name in (started, waiting)]
    assert [call.deliveries for call in found] == [2, 1]


def alone(function: str) -> bytes:
    return with_isolation(call_payload(function, deliveries=2))


@pytest.mark.long
async def test_nothing_runs_beside_a_suspect_of_two_lost_workers_and_what_waits_goes_elsewhere(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker({"m:f": lambda: gate("f", b""), "m:quick": lambda: 1})
    suspect, second, other = new_call_name(), new_call_name(), new_call_name()
    path = await assign(stage, worker, suspect, alone("m:f"))
    await until(lambda: gate.entered == ["f"], "it to run")
    second_path = await assign(stage, worker, second, alone("m:f"))
    other_path = await assign(stage, worker, other, call_payload("m:quick"))
    session = worker._session
    assert session is not None
    await until(lambda: len(session._tasks) == 3, "the others to be taken in")
    assert [task.name for task in session.running] == [suspect]
    assert decode_call(await stage.data(path)).started == worker.name
    assert decode_call(await stage.data(second_path)).started is None

    await stage.play_primary()  # to which what waits for long is handed back
    await stage.until_exists(layout.task_path(other))
    await stage.until_exists(layout.task_path(second))
    assert gate.entered == ["f"]
    assert not await stage.exists(other_path)


async def test_a_suspect_of_two_lost_workers_is_begun_when_nothing_else_runs(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker({"m:f": lambda: gate("f", b""), "m:quick": lambda: 1})
    await assign(stage, worker, new_call_name(), call_payload("m:f"))
    await until(lambda: gate.entered == ["f"], "the other to run")
    suspect = new_call_name()
    path = await assign(stage, worker, suspect, alone("m:quick"))
    session = worker._session
    assert session is not None
    await until(lambda: len(session._tasks) == 2, "it to be taken in")
    assert decode_call(await stage.data(path)).started is None
    gate.open()

    await stage.until_exists(layout.status_path(suspect))


async def test_past_max_deliveries_a_call_is_buried_and_its_client_is_told(stage: Stage) -> None:
    await stage.master(MasterSettings(session_timeout=TIMEOUT, max_deliveries=2))
    client = await stage.client()
    gate = stage.gate()
    submitted = client.put_call("m:kill")
    for count in range(1, 4):
        worker = await stage.worker({"m:kill": lambda: gate("kill", b"")})
        await until(lambda count=count: len(gate.entered) == count, "it to run")  # type: ignore[misc]
        await stage.expire(worker)
        await stage.stop(worker)
    outcome = await submitted.outcome()

    assert outcome.error is not None
    assert outcome.error.type == "WorkerLost"
    assert "3 workers were lost while they held it; at most 2 are allowed" in outcome.error.message
    dead = decode_call(await stage.data(layout.dead_path(submitted.name)))
    assert (dead.deliveries, dead.error) == (3, outcome.error)
    await stage.until_empty(layout.TASKS, layout.STATUS)
    await stage.until_empty(layout.ASSIGN)


async def test_a_raw_task_is_buried_too(stage: Stage) -> None:
    await stage.master(MasterSettings(session_timeout=TIMEOUT, max_deliveries=1))
    client = await stage.client()
    gate = stage.gate()
    submitted = client.put_raw(b"payload")
    for count in range(1, 3):
        worker = await stage.worker(raw=gate)
        await until(lambda count=count: len(gate.entered) == count, "it to run")  # type: ignore[misc]
        await stage.expire(worker)
        await stage.stop(worker)
    outcome = await submitted.outcome()

    assert outcome.error is not None
    assert outcome.error.type == "WorkerLost"
    assert await stage.data(layout.dead_path(submitted.name)) == b"payload"


async def test_what_was_buried_already_ends_all_the_same(stage: Stage) -> None:
    name = new_call_name()
    await stage.put(layout.dead_path(name), data=b"buried before, in part")
    await stage.put(f"/assign/worker-gone/{name}", data=call_payload("m:f", deliveries=5, started="worker-gone"))
    await stage.master()
    await stage.until_exists(layout.status_path(name))

    error = decode_outcome(name, await stage.data(layout.status_path(name))).error
    assert error is not None
    assert error.type == "WorkerLost"
    await stage.until_gone("/assign/worker-gone")


@pytest.mark.parametrize("lose", [Proxy.lose_request, Proxy.lose_reply], ids=["before", "after"])
async def test_a_mark_whose_reply_was_lost_is_made_again_and_the_task_runs_once(
    namespace: str, stage: Stage, lose: object
) -> None:
    assert callable(lose)
    async with Proxy(namespace) as proxy:
        ran: list[int] = []
        worker = await stage.worker({"m:f": ran.append}, hosts=proxy.hosts)
        name = new_call_name()
        lose(proxy, lambda opcode, body: opcode == OpCode.MULTI and name.encode() in body)
        await assign(stage, worker, name, call_payload("m:f", 1, deliveries=1))
        await stage.until_exists(layout.status_path(name))
        await stage.stop(worker)

    assert ran == [1]
    assert decode_outcome(name, await stage.data(layout.status_path(name))).error is None


async def test_a_start_that_cannot_be_marked_fails_its_task_and_holds_up_no_other(stage: Stage) -> None:
    worker = await stage.worker({"m:f": lambda: 1}, slots=1)
    bad, good = new_call_name(), new_call_name()
    path = layout.assignment_path(worker.name, bad)
    await stage.zk.create(path, call_payload("m:f", deliveries=1), acl=READ_ONLY_ACL)
    await assign(stage, worker, good, call_payload("m:f"))
    for name in (bad, good):
        await stage.until_exists(layout.status_path(name))

    error = decode_outcome(bad, await stage.data(layout.status_path(bad))).error
    assert error is not None
    assert "start cannot be marked" in error.message
    assert decode_result(decode_outcome(good, await stage.data(layout.status_path(good)))) == 1
    assert not await stage.exists(path)
