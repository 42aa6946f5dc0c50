"""The end of a worker: what runs may end, the rest is handed back, and nothing is lost or run twice."""

from __future__ import annotations

import asyncio
import time

import pytest

from herdmaster.core import layout
from herdmaster.core.members import DRAINING, decode_worker
from herdmaster.roles.worker.draining import Draining
from herdmaster.roles.worker.worker import _LONG_WAIT_SECONDS
from herdmaster.zookeeper.client import Transaction
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Proxy, multi_with, request_of
from tests.roles.stage import (
    REFERENCE,
    TIMEOUT,
    Stage,
    StagedWorker,
    call_payload,
    new_call_name,
    new_raw_name,
    until,
)


@pytest.fixture(autouse=True)
async def _primary(stage: Stage) -> None:
    await stage.play_primary()


async def assign(stage: Stage, worker: StagedWorker, *names: str, data: bytes = b"payload") -> None:
    await stage.put(*(layout.assignment_path(worker.name, name) for name in names), data=data)


async def held(worker: StagedWorker, count: int) -> None:
    await until(
        lambda: worker._session is not None and len(worker._session._tasks) == count, f"{count} tasks to be held"
    )


async def begin_to_stop(stage: Stage, worker: StagedWorker) -> asyncio.Future[None]:
    """From here on it starts nothing."""
    session = worker._session
    assert session is not None
    end = asyncio.ensure_future(stage.stop(worker))
    await until(lambda: not session.may_start, "it to drain")
    return end


async def test_an_idle_worker_leaves_at_once_and_takes_its_inbox_with_it(stage: Stage) -> None:
    worker = await stage.worker()
    began = time.monotonic()
    await stage.stop(worker)

    assert time.monotonic() - began < 8.0  # the drain timeout is 10 s
    assert await stage.names(layout.WORKERS) == await stage.names(layout.ASSIGN) == []


@pytest.mark.within(9)  # everything goes back when the drain timeout of 10 s is over
async def test_what_runs_may_end_and_what_waits_goes_back_at_once(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker(raw=gate, slots=1)
    running, *waiting = (new_raw_name() for _ in range(4))
    await assign(stage, worker, running)
    await until(lambda: gate.entered == [running], "it to run")
    await assign(stage, worker, *waiting, data=b"as it was")
    await held(worker, 4)
    end = await begin_to_stop(stage, worker)
    await until(lambda: _is_in_tasks(stage, waiting), "the others to be handed back")
    record = decode_worker(await stage.data(layout.worker_path(worker.name)))
    assert record is not None
    assert record.state == DRAINING
    assert not end.done()
    gate.open()
    await end

    assert await stage.data(layout.status_path(running)) == b"done"
    assert [await stage.data(layout.task_path(name)) for name in waiting] == [b"as it was"] * 3
    assert await stage.names(layout.ASSIGN) == []
    assert gate.entered == [running]


async def _is_in_tasks(stage: Stage, names: list[str]) -> bool:
    return set(names) <= set(await stage.names(layout.TASKS))


@pytest.mark.within(9)  # everything goes back when the drain timeout of 10 s is over
async def test_what_is_assigned_while_it_drains_goes_back_too(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker(raw=gate, slots=1)
    await assign(stage, worker, running := new_raw_name())
    await until(lambda: gate.entered == [running], "it to run")
    end = await begin_to_stop(stage, worker)
    await assign(stage, worker, late := new_raw_name())
    await until(lambda: _is_in_tasks(stage, [late]), "it to be handed back")
    gate.open()
    await end

    assert gate.entered == [running]


async def test_what_outlasts_the_drain_timeout_is_handed_back_while_it_runs(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker(raw=gate, slots=1, drain_timeout=0.2)
    await assign(stage, worker, name := new_raw_name(), data=b"payload")
    await until(lambda: gate.entered == [name], "it to run")
    await stage.stop(worker)

    assert await stage.data(layout.task_path(name)) == b"payload"
    assert await stage.names(layout.ASSIGN) == await stage.names(layout.STATUS) == []


@pytest.mark.within(9)  # everything goes back when the drain timeout of 10 s is over
async def test_handing_back_marks_no_start_and_costs_no_delivery(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker({"m:f": lambda: None}, raw=gate, slots=1)
    await assign(stage, worker, running := new_raw_name())
    await until(lambda: gate.entered == [running], "the slot to be taken")
    payload = call_payload("m:f", deliveries=2)
    await assign(stage, worker, name := new_call_name(), data=payload)
    await held(worker, 2)
    end = await begin_to_stop(stage, worker)
    await until(lambda: _is_in_tasks(stage, [name]), "it to be handed back")
    gate.open()
    await end

    assert await stage.data(layout.task_path(name)) == payload


@pytest.mark.long
@pytest.mark.fallback("_TRY_LATER_SECONDS")  # then it looks again for the other copy
async def test_a_task_that_is_in_tasks_as_well_is_kept_until_the_other_copy_is_gone(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker(raw=gate, slots=1)
    await assign(stage, worker, running := new_raw_name())
    await until(lambda: gate.entered == [running], "the slot to be taken")
    name = new_raw_name()
    await stage.put(layout.task_path(name), data=b"other copy")
    await assign(stage, worker, name, data=b"this copy")
    await held(worker, 2)
    end = await begin_to_stop(stage, worker)
    gate.open()
    await stage.until_exists(layout.status_path(running))
    assert await stage.exists(layout.assignment_path(worker.name, name))
    await stage.zk.delete(layout.task_path(name))
    await end

    assert await stage.data(layout.task_path(name)) == b"this copy"


@pytest.mark.within(9)  # everything goes back when the drain timeout of 10 s is over
async def test_a_connection_that_breaks_while_it_drains_costs_nothing(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        gate = stage.gate()
        worker = await stage.worker(raw=gate, slots=1, hosts=proxy.hosts)
        running, *waiting = (new_raw_name() for _ in range(3))
        await assign(stage, worker, running)
        await until(lambda: gate.entered == [running], "it to run")
        await assign(stage, worker, *waiting)
        await held(worker, 3)
        faults = [
            proxy.lose_reply(request_of(OpCode.SET_DATA, layout.worker_path(worker.name))),  # `draining`
            proxy.lose_reply(multi_with(layout.task_path(waiting[0]))),  # handing back
            proxy.lose_reply(multi_with(layout.status_path(running))),  # the outcome
            proxy.lose_reply(multi_with(layout.worker_path(worker.name))),  # leaving
        ]
        end = await begin_to_stop(stage, worker)
        await until(lambda: _is_in_tasks(stage, waiting), "the others to be handed back")
        await faults[1].happened.wait()  # or the outcome could be on its way on that connection
        gate.open()
        await end
        assert [fault.happened.is_set() for fault in faults] == [True] * 4

    assert sorted(await stage.names(layout.TASKS)) == sorted(waiting)
    assert await stage.names(layout.STATUS) == [running]
    assert await stage.names(layout.ASSIGN) == await stage.names(layout.WORKERS) == []


@pytest.mark.long
async def test_a_server_that_is_away_does_not_keep_it_for_longer_than_its_session(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        worker = await stage.worker(hosts=proxy.hosts, session_timeout=1.0)
        proxy.refuse()
        began = time.monotonic()
        await stage.stop(worker)

    assert time.monotonic() - began < 9.0  # the drain timeout is 10 s


# --- under a primary of the reference ------------------------------------------------------------------------------


async def told_to_stop(stage: Stage, worker: StagedWorker) -> asyncio.Future[None]:
    """From here on it drains, and starts tasks all the same."""
    end = asyncio.ensure_future(stage.stop(worker))
    await until(lambda: worker.is_stopping, "it to be told")
    return end


@pytest.mark.parametrize("primary", [REFERENCE, None], ids=["reference", "none"])
async def test_under_any_other_primary_it_runs_its_inbox_empty_and_what_comes_into_it(
    stage: Stage, primary: bytes | None
) -> None:
    await (stage.zk.delete(layout.MASTER) if primary is None else stage.play_primary(primary))
    gate = stage.gate()
    worker = await stage.worker(raw=gate, slots=1)
    running, waiting, late = (new_raw_name() for _ in range(3))
    await assign(stage, worker, running, waiting)
    await held(worker, 2)
    end = await told_to_stop(stage, worker)
    await assign(stage, worker, late)
    await held(worker, 3)
    assert await stage.names(layout.WORKERS) == [worker.name]  # so that nothing of it is taken for lost
    gate.open()
    await end

    assert await stage.names(layout.STATUS) == sorted([running, waiting, late])
    assert await stage.names(layout.WORKERS) == await stage.names(layout.TASKS) == []
    # The inbox stays for what the primary assigns before it hears that the worker is gone.
    assert await stage.names(layout.ASSIGN) == [worker.name]
    assert await stage.names(layout.inbox_path(worker.name)) == []


async def test_under_a_reference_primary_it_says_what_it_leaves_when_its_time_is_over(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.play_primary(REFERENCE)
    gate = stage.gate()
    worker = await stage.worker(raw=gate, slots=1, drain_timeout=0.2)
    names = [new_raw_name() for _ in range(3)]
    await assign(stage, worker, *names)
    await held(worker, 3)
    await stage.stop(worker)

    assert await stage.names(layout.inbox_path(worker.name)) == sorted(names)
    assert await stage.names(layout.TASKS) == []
    (told,) = (message for message in caplog.messages if "leaves" in message)
    assert told.startswith(
        f"{worker.name} leaves 3 tasks in its inbox; the primary is a program of the reference: a Java"
    )
    assert not any("has drained" in message for message in caplog.messages)


async def test_under_a_curator_master_it_puts_back_what_that_would_delete(stage: Stage) -> None:
    await stage.zk.delete(layout.MASTER)
    await stage.put(f"{layout.MASTER}/_c_0-latch-0000000000", data=b"m1")
    gate = stage.gate()
    worker = await stage.worker(raw=gate, slots=1, drain_timeout=0.2)
    names = [new_raw_name() for _ in range(3)]
    await assign(stage, worker, *names, data=b"as it was")
    await held(worker, 3)
    await stage.stop(worker)

    assert await stage.names(layout.inbox_path(worker.name)) == await stage.names(layout.WORKERS) == []
    assert [await stage.data(layout.task_path(name)) for name in names] == [b"as it was"] * 3


async def test_under_a_curator_master_what_one_transaction_cannot_carry_is_put_back_in_several(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("herdmaster.roles.worker.draining.MAX_BATCH_MOVES", 2)
    await stage.zk.delete(layout.MASTER)
    await stage.put(f"{layout.MASTER}/_c_0-latch-0000000000", data=b"m1")
    worker = await stage.worker(raw=stage.gate(), slots=1, drain_timeout=0.1)
    names = [new_raw_name() for _ in range(3)]
    await assign(stage, worker, *names)
    await held(worker, 3)
    await stage.stop(worker)

    assert await stage.names(layout.inbox_path(worker.name)) == await stage.names(layout.WORKERS) == []
    assert await stage.names(layout.TASKS) == sorted(names)


async def test_under_a_curator_master_what_is_assigned_at_the_last_moment_is_put_back_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.zk.delete(layout.MASTER)
    await stage.put(f"{layout.MASTER}/_c_0-latch-0000000000", data=b"m1")
    worker = await stage.worker(raw=stage.gate(), slots=1, drain_timeout=0.2)
    first, last = new_raw_name(), new_raw_name()
    await assign(stage, worker, first)
    await held(worker, 1)
    commit = Draining._commit
    commits = 0

    async def commit_after_an_assignment(draining: Draining, transaction: Transaction) -> bool:
        nonlocal commits
        commits += 1
        if commits == 1:
            await stage.put(layout.assignment_path(worker.name, last))
        return await commit(draining, transaction)

    monkeypatch.setattr(Draining, "_commit", commit_after_an_assignment)
    await stage.stop(worker)

    assert await stage.names(layout.inbox_path(worker.name)) == await stage.names(layout.WORKERS) == []
    assert await stage.names(layout.TASKS) == sorted([first, last])
    assert commits == 2


@pytest.mark.long
async def test_a_primary_of_ours_that_takes_over_while_it_drains_gets_the_rest_back(stage: Stage) -> None:
    await stage.play_primary(REFERENCE)
    gate = stage.gate()
    worker = await stage.worker(raw=gate, slots=1)
    running, waiting = new_raw_name(), new_raw_name()
    await assign(stage, worker, running)
    await until(lambda: gate.entered == [running], "it to run")
    await assign(stage, worker, waiting)
    await held(worker, 2)
    end = await told_to_stop(stage, worker)
    await stage.play_primary()
    await until(lambda: _is_in_tasks(stage, [waiting]), "the other to be handed back")
    gate.open()
    await end

    assert await stage.names(layout.STATUS) == gate.entered == [running]
    assert await stage.names(layout.ASSIGN) == []


# --- what waits too long ---------------------------------------------------------------------------------------------


@pytest.mark.long
async def test_what_waits_long_for_a_slot_goes_back_so_that_an_idle_worker_can_have_it(stage: Stage) -> None:
    gate = stage.gate()
    worker = await stage.worker({"m:f": lambda: None}, raw=gate, slots=1)
    await assign(stage, worker, running := new_raw_name())
    await until(lambda: gate.entered == [running], "the slot to be taken")
    plain, suspect = new_raw_name(), new_call_name()
    await assign(stage, worker, plain)
    await assign(stage, worker, suspect, data=call_payload("m:f", deliveries=1))
    await until(lambda: _is_in_tasks(stage, [plain, suspect]), "both to be handed back", _LONG_WAIT_SECONDS + 15)

    assert await stage.names(layout.inbox_path(worker.name)) == [running]


@pytest.mark.long
async def test_under_a_reference_primary_nothing_is_handed_back_for_waiting(stage: Stage) -> None:
    await stage.play_primary(REFERENCE)
    gate = stage.gate()
    worker = await stage.worker(raw=gate, slots=1)
    await assign(stage, worker, running := new_raw_name())
    await until(lambda: gate.entered == [running], "the slot to be taken")
    await assign(stage, worker, waiting := new_raw_name())
    await held(worker, 2)
    session = worker._session
    assert session is not None
    since = asyncio.get_running_loop().time
    await until(lambda: session.has_waiting(since() - _LONG_WAIT_SECONDS), "it to have waited long")
    await asyncio.sleep(2 * TIMEOUT / 12)  # it has looked after itself since

    assert await stage.names(layout.inbox_path(worker.name)) == sorted([running, waiting])
    assert await stage.names(layout.TASKS) == []
