"""The task whose code is running, as that code sees it, and the progress that it reports."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Final, ParamSpec, Protocol, TypeVar

import msgspec

from herdmaster.core.names import DEFAULT_QUEUE, parse_task_name
from herdmaster.core.options import RunOptions
from herdmaster.core.payload import Scheduled
from herdmaster.core.progress import MAX_NOTE
from herdmaster.errors import ConfigurationError, NoCurrentTask
from herdmaster.running.once import OnceCalls, Saved, call_once, call_once_async

P = ParamSpec("P")
R = TypeVar("R")


class ProgressReport(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="progress"):
    """The progress that a task reported last."""

    done: float
    total: float | None = None
    note: str = ""


class WaitReport(msgspec.Struct, frozen=True, array_like=True, tag="waits"):
    """The tasks that a task is waiting for."""

    names: tuple[str, ...]


class HookClaim:
    """Decides which side calls the hooks for the end of one run: the thread or loop of its code, or the worker, which
    gave up on the code. The side that takes the claim first calls them."""

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token = [None]

    @property
    def is_taken(self) -> bool:
        return not self._token

    def take(self) -> bool:
        """Return True to the first caller only, on whatever thread."""
        try:
            self._token.pop()
        except IndexError:
            return False
        return True


class Running(Protocol):
    """One run of a task's code. `started` in unix milliseconds.

    `step` is the flow and the step of a task that is one, `missing` are the names of parents that are not done.
    `report_progress`, `begin_wait` and `end_wait` are called on any thread; the last two with the name of the task that
    the code waits for. `hook_claim` is None if the worker never gives up on code that runs on. `item` is the position
    of the item whose code runs, in a chunk. The rest is as in `once.Saving`.
    """

    @property
    def name(self) -> str: ...

    @property
    def call_name(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def options(self) -> RunOptions: ...

    @property
    def started(self) -> int: ...

    @property
    def hook_claim(self) -> HookClaim | None: ...

    @property
    def scheduled(self) -> Scheduled | None: ...

    @property
    def step(self) -> tuple[str, str] | None: ...

    @property
    def missing(self) -> tuple[str, ...]: ...

    item: int | None

    @property
    def saved(self) -> Mapping[str, msgspec.Raw]: ...

    @property
    def once_calls(self) -> OnceCalls: ...

    def may_begin_once(self) -> bool: ...

    def save(self, name: str, data: bytes, saved: Saved, /) -> None: ...

    def report_progress(self, progress: ProgressReport, /) -> None: ...

    def begin_wait(self, task: str, /) -> None: ...

    def end_wait(self, task: str, /) -> None: ...


class CurrentTask:
    """The running task, as its own code sees it. `deadline` is when its `timeout` ends it, None without one.

    For a task that a schedule has made, `schedule` is the name of the schedule, `scheduled_for` the time that the task
    is for, and `previous_scheduled_for` the time of the task that the schedule made before, None for the first. So the
    task can do what has come up between the two times, however late it runs. Both are in UTC.

    For a step of a flow, `flow` is the name of the flow (`flow-...`), `step` the id of the step, and `missing` are the
    names of the parents that are not done although the step runs: it has `on="failure"` or `optional=True`. An item of
    an `each` is named as `measure[7]`.
    """

    __slots__ = (
        "_item", "_running", "attempt", "deadline", "flow", "max_attempts", "missing", "name",
        "previous_scheduled_for", "queue", "schedule", "scheduled_for", "step",
    )  # fmt: skip

    def __init__(self, running: Running) -> None:
        options = running.options
        parsed = parse_task_name(running.name)
        self._running = running
        self._item = running.item
        self.name: str = running.name
        self.attempt: int = running.attempt
        self.max_attempts: int = options.max_attempts
        self.queue: str = parsed.queue if parsed is not None else DEFAULT_QUEUE
        self.deadline: datetime | None = None
        if options.timeout is not None:
            started = datetime.fromtimestamp(running.started / 1000, UTC)
            self.deadline = started + timedelta(seconds=options.timeout)
        scheduled = running.scheduled
        self.schedule: str | None = None if scheduled is None else scheduled.schedule
        self.scheduled_for: datetime | None = None if scheduled is None else _time(scheduled.due)
        self.previous_scheduled_for: datetime | None = None if scheduled is None else _time(scheduled.previous)
        step = running.step
        self.flow: str | None = None if step is None else step[0]
        self.step: str | None = None if step is None else step[1]
        self.missing: tuple[str, ...] = running.missing

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Report how far the task is: `done` of `total`, in any unit. Costs next to nothing, so a loop may call it in
        every round. Others see the progress within three seconds. Raises ConfigurationError for what is not a number.
        """
        _check_number(done)
        if total is not None:
            _check_number(total)
        self._running.report_progress(ProgressReport(done, total, str(note)[:MAX_NOTE]))

    def once(self, name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `fn(*args, **kwargs)`, and save its result in the task before returning it. When the task runs again,
        after a crash, a retry or a replay, return the saved result and do not call `fn`.

        `name` names the result within the task, or within one item of a chunk. The result has to be a value that JSON
        can carry. It is returned as it comes back from JSON, converted to the return hint of `fn`. `fn` is called again
        only if the run ended between the call and the save. What `fn` raises is not saved.

        Raises NotSaved if the task is no longer this worker's, so that the code must end; SavedTooLarge if the saved
        results of the task have more than 16 KiB together; NotSerializable; ConfigurationError for a name that is under
        way already; RuntimeError in a coroutine, where `once_async` is to be used.
        """
        return call_once(self._running, self._item, name, fn, *args, **kwargs)

    async def once_async(self, name: str, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """As `once`, in a coroutine: `fn` is an `async def`, or returns something to await."""
        return await call_once_async(self._running, self._item, name, fn, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<CurrentTask {self.name}, attempt {self.attempt} of {self.max_attempts}>"


def _time(unix_ms: int | None) -> datetime | None:
    return None if unix_ms is None else datetime.fromtimestamp(unix_ms / 1000, UTC)


def _check_number(value: object) -> None:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigurationError(f"progress takes numbers, `done` and perhaps `total`, not {value!r}")


running_now: Final[ContextVar[Running]] = ContextVar("herdmaster.running")


def current_task() -> CurrentTask:
    """Return the task whose code calls this. Raises NoCurrentTask outside of a task, and in threads that a task has
    started without its context (start them with `contextvars.copy_context().run`)."""
    try:
        return CurrentTask(running_now.get())
    except LookupError:
        raise NoCurrentTask("no task runs here: current_task() is for a task's own code, on the worker") from None
