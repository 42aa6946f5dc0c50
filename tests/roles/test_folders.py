"""Folders that are deleted while every kind of move is under way are made again, and what stood elsewhere ends."""

from __future__ import annotations

import asyncio
import threading
import time

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.keys import hash_key
from herdmaster.core.options import RunOptions
from herdmaster.core.outcome import OutcomeState
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.core.transitions import NewTask
from herdmaster.operations import actions
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.roles.primary.sweeper import Ages
from herdmaster.running.registration import Registration
from tests.roles.stage import (
    TIMEOUT,
    Stage,
    StagedClient,
    Submitted,
    call_payload,
    new_call,
    new_call_name,
    until,
)

pytestmark = pytest.mark.long

SETTINGS = MasterSettings(session_timeout=TIMEOUT, orphan_inbox_seconds=1.0)
SWEEPING = MasterSettings(session_timeout=TIMEOUT, orphan_inbox_seconds=1.0, ages=Ages(dead=10.0))
"""A round of clearing away each second, which makes again what no other role needs."""
TASKS_STAND_IN = {layout.TASKS, layout.DELAYED, layout.ASSIGN, layout.STATUS, layout.DEAD}
SECONDS = 20.0
"""Within which everything has to be mended; a retry comes after 1 s, a new session after a fraction of that."""


class Code:
    """Functions that wait for a gate in their first attempt, and say then what a task's next move is."""

    def __init__(self) -> None:
        self._gate = threading.Event()
        self._lock = threading.Lock()
        self.begun = 0

    def open(self) -> None:
        self._gate.set()

    def _wait(self) -> None:
        with self._lock:
            self.begun += 1
        self._gate.wait(30)

    def complete(self) -> str:
        self._wait()
        return "completed"

    def fail(self) -> None:
        self._wait()
        raise ValueError("failed")

    def functions(self) -> dict[str, Registration]:
        now, later = RunOptions(max_attempts=2, backoff=0.0), RunOptions(max_attempts=2, backoff=0.3)
        final = RunOptions(max_attempts=2, give_up_on=("ValueError",))
        return {
            "m:complete": Registration(self.complete),
            "m:retry_now": Registration(self.fail, now),
            "m:retry_later": Registration(self.fail, later),
            "m:bury": Registration(self.fail, final),
            "m:quick": Registration(lambda: "quick"),
        }


ENDS = {
    "m:complete": OutcomeState.DONE,
    "m:retry_now": OutcomeState.FAILED,
    "m:retry_later": OutcomeState.FAILED,
    "m:bury": OutcomeState.FAILED,
    "m:quick": OutcomeState.DONE,
}


async def _leave_with_a_lost_worker(stage: Stage, client: StagedClient) -> dict[str, tuple[Submitted, OutcomeState]]:
    """Two tasks in the inbox of a worker that is gone: the primary buries the one and recovers the other."""
    worst, other = new_call_name(), new_call_name()
    await stage.until_exists(layout.ASSIGN)
    inbox = "/assign/worker-lost"
    transaction = stage.zk.transaction().create(inbox)
    transaction.create(f"{inbox}/{worst}", call_payload("m:quick", deliveries=5, started="worker-lost"))
    transaction.create(f"{inbox}/{other}", call_payload("m:quick"))
    await transaction.commit()
    return {
        "lost too often": (client.wait_by_name(worst), OutcomeState.FAILED),
        "lost": (client.wait_by_name(other), OutcomeState.DONE),
    }


def _submit_all(client: StagedClient) -> dict[str, tuple[Submitted, OutcomeState]]:
    tasks = {name: (client.put_call(name), state) for name, state in ENDS.items()}
    unknown = Call(1, "m:missing", *encode_arguments((), {}), asked=("worker-1", "worker-2", "worker-3"))
    keyed = msgspec.structs.replace(new_call("m:quick"), key_hash=hash_key("k"))
    soon = msgspec.structs.replace(new_call("m:quick"), due_ms=int(time.time() * 1000) + 300)
    large = NewTask(new_call_name(big=True), b"x" * 600_000)
    return tasks | {
        "keyed": (client.put(keyed), OutcomeState.DONE),
        "delayed": (client.put(soon), OutcomeState.DONE),
        "unknown": (client.put(NewTask(new_call_name(), encode_call(unknown))), OutcomeState.FAILED),
        "too large": (client.put(large), OutcomeState.FAILED),
        "raw": (client.put_raw(), OutcomeState.DONE),
    }


async def _ends(tasks: dict[str, tuple[Submitted, OutcomeState]]) -> None:
    for what, (submitted, state) in tasks.items():
        try:
            outcome = await submitted.outcome(SECONDS)
        except TimeoutError:
            raise TimeoutError(f"{what} has not ended") from None
        assert outcome.state is state, what


async def _folders(stage: Stage) -> set[str]:
    return {f"/{name}" for name in await stage.names("/")}


@pytest.mark.parametrize("folder", layout.FOLDERS)
@pytest.mark.fallback("TRY_LATER_SECONDS", "_TRY_LATER_SECONDS")  # then the moves are tried again
async def test_a_folder_that_is_deleted_in_the_midst_of_all_moves_is_made_again(stage: Stage, folder: str) -> None:
    await stage.master(SETTINGS if folder in TASKS_STAND_IN else SWEEPING)
    code = Code()
    worker = await stage.worker(code.functions(), slots=8)
    client = await stage.client()
    running = [name for name in ENDS if name != "m:quick"]
    before = {f"{name} before": (client.put_call(name), ENDS[name]) for name in running}
    await until(lambda: code.begun == len(running), "the tasks to run")
    registered = worker.name
    await stage.clear(folder)
    code.open()
    if folder == layout.ASSIGN:
        before = {}  # their only copies were there
    if folder in (layout.ASSIGN, layout.WORKERS):
        await stage.until_registered(worker, unlike=registered)
    await _ends(before | await _leave_with_a_lost_worker(stage, client) | _submit_all(client))

    await until(lambda: _has_all(stage), f"all folders, {folder} was deleted", SECONDS)
    await stage.until_gone("/assign/worker-lost")


async def _has_all(stage: Stage) -> bool:
    return set(layout.FOLDERS) <= await _folders(stage)


@pytest.mark.parametrize("folder", [layout.STATUS, layout.CANCEL])
@pytest.mark.fallback("TRY_LATER_SECONDS", "_TRY_LATER_SECONDS")  # then the moves are tried again
async def test_cancelling_survives_the_loss_of_a_folder(stage: Stage, folder: str) -> None:
    await stage.master(SETTINGS)
    client = await stage.client()
    later = msgspec.structs.replace(new_call("m:f"), due_ms=int(time.time() * 1000) + 3_600_000)
    delayed, waiting = client.put(later), client.put_call("m:f", queue="unserved")
    await asyncio.gather(delayed.accepted, waiting.accepted)
    await stage.clear(folder)
    for each in (delayed, waiting):
        client.cancels.request(each.name, lambda _is_cancelled: None)

    for each in (delayed, waiting):
        assert (await each.outcome(SECONDS)).state is OutcomeState.CANCELLED


@pytest.mark.parametrize("folder", [layout.DEAD, layout.STATUS])
@pytest.mark.fallback("TRY_LATER_SECONDS", "_TRY_LATER_SECONDS")  # then the moves are tried again
async def test_a_primary_alone_makes_the_folder_again_that_it_ends_tasks_in(stage: Stage, folder: str) -> None:
    await stage.master(SETTINGS)
    client = await stage.client()
    await stage.clear(folder)
    lost, _ = (await _leave_with_a_lost_worker(stage, client))["lost too often"]

    assert (await lost.outcome(SECONDS)).state is OutcomeState.FAILED
    assert await stage.names(layout.DEAD) == [lost.name]


async def test_a_dead_task_is_replayed_although_the_backlog_was_deleted(stage: Stage) -> None:
    name, new = new_call_name(), new_call_name()
    await stage.put(layout.dead_path(name), data=call_payload("m:f"))

    assert await actions.replay(stage.zk, name, new)
    assert await stage.names(layout.TASKS) == [new]


async def test_progress_is_shown_although_its_folder_was_deleted(stage: Stage) -> None:
    code = Code()
    worker = await stage.worker(code.functions())
    await stage.zk.delete(layout.PROGRESS)
    name = new_call_name()
    await stage.put(layout.assignment_path(worker.name, name), data=call_payload("m:complete"))
    try:
        await stage.until_exists(layout.progress_path(worker.name))
        assert name.encode() in await stage.data(layout.progress_path(worker.name))
    finally:
        code.open()
