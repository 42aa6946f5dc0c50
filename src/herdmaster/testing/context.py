"""A current task for plain calls, so that tests of task code need neither a worker nor a server."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from herdmaster.api import Task
from herdmaster.api.checks import check_count, check_instant, check_seconds
from herdmaster.api.internals import core_of
from herdmaster.core.children import is_child_key
from herdmaster.core.names import DEFAULT_QUEUE, UlidFactory, call_name, check_schedule_name, parse_task_name
from herdmaster.core.options import RunOptions, apply_overrides
from herdmaster.core.payload import Scheduled
from herdmaster.core.values import from_json, to_json
from herdmaster.errors import ConfigurationError, InvalidName
from herdmaster.running.current import CurrentTask, HookClaim, ProgressReport, running_now
from herdmaster.running.once import OnceCalls, Saved


class Progress(NamedTuple):
    """One call of `current_task().progress(done, total, note)`."""

    done: float
    total: float | None = None
    note: str = ""


class TestedRun:
    """The run of a task's code that `current_task()` finds in the block."""

    def __init__(self, name: str, attempt: int, options: RunOptions) -> None:
        self.name = name
        self.call_name = ""
        self.attempt = attempt
        self.options = options
        self.started = _unix_ms()
        self.hook_claim: HookClaim | None = None
        self.scheduled: Scheduled | None = None
        self.step: tuple[str, str] | None = None
        self.missing: tuple[str, ...] = ()
        self.reports: list[Progress] = []
        self.item: int | None = None
        self.saved: dict[str, msgspec.Raw] = {}
        self.once_calls = OnceCalls()

    def report_progress(self, report: ProgressReport) -> None:
        """Record progress. `current_task().progress` calls this, from any thread."""
        self.reports.append(Progress(report.done, report.total, report.note))

    def may_begin_once(self) -> bool:
        """Return True: there is no worker that could lose the task."""
        return True

    def save(self, name: str, data: bytes, saved: Saved) -> None:
        """Save a result for the rest of the block. `current_task().once` calls this, from any thread."""
        saved(self.saved.setdefault(name, msgspec.Raw(data)))

    def begin_wait(self, task: str) -> None:
        """Do nothing: there is no worker whose slot waits."""

    def end_wait(self, task: str) -> None:
        """Do nothing, as `begin_wait`."""


class TaskContext:
    """The task that code inside `task_context` finds, as the test sees it."""

    def __init__(self, run: TestedRun) -> None:
        self._run = run

    @property
    def name(self) -> str:
        """The name of the task."""
        return self._run.name

    @property
    def attempt(self) -> int:
        """The number of the attempt, from 1."""
        return self._run.attempt

    @property
    def progress(self) -> list[Progress]:
        """The progress that the code has reported so far, oldest first."""
        return list(self._run.reports)

    @property
    def saved(self) -> dict[str, object]:
        """The results that the code has saved with `once`, by their names, as they come back from JSON."""
        return {name: from_json(data) for name, data in self._run.saved.items() if not is_child_key(name)}

    @property
    def current(self) -> CurrentTask:
        """The task that `current_task()` returns inside the block."""
        return CurrentTask(self._run)


@contextlib.contextmanager
def task_context(
    task: Task[..., Any] | None = None,  # a parameter and a result of any type
    /,
    *,
    name: str | None = None,
    queue: str | None = None,
    attempt: int = 1,
    max_attempts: int | None = None,
    timeout: float | None = None,
    schedule: str = "test",
    scheduled_for: datetime | None = None,
    previous_scheduled_for: datetime | None = None,
    saved: Mapping[str, object] | None = None,
    missing: Sequence[str] = (),
) -> Iterator[TaskContext]:
    """Let plain calls in the block find a current task, as if a worker ran them: `with task_context(tasks.add):`.

    Queue, attempts and timeout are those of `task` unless they are given. `timeout` sets the deadline that the code
    sees, and ends nothing. `saved` are results that an earlier run has saved with `once`. With `scheduled_for` it is a
    task that a schedule has made, `schedule`. `missing` are the names of parents without which a step runs. Yields a
    TaskContext with what the code reports and saves. Hooks are not called. Threads that the code starts find no task,
    as on a worker.

    Raises InvalidName for a name, queue or schedule, ConfigurationError for values that no task can have,
    NotSerializable for a saved result that JSON cannot carry, TypeError for what is no task.
    """
    options = _options(task, attempt, max_attempts, timeout)
    run = TestedRun(_name(task, name, queue), attempt, options)
    run.call_name = "" if task is None else task.call
    run.scheduled = _scheduled(schedule, scheduled_for, previous_scheduled_for)
    for each, value in (saved or {}).items():
        run.saved[each] = msgspec.Raw(to_json(value, f"the saved result {each!r}"))
    run.missing = tuple(missing)
    token = running_now.set(run)
    try:
        yield TaskContext(run)
    finally:
        running_now.reset(token)


def _options(task: Task[..., Any] | None, attempt: int, max_attempts: int | None, timeout: float | None) -> RunOptions:
    if task is not None and not isinstance(task, Task):
        raise TypeError(f"task_context takes a task, such as tasks.add, not {task!r}: or leave it out")
    check_count("attempt", attempt)
    core = None if task is None else core_of(task)
    options = RunOptions() if core is None else apply_overrides(core.registered, core.options.overrides)
    if max_attempts is not None and check_count("max_attempts", max_attempts) < attempt:
        raise ConfigurationError(f"attempt={attempt}: a task has at most max_attempts={max_attempts}")
    options = msgspec.structs.replace(options, max_attempts=max_attempts or max(options.max_attempts, attempt))
    if timeout is not None:
        options = msgspec.structs.replace(options, timeout=check_seconds("timeout", timeout, zero=False))
    return options


def _scheduled(schedule: str, due: datetime | None, previous: datetime | None) -> Scheduled | None:
    before = None if previous is None else check_instant("previous_scheduled_for", previous)
    if due is None:
        if before is not None:
            raise ConfigurationError("previous_scheduled_for= needs scheduled_for=")
        return None
    return Scheduled(check_schedule_name(schedule), check_instant("scheduled_for", due), before)


def _name(task: Task[..., Any] | None, name: object, queue: str | None) -> str:
    if name is None:
        ulid = UlidFactory(_unix_ms, secrets.token_bytes).new()
        return call_name(ulid, queue or (task.queue if task is not None else DEFAULT_QUEUE))
    parsed = parse_task_name(name) if isinstance(name, str) else None
    if parsed is None:
        raise InvalidName(f"{name!r} is no task's name, such as task-01h...default: or leave it out")
    if queue is not None and parsed.queue != queue:
        raise ConfigurationError(f"queue={queue!r}: the name {name} is of queue {parsed.queue}; give one of the two")
    return parsed.name


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000
