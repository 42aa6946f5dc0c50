"""The task whose code is running, as that code may see it, and what it says of its progress."""

from __future__ import annotations

import math
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import msgspec

from herdmaster.core.names import DEFAULT_QUEUE, parse_task_name
from herdmaster.core.options import RunOptions
from herdmaster.core.progress import MAX_NOTE
from herdmaster.errors import ConfigurationError, NoCurrentTask


class Said(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="said"):
    """The progress that a task last spoke of."""

    done: float
    total: float | None = None
    note: str = ""


class Awaited(msgspec.Struct, frozen=True, array_like=True, tag="awaited"):
    """The tasks that a task waits for now."""

    names: tuple[str, ...]


class HookClaim:
    """Which side calls the hooks for the end of one run: the thread or loop of its code, or the worker, which gave the
    code up. It is the side that takes the claim first."""

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token = [None]

    @property
    def is_taken(self) -> bool:
        return not self._token

    def take(self) -> bool:
        """True for the first caller only. Any thread may call it."""
        try:
            self._token.pop()
        except IndexError:
            return False
        return True


class Running(Protocol):
    """One run of a task's code. `started` in unix milliseconds. `say`, `begin_wait` and `end_wait` are called by any
    thread; the last two with the name of the task that the code waits for. `hook_claim` is None where the code is not
    given up while it runs on."""

    @property
    def name(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def options(self) -> RunOptions: ...

    @property
    def started(self) -> int: ...

    @property
    def hook_claim(self) -> HookClaim | None: ...

    def say(self, said: Said, /) -> None: ...

    def begin_wait(self, task: str, /) -> None: ...

    def end_wait(self, task: str, /) -> None: ...


class CurrentTask:
    """What a task's code may know of itself. `deadline` is when its `timeout` ends it, None without one."""

    __slots__ = ("_running", "attempt", "deadline", "max_attempts", "name", "queue")

    def __init__(self, running: Running) -> None:
        options = running.options
        parsed = parse_task_name(running.name)
        self._running = running
        self.name: str = running.name
        self.attempt: int = running.attempt
        self.max_attempts: int = options.max_attempts
        self.queue: str = parsed.queue if parsed is not None else DEFAULT_QUEUE
        self.deadline: datetime | None = None
        if options.timeout is not None:
            started = datetime.fromtimestamp(running.started / 1000, UTC)
            self.deadline = started + timedelta(seconds=options.timeout)

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Says how far the task is: `done` of `total`, in whatever it counts. Costs next to nothing, so that a loop may
        say it each time; others see it within three seconds. Raises ConfigurationError for what are no numbers.
        """
        _check_number(done)
        if total is not None:
            _check_number(total)
        self._running.say(Said(done, total, str(note)[:MAX_NOTE]))

    def __repr__(self) -> str:
        return f"<CurrentTask {self.name}, attempt {self.attempt} of {self.max_attempts}>"


def _check_number(value: object) -> None:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigurationError(f"progress takes numbers, `done` and perhaps `total`, not {value!r}")


running_now: Final[ContextVar[Running]] = ContextVar("herdmaster.running")


def current_task() -> CurrentTask:
    """The task whose code calls this. Raises NoCurrentTask outside of one, and in threads that a task has started
    without its context (`contextvars.copy_context().run` gives it to them)."""
    try:
        return CurrentTask(running_now.get())
    except LookupError:
        raise NoCurrentTask("no task runs here: current_task() is for a task's own code, on the worker") from None
