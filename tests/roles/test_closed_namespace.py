"""Roles in a closed namespace, each with the rights of its identity and no more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.access import Identity, Kind, kind_of
from herdmaster.core.keys import KeyHolds
from herdmaster.core.members import DRAIN, DRAINED, NO_REQUEST, decode_worker
from herdmaster.core.options import Overrides, RunOptions
from herdmaster.core.outcome import OutcomeState
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.core.queues import QueueSettings
from herdmaster.core.schedules import Schedule
from herdmaster.core.timetable import Every
from herdmaster.core.transitions import NewTask
from herdmaster.errors import DuplicateTask, NotSubmitted
from herdmaster.inspection.diagnosis import diagnose
from herdmaster.inspection.history import read_history
from herdmaster.inspection.reading import Unreadable
from herdmaster.inspection.schedules import read_schedules
from herdmaster.inspection.snapshot import take_snapshot
from herdmaster.inspection.task_seen import TaskFilter, TaskState
from herdmaster.inspection.tasks import Inspector
from herdmaster.operations import actions, keys, schedules
from herdmaster.operations.access import close_znodes, put_policy
from herdmaster.operations.workers import ask_worker
from herdmaster.roles.client.client import ClientSettings
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.roles.primary.sweeper import Ages
from herdmaster.roles.shared.access import acl_of_kind, use_policy
from herdmaster.roles.worker.worker import WorkerSettings
from herdmaster.running.registration import Function, Registration
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import CreateMode
from tests.closed import POLICY, reopen_namespace, session_of
from tests.roles.closed_stage import ClosedStage, closed_stage, deviating, note_creations, refusals, system_of
from tests.roles.keyed import keyed
from tests.roles.stage import (
    TIMEOUT,
    StagedClient,
    StagedMaster,
    StagedWorker,
    new_call,
    new_call_name,
    until,
)


@pytest.fixture
async def stage(namespace: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[ClosedStage]:
    """In a closed namespace; the test looks as a master."""
    caplog.set_level(logging.INFO, "herdmaster")
    async with closed_stage(namespace) as stage:
        yield stage


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The path and the ACL of everything that a client in this process has created since."""
    return note_creations(monkeypatch)


def failing_call() -> NewTask:
    options = Overrides(max_attempts=2, backoff=0.0)
    payload = encode_call(Call(1, "m:fail", *encode_arguments((), {}), options=options))
    return NewTask(new_call_name(), payload)


def fail() -> None:
    raise ValueError("it fails")


FUNCTIONS: dict[str, Function | Registration] = {
    "m:f": lambda *args: sum(args),
    "m:fail": Registration(fail, RunOptions()),
}


@pytest.mark.long
async def test_all_features_work_with_nothing_but_the_rights_of_each_identity(
    stage: ClosedStage, created: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    await stage.master()
    worker = await stage.worker(FUNCTIONS)
    client, other = await stage.client(), await stage.client()
    async with session_of(stage.hosts, Identity.MASTER) as operator, session_of(stage.hosts, Identity.CLIENT) as caller:
        for each in (operator, caller):
            await use_policy(each)
        await play_tasks(stage, client, other)
        await play_keys(client, caller)
        await play_failures(stage, client, operator)
        await play_operations(stage, client, operator, worker)
        await play_schedules(caller)
    await stage.stop(worker)
    await stage.stop(client)
    assert {path: acl for path, acl in created.items() if acl != acl_of_kind(POLICY, kind_of(path))} == {}
    kinds = {kind_of(path) for path in created}
    assert {
        Kind.TASK, Kind.DELAYED_TASK, Kind.ASSIGNMENT, Kind.OUTCOME, Kind.DEAD_TASK, Kind.CANCEL_REQUEST, Kind.KEY,
        Kind.INBOX, Kind.WORKER, Kind.WORKER_PROGRESS, Kind.MASTER, Kind.MASTER_RECORD, Kind.JOURNAL, Kind.ALIVE,
        Kind.AWAITED, Kind.WAITER, Kind.QUEUE, Kind.BATCH, Kind.SCHEDULE, Kind.TICK,
    } <= kinds  # fmt: skip
    assert await deviating(stage) == []
    assert refusals(caplog) == []


async def play_tasks(stage: ClosedStage, client: StagedClient, other: StagedClient) -> None:
    """Plain, delayed and cancelled tasks, and outcomes of which another client knows the name."""
    assert (await client.put_raw().outcome()).state is OutcomeState.DONE
    assert await client.put_call("m:f", 1, 2).result() == 3
    soon = int(time.time() * 1000) + 300
    assert await client.put(msgspec.structs.replace(new_call("m:f", 4), due_ms=soon)).result() == 4

    gate = stage.gate()
    gated = await stage.worker({"m:g": lambda: gate("g", b"")}, queues=("gated",))
    shared = client.put_call("m:g", queue="gated")
    waiting = other.wait_by_name(shared.name)
    await until(lambda: gate.entered == ["g"], "it to run")
    await stage.until_exists(layout.progress_path(gated.name))
    answers: list[bool] = []
    running = client.put_call("m:g", queue="gated")
    await until(lambda: len(gate.entered) == 2, "the other to run")
    client.cancels.request(running.name, answers.append)
    assert (await running.outcome()).state is OutcomeState.CANCELLED
    await until(lambda: answers == [True], "the answer")
    gate.open()
    assert (await shared.outcome()).state is (await waiting.outcome()).state is OutcomeState.DONE
    await stage.stop(gated)


async def play_keys(client: StagedClient, caller: Client) -> None:
    unique = keyed(due_ms=int(time.time() * 1000) + 600_000)
    await client.put(unique).accepted
    with pytest.raises(DuplicateTask):
        await client.put(keyed()).accepted
    assert await keys.KeyRelease("the key", "m:f").run(caller) == unique.name
    assert (await client.put(keyed()).outcome()).state is OutcomeState.DONE
    assert await actions.cancel(caller, unique.name, 5.0) is actions.CancelVerdict.CANCELLED


async def play_failures(stage: ClosedStage, client: StagedClient, operator: Client) -> None:
    """Retries, dead tasks, and their replay."""
    task = failing_call()
    assert (await client.put(task).outcome()).state is OutcomeState.FAILED
    await stage.until_exists(layout.dead_path(task.name))
    new_name = new_call_name()
    assert await actions.replay(operator, task.name, new_name)
    await stage.until_exists(layout.dead_path(new_name))
    assert await actions.purge(operator, new_name)


async def play_operations(stage: ClosedStage, client: StagedClient, operator: Client, worker: StagedWorker) -> None:
    """Limits of queues, and a drain that an operator asks for."""
    await actions.change_queue(operator, "default", lambda _: QueueSettings(paused=True))
    await actions.change_queue(operator, "default", lambda _: QueueSettings(max_running=2))
    assert await client.put_call("m:f", 5).result() == 5
    await ask_worker(operator, worker.name, DRAIN)

    async def is_drained() -> bool:
        record = decode_worker(await stage.data(layout.worker_path(worker.name)))
        return record is not None and record.state == DRAINED

    await until(is_drained, "the drain")
    await ask_worker(operator, worker.name, NO_REQUEST)
    assert await client.put_call("m:f", 6).result() == 6


async def play_schedules(caller: Client) -> None:
    """A client's schedule runs, is changed and removed."""
    payload = encode_call(Call(1, "m:f", *encode_arguments((7,), {}), outcome=False))
    plan = Schedule(id="0a1b2c3d", timetable=Every(1000), payload=msgspec.Raw(payload))
    await schedules.add_schedule(caller, "often", plan)

    async def has_run() -> bool:
        (stored,) = await read_schedules(caller)
        return stored.tick is not None and stored.tick.runs > 0

    await until(has_run, "the schedule")
    await schedules.run_schedule(caller, "often", "01arz3ndektsv4rrffq69g5fav", int(time.time() * 1000))
    await schedules.pause_schedule(caller, "often")
    await schedules.resume_schedule(caller, "often")
    assert await schedules.remove_schedule(caller, "often")


async def test_a_worker_may_compare_its_apps_schedules_with_the_stored_ones(stage: ClosedStage) -> None:
    await stage.master()
    payload = encode_call(Call(1, "m:f", *encode_arguments((), {}), outcome=False))
    plan = Schedule(id="0a1b2c3d", timetable=Every(3_600_000), payload=msgspec.Raw(payload))
    async with session_of(stage.hosts, Identity.CLIENT) as caller, session_of(stage.hosts, Identity.WORKER) as worker:
        await use_policy(caller)
        await schedules.add_schedule(caller, "hourly", plan)
        (stored,) = await read_schedules(worker)
        assert stored.tick is not None
        with pytest.raises(errors.NoAuth):
            await schedules.remove_schedule(worker, "hourly")


@pytest.mark.long
async def test_a_backup_takes_over_and_a_lost_workers_tasks_run_elsewhere(
    stage: ClosedStage, caplog: pytest.LogCaptureFixture
) -> None:
    primary = await stage.master()
    backup = await stage.master(is_primary=False)
    gate = stage.gate()
    lost = await stage.worker({"m:g": lambda: gate("g", b"")})
    client = await stage.client()
    started = [client.put_call("m:g") for _ in range(3)]
    await until(lambda: len(gate.entered) == 3, "the tasks to run")
    await stage.abandon(primary)
    await stage.abandon(lost)
    await until(lambda: backup.is_primary, "the takeover")
    await stage.worker({"m:g": lambda: 1})  # each start is marked: a delivery is behind it
    more = [client.put_call("m:g") for _ in range(20)]
    assert [await each.result() for each in (*started, *more)] == [1] * 23
    assert await deviating(stage) == []
    assert refusals(caplog) == []


@pytest.mark.long
async def test_a_master_may_sweep_what_others_left(stage: ClosedStage, caplog: pytest.LogCaptureFixture) -> None:
    stage.ages = Ages(outcome=1.0, dead=1.0, journal=1.0, history=1.0)
    await stage.master()
    worker = await stage.worker(FUNCTIONS)
    client = await stage.client()
    assert (await client.put(failing_call()).outcome()).state is OutcomeState.FAILED
    assert (await client.put(keyed(holds=KeyHolds.ALWAYS)).outcome()).state is OutcomeState.DONE
    client.put_raw()
    await stage.abandon(client)
    await stage.stop(worker)

    async def is_empty() -> bool:
        folders = (
            layout.DEAD,
            layout.STATUS,
            layout.KEYS,
            layout.CLIENTS,
            layout.HISTORY,
            layout.WAITERS,
            layout.ASSIGN,
        )
        return not any([await stage.names(folder) for folder in folders])

    await until(is_empty, "the sweep", 20.0)
    assert refusals(caplog) == []


@pytest.mark.long
async def test_an_observer_sees_everything_and_changes_nothing(stage: ClosedStage) -> None:
    await stage.master()
    await stage.worker(FUNCTIONS)
    client = await stage.client()
    assert (await client.put(failing_call()).outcome()).state is OutcomeState.FAILED
    late = NewTask(new_call_name(), failing_call().data, int(time.time() * 1000) + 600_000)
    await client.put(late).accepted
    await client.put_call("m:f", queue="unserved").accepted
    unreadable = Unreadable()
    async with session_of(stage.hosts, Identity.OBSERVER) as observer:
        await use_policy(observer)
        snapshot = await take_snapshot(observer, unreadable)
        found = {finding.code for finding in diagnose((), snapshot)}
        tasks = [seen async for seen in Inspector(observer, unreadable).list_tasks(TaskFilter())]
        await read_history(observer, 0, int(time.time() * 1000))
        keys_held = [key async for key in keys.list_keys(observer, unreadable)]
        with pytest.raises(errors.NoAuth):
            await actions.cancel(observer, late.name, 1.0)
    assert str(unreadable) == "nothing was left out"
    assert (snapshot.overview.clients, len(snapshot.overview.workers), keys_held) == (1, 1, [])
    assert {seen.state for seen in tasks} == {TaskState.DELAYED, TaskState.DEAD, TaskState.PENDING}
    assert "no-worker" in found


@pytest.mark.long
async def test_a_namespace_is_closed_while_tasks_run(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    async with session_of(namespace, Identity.MASTER) as zk:
        stage = ClosedStage(namespace, zk)
        try:
            await close_while_it_runs(stage)
        finally:
            await stage.close()
            await reopen_namespace(namespace)
    assert refusals(caplog) == []


async def close_while_it_runs(stage: ClosedStage) -> None:
    await stage.master()
    await stage.worker(FUNCTIONS)
    client = await stage.client()
    gate = stage.gate()
    await stage.worker(raw=gate, queues=("default",))
    waiting = [client.put_raw() for _ in range(4)]
    tasks = [client.put_call("m:f", number) for number in range(50)]
    await put_policy(stage.zk, POLICY)
    tasks += [client.put_call("m:f", number) for number in range(50, 100)]
    async for _ in close_znodes(stage.zk, POLICY):
        if len(tasks) < 300:
            tasks.append(client.put_call("m:f", len(tasks)))
    assert [await task.result() for task in tasks] == list(range(len(tasks)))
    gate.open()
    assert {(await task.outcome()).state for task in waiting} == {OutcomeState.DONE}
    assert await deviating(stage) == []


@pytest.mark.long
async def test_a_role_with_the_id_of_another_says_once_what_it_lacks(
    stage: ClosedStage, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that is an observer may not even create its inbox."""
    worker = StagedWorker(stage.hosts, {}, WorkerSettings(session_timeout=TIMEOUT), system=system_of(Identity.OBSERVER))
    stage.start(worker)
    await until(lambda: len(refusals(caplog)) == 1, "the refusal")
    await asyncio.sleep(1.0)
    (refusal,) = refusals(caplog)
    assert refusal.startswith(
        f"worker: ZooKeeper refused: NoAuth: /assign/{worker.name}: this session lacks the right CREATE on /assign; "
        "it has presented digest"
    )
    assert refusal.endswith("; trying again every 30 s")
    began = time.monotonic()
    await stage.stop(worker)
    assert time.monotonic() - began < 20.0  # far below the 30 s


@pytest.mark.long
async def test_a_submission_without_the_right_to_is_refused(stage: ClosedStage) -> None:
    client = await stage.client(identity=Identity.OBSERVER)
    for _ in range(2):
        with pytest.raises(NotSubmitted, match="this session lacks the right CREATE on /clients"):
            await client.put_raw().accepted


async def test_a_role_without_an_identity_does_not_start(stage: ClosedStage) -> None:
    for role in (
        StagedMaster(stage.hosts, MasterSettings(session_timeout=TIMEOUT)),
        StagedWorker(stage.hosts, {}, WorkerSettings(session_timeout=TIMEOUT)),
        StagedClient(stage.hosts, ClientSettings(session_timeout=TIMEOUT)),
    ):
        with pytest.raises(errors.NoAuth, match="the right READ on /access; it has presented no credential"):
            await role.run()


@pytest.mark.long
async def test_programs_of_the_reference_are_refused_and_disturb_nothing(
    stage: ClosedStage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.master()
    await stage.worker(FUNCTIONS)
    client = await stage.client()
    async with session_of(stage.hosts) as stranger:
        for path, mode in (
            ("/master", CreateMode.EPHEMERAL),
            ("/workers/worker-1a2b", CreateMode.EPHEMERAL),
            ("/assign/worker-1a2b", CreateMode.PERSISTENT),
            ("/tasks/task-", CreateMode.PERSISTENT_SEQUENTIAL),
            ("/status/task-1", CreateMode.PERSISTENT),
        ):
            with pytest.raises(errors.NoAuth):
                await stranger.create(path, mode=mode)
        for folder in (layout.TASKS, layout.WORKERS, layout.ASSIGN, layout.STATUS):
            with pytest.raises(errors.NoAuth):
                await stranger.children(folder)
    assert await client.put_call("m:f", 1).result() == 1
    assert refusals(caplog) == []
