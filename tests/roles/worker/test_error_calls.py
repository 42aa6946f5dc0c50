"""`on_error` is called once for each attempt that failed, with the error that the submitter is given."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from herdmaster.core import layout
from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.history import Result
from herdmaster.core.options import Overrides, PoolKind, RunOptions
from herdmaster.core.outcome import OutcomeState, decode_outcome, exception_of
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.roles.worker.error_calls import ErrorCalls
from herdmaster.running.current import CurrentTask, current_task
from herdmaster.running.hooks import Hooks
from herdmaster.running.registration import Registration
from tests.roles import app
from tests.roles.stage import Stage, StagedWorker, new_call_name, until

pytestmark = pytest.mark.long

ALL_ASKED = tuple(f"worker-{number}" for number in range(20))


class Told:
    """Hooks that remember what they were called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, object]] = []
        self.final: list[tuple[str, int, str, str]] = []
        self.threads: set[threading.Thread] = set()
        self.hooks = Hooks(
            before_task=lambda task: None,
            after_task=lambda task, result: self.calls.append((task.name, "returned", result)),
            on_error=self._on_error,
            on_final_failure=self._on_final_failure,
        )

    def _on_error(self, task: CurrentTask, error: BaseException) -> None:
        assert current_task().name == task.name
        self.threads.add(threading.current_thread())
        self.calls.append((task.name, type(error).__name__, str(error)))

    def _on_final_failure(self, task: CurrentTask, error: BaseException) -> None:
        assert current_task().name == task.name
        self.threads.add(threading.current_thread())
        self.final.append((task.name, task.attempt, type(error).__name__, str(error)))

    def final_of(self, name: str) -> list[tuple[int, str, object]]:
        return [(attempt, kind, what) for task, attempt, kind, what in self.final if task == name]

    def of(self, name: str) -> list[tuple[str, object]]:
        return [(kind, what) for task, kind, what in self.calls if task == name]


def spin_for_ever() -> None:
    """Ends only by what is raised in its thread, and then raises something else."""
    try:
        while True:
            pass
    finally:
        raise LookupError("of the code that was given up")


def spin_and_return() -> str:
    try:
        while True:
            pass
    except BaseException:  # noqa: BLE001 - as careless code does
        return "late"


async def sleep_and_return() -> str:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "late"
    raise AssertionError("it was not cancelled")


async def cancel_itself() -> None:
    raise asyncio.CancelledError


def large() -> str:
    return "x" * 1_000_000


FUNCTIONS = {
    **app.functions(PoolKind.PROCESS),
    "m:spin_for_ever": spin_for_ever,
    "m:spin_and_return": spin_and_return,
    "m:sleep_and_return": sleep_and_return,
    "m:cancel_itself": cancel_itself,
    "m:large": large,
    "m:divide": Registration(lambda x: 1 / x, RunOptions(max_attempts=2, backoff=100.0)),
}


async def assign(
    stage: Stage, worker: StagedWorker, function: str, *args: object, expires: int | None = None, **options: object
) -> str:
    name = new_call_name()
    wanted = Overrides(**options) if options else None  # type: ignore[arg-type]
    asked = ALL_ASKED if function == "absent" or args == ("one too many",) else ()
    call = Call(1, f"m:{function}", *encode_arguments(args, {}), options=wanted, expires=expires, asked=asked)
    await stage.put(layout.assignment_path(worker.name, name), data=encode_call(call))
    return name


async def error_of(stage: Stage, name: str) -> tuple[str, object]:
    """What its submitter is given."""
    await until(lambda: stage.exists(layout.status_path(name)), f"the outcome of {name}", 40.0)
    outcome = decode_outcome(name, await stage.data(layout.status_path(name)))
    assert outcome.state is not OutcomeState.DONE
    error = exception_of(outcome)
    return type(error).__name__, str(error)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def worker(stage: Stage, told: Told) -> StagedWorker:
    await stage.play_primary()
    return await stage.worker(FUNCTIONS, app=app.APP, hooks=told.hooks, slots=16)


async def test_the_hook_is_told_once_what_the_submitter_is_told(
    stage: Stage, worker: StagedWorker, told: Told, tmp_path: Path
) -> None:
    expected = {
        await assign(stage, worker, "spin_for_ever", timeout=0.3): "TimeLimitExceeded",
        await assign(stage, worker, "spin_and_return", timeout=0.3): "TimeLimitExceeded",
        await assign(stage, worker, "sleep_and_return", timeout=0.3): "TimeLimitExceeded",
        await assign(stage, worker, "nap", 60, str(tmp_path / "nap"), timeout=0.5): "TimeLimitExceeded",
        await assign(stage, worker, "die", 7): "TaskDied",
        await assign(stage, worker, "fill", 900, memory_limit=300 * 1024 * 1024): "TaskDied",
        await assign(stage, worker, "cancel_itself"): "TaskDied",
        await assign(stage, worker, "large", "one too many"): "WrongArguments",
        await assign(stage, worker, "large"): "ResultTooLarge",
        await assign(stage, worker, "absent"): "UnknownCall",
        await assign(stage, worker, "large", expires=1): "TaskExpired",
        await assign(stage, worker, "where", expires=1): "TaskExpired",
        await assign(stage, worker, "large", pool=PoolKind.ASYNCIO): "TaskFailed",  # ConfigurationError, on the worker
    }
    for name, kind in expected.items():
        seen = await error_of(stage, name)
        assert seen[0] == kind
        await until(lambda name=name: bool(told.of(name)), "the hook to be called")  # type: ignore[misc]  # mypy's own
        failures = [call for call in told.of(name) if call[0] != "returned"]
        assert failures == [seen]
        await until(lambda name=name: bool(told.final_of(name)), "on_final_failure to be called")  # type: ignore[misc]
        assert told.final_of(name) == [(1, *seen)]

    threads = [thread for thread in told.threads if thread.name == "herdmaster-on-error"]
    assert threads
    assert threading.current_thread() not in told.threads
    returned = {name for name, kind, _ in told.calls if kind == "returned"}
    assert {expected[name] for name in returned} == {"ResultTooLarge"}


async def test_the_hook_is_told_of_an_attempt_that_is_tried_again(
    stage: Stage, worker: StagedWorker, told: Told, tmp_path: Path
) -> None:
    raised = await assign(stage, worker, "divide", 0)
    late = await assign(stage, worker, "nap", 60, str(tmp_path / "late"), timeout=0.3, max_attempts=2, backoff=100.0)

    async def are_delayed() -> bool:
        return {name.partition("-")[2] for name in await stage.names(layout.DELAYED)} == {raised, late}

    await until(are_delayed, "both to be delayed", 40.0)
    await until(lambda: bool(told.of(late)), "the hook to be called")
    assert [kind for kind, _ in told.of(raised)] == ["ZeroDivisionError"]
    assert [kind for kind, _ in told.of(late)] == ["TimeLimitExceeded"]
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

    assert [(attempt, kind) for attempt, kind, _ in told.final_of(name)] == [(2, "ZeroDivisionError")]
    assert [(attempt, kind) for attempt, kind, _ in told.final_of(garbage)] == [(1, "BadPayload")]
    for ended in (done, raw):
        await until(lambda ended=ended: stage.exists(layout.status_path(ended)), "it to be done")  # type: ignore[misc]
    assert {task for task, *_ in told.final} == {name, garbage}


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (Result.FAILED, "ValueError"),
        (Result.BURIED, "ValueError"),
        (Result.REFUSED, "ValueError"),
        (Result.EXPIRED, "TaskExpired"),
        (Result.RETRIED, None),
        (Result.DONE, None),
    ],
)
async def test_every_end_but_done_is_a_final_failure(result: Result, kind: str | None) -> None:
    told = Told()
    calls = ErrorCalls(told.hooks)
    error = ErrorInfo("ValueError", "no") if kind == "ValueError" or result is Result.RETRIED else None
    calls.call_final(AttemptEnd("task-1", "m:f", "default", result, ended=1, attempt=3, error=error, max_attempts=3))
    await calls.finish()

    assert [(attempt, name) for attempt, name, _ in told.final_of("task-1")] == ([] if kind is None else [(3, kind)])


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

    assert told.calls == []


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
    assert time.monotonic() - began < 10
    release.set()
    await stage.stop(worker)
