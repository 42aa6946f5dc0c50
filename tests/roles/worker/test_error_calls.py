"""`on_error` is called once for each attempt that failed, with the error that the submitter is given."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.history import EndState
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.roles.worker.error_calls import EndedTask, ErrorCalls
from herdmaster.running.current import CurrentTask
from herdmaster.running.hooks import Hooks
from tests.roles import app
from tests.roles.stage import Stage, StagedWorker, new_call_name, until
from tests.roles.worker.failing import FUNCTIONS, Told, assign, error_of

pytestmark = pytest.mark.long


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def worker(stage: Stage, told: Told) -> StagedWorker:
    await stage.play_primary()
    return await stage.worker(FUNCTIONS, app=app.APP, hooks=told.hooks, slots=16)


async def test_the_hook_is_told_of_an_attempt_that_is_tried_again(
    stage: Stage, worker: StagedWorker, told: Told, tmp_path: Path
) -> None:
    raised = await assign(stage, worker, "divide", 0)
    late = await assign(stage, worker, "nap", 60, str(tmp_path / "late"), timeout=0.3, max_attempts=2, backoff=100.0)

    async def are_delayed() -> bool:
        return {name.partition("-")[2] for name in await stage.names(layout.DELAYED)} == {raised, late}

    await until(are_delayed, "both to be delayed", 40.0)
    await until(lambda: bool(told.errors_of(late)), "the hook to be called")
    assert [call.kind for call in told.errors_of(raised)] == ["ZeroDivisionError"]
    assert [call.kind for call in told.errors_of(late)] == ["TimeLimitExceeded"]
    assert told.final == []


async def test_the_final_failure_is_told_once_the_last_attempt_has_failed(
    stage: Stage, worker: StagedWorker, told: Told
) -> None:
    name, garbage, raw = new_call_name(), new_call_name(), "task-0000000001"
    call = Call(1, "m:divide", *encode_arguments((0,), {}), attempt=2)  # of 2
    await stage.put(layout.assignment_path(worker.name, name), data=encode_call(call))
    await stage.put(layout.assignment_path(worker.name, garbage), data=b"garbage")
    await stage.put(layout.assignment_path(worker.name, raw), data=b"raw")
    done = await assign(stage, worker, "divide", 1)
    await until(lambda: bool(told.final_of(name) and told.final_of(garbage)), "the hook to be called")

    assert [(call.attempt, call.kind) for call in told.final_of(name)] == [(2, "ZeroDivisionError")]
    assert [(call.attempt, call.kind) for call in told.final_of(garbage)] == [(1, "BadPayload")]
    for ended in (done, raw):
        await until(lambda ended=ended: stage.exists(layout.status_path(ended)), "it to be done")  # type: ignore[misc]
    assert {call.task for call in told.final} == {name, garbage}


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (EndState.FAILED, "ValueError"),
        (EndState.BURIED, "ValueError"),
        (EndState.REFUSED, "ValueError"),
        (EndState.EXPIRED, "TaskExpired"),
        (EndState.RETRIED, None),
        (EndState.DONE, None),
    ],
)
async def test_every_end_but_done_is_a_final_failure(result: EndState, kind: str | None) -> None:
    told = Told()
    calls = ErrorCalls(told.hooks)
    error = ErrorInfo("ValueError", "no") if kind == "ValueError" or result is EndState.RETRIED else None
    calls.call_final(AttemptEnd("task-1", "m:f", "default", result, ended=1, attempt=3, error=error, max_attempts=3))
    await calls.finish()

    assert [(call.attempt, call.kind) for call in told.final_of("task-1")] == ([] if kind is None else [(3, kind)])


def test_a_hook_sees_of_an_ended_task_what_its_end_says() -> None:
    end = AttemptEnd("task-1", "m:f", "default", EndState.FAILED, ended=9, attempt=3, max_attempts=5, began=4)
    task = EndedTask(end)

    assert (task.name, task.call_name, task.attempt, task.options.max_attempts) == ("task-1", "m:f", 3, 5)
    assert task.started == 4
    assert EndedTask(msgspec.structs.replace(end, began=None)).started == 9


async def test_the_hook_is_not_told_of_code_that_was_stopped_because_its_task_was_taken_away(
    stage: Stage, worker: StagedWorker, told: Told
) -> None:
    for function in ("spin_for_ever", "spin_and_return", "sleep_and_return"):
        name = await assign(stage, worker, function)
        await until(lambda name=name: name in worker.running, "it to run")  # type: ignore[misc]  # mypy's own
        before = set(threading.enumerate())
        await stage.zk.delete(layout.assignment_path(worker.name, name))
        await until(lambda name=name: name not in worker.running, "it to be stopped")  # type: ignore[misc]  # as above
        if function != "sleep_and_return":
            await until(lambda before=before: not before <= set(threading.enumerate()), "its thread to end")  # type: ignore[misc]

    assert told.errors == []


async def test_a_hook_that_blocks_stops_neither_the_session_nor_other_tasks(stage: Stage) -> None:
    entered, release = threading.Event(), threading.Event()

    def block(_task: CurrentTask, _error: BaseException) -> None:
        entered.set()
        release.wait(30)

    await stage.play_primary()
    worker = await stage.worker(FUNCTIONS, app=app.APP, hooks=Hooks(on_error=block))
    for _ in range(6):  # more than there are threads for it
        await error_of(stage, await assign(stage, worker, "large", expires=1))
    await until(entered.is_set, "the hook to be called")
    began = time.monotonic()
    assert (await error_of(stage, await assign(stage, worker, "absent")))[0] == "UnknownCall"
    assert time.monotonic() - began < 20
    release.set()
    await stage.stop(worker)
