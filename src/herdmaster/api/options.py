"""The options of a task, and their checks.

They mean the same in `@herd.task(...)`, in `task.options(...)` and in `herd.submit_call(...)`.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final, Literal, TypedDict

import msgspec

from herdmaster.api.checks import (
    check_choice,
    check_count,
    check_exceptions,
    check_flag,
    check_instant,
    check_seconds,
    read_bytes,
    read_exception_names,
)
from herdmaster.core.keys import KeyHolds, KeyScope
from herdmaster.core.names import DEFAULT_PRIORITY, DEFAULT_QUEUE, check_priority, check_queue
from herdmaster.core.options import Overrides, PoolKind, RunOptions, apply_overrides
from herdmaster.errors import ConfigurationError, InvalidName

Duration = float | timedelta
"""Seconds, or a timedelta."""
Key = str | Callable[..., str]
ExceptionKinds = type[BaseException] | str | Iterable[type[BaseException] | str]
"""Exception classes, or their names as `TaskFailed.type` has them: `module.qualname`, bare for built-in ones."""


class Options(TypedDict, total=False):
    """The options of `@herd.task(...)` and `task.options(...)`. Durations are in seconds, or timedeltas.

    - `queue`, `priority`: where the task waits; 9 runs first, 5 is the default.
    - `max_attempts`: the number of attempts in all (1). `backoff`, `max_backoff`: a retry waits a random time up to
      `backoff * 2 ** (attempt - 1)`, at most `max_backoff`. `retry_on`, `give_up_on`: the exceptions that are retried
      (any `Exception`), and those that are not; `give_up_on` wins.
    - `raises`: exception classes of your own that come back as themselves; see `Herd.exceptions`.
    - `delay` (from now) or `at` (an aware datetime): when the task is due. `expires`: a task that has not started by
      then ends as expired; a duration counts from the submission.
    - `soft_timeout` raises SoftTimeLimitExceeded in the task, `timeout` ends it. `memory_limit` (in bytes, or text such
      as "200MB") and `max_tasks_per_process` are for `pool="process"`. `pool`: "thread" (the default) or "process"; an
      `async def` has "asyncio".
    - `max_deliveries`: the number of workers that may be lost while they run the task, before it is buried.
    - `key`: text, or a function of the task's arguments that returns text. While a task or its outcome holds the key, a
      submission with the same key makes no other task: `on_duplicate="return"` returns the future of the holder,
      `"error"` raises DuplicateTask. `key_scope`: each function has separate keys ("call", the default), or all
      functions of the namespace share theirs ("global"). `key_holds`: a task that is done holds its key until its
      outcome is deleted; one that fails, expires or is cancelled frees the key at once ("done", the default), or holds
      it as a task that is done ("always").
    - `outcome_ttl`: how long the outcome is kept unless it is read before. `keep_outcome`: any number of programs may
      read it in that time, because reading does not delete it; a duration is also the `outcome_ttl`. `ignore_result`:
      no outcome is kept.
    - `child`: a task that is submitted by the code of another one is its child: if that is cancelled, or exceeds its
      time limit, the child is cancelled too. `map`, executors, schedules and steps have no children.
    - `max_backlog`: while that many tasks wait in the namespace, a submission raises BacklogFull (`on_full="error"`) or
      waits until there are fewer (`"wait"`).
    """

    queue: str
    priority: int
    max_attempts: int
    backoff: Duration
    max_backoff: Duration
    retry_on: ExceptionKinds
    give_up_on: ExceptionKinds
    raises: type[Exception] | Iterable[type[Exception]]
    delay: Duration | None
    at: datetime | None
    expires: Duration | datetime | None
    soft_timeout: Duration | None
    timeout: Duration | None
    memory_limit: int | str | None
    max_tasks_per_process: int | None
    pool: Literal["thread", "asyncio", "process"]
    max_deliveries: int | None
    key: Key | None
    key_scope: Literal["call", "global"]
    key_holds: Literal["done", "always"]
    on_duplicate: Literal["return", "error"]
    outcome_ttl: Duration | None
    keep_outcome: bool | Duration
    ignore_result: bool
    child: bool
    max_backlog: int | None
    on_full: Literal["error", "wait"]


class OnDuplicate(enum.StrEnum):
    RETURN = "return"
    ERROR = "error"


class OnFull(enum.StrEnum):
    ERROR = "error"
    WAIT = "wait"


class TaskOptions(msgspec.Struct, frozen=True):
    """Options that have been checked. Times are in milliseconds (`_at` since 1970), `outcome_ttl` in seconds.
    `overrides` are the options for the worker that differ from those that the function is registered with."""

    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    overrides: Overrides = msgspec.field(default_factory=Overrides)
    delay: int | None = None
    due_at: int | None = None
    expires: int | None = None
    expires_at: int | None = None
    max_deliveries: int | None = None
    key: Key | None = None
    key_scope: KeyScope = KeyScope.CALL
    key_holds: KeyHolds = KeyHolds.DONE
    on_duplicate: OnDuplicate = OnDuplicate.RETURN
    outcome_ttl: float | None = None
    keep_outcome: bool = False
    ignore_result: bool = False
    child: bool = False
    max_backlog: int | None = None
    on_full: OnFull = OnFull.ERROR

    def changed(self, keywords: Mapping[str, object]) -> TaskOptions:
        """Return these options with some changed. Raises TypeError for a keyword that is no option, ConfigurationError
        for a value that cannot work, InvalidName for a queue or priority."""
        changes: dict[str, object] = {}
        run: dict[str, object] = {}
        for name, value in keywords.items():
            if name in _RUN:
                run[name] = _RUN[name](name, value)
            elif name in _PLAIN:
                changes[name] = _PLAIN[name](name, value)
            elif name == "raises":
                check_exceptions(name, value)  # the registry keeps them
            elif name in _SEVERAL:
                changes.update(_SEVERAL[name](value))
            else:
                raise TypeError(_unknown(name))
        if keywords.get("delay") is not None and keywords.get("at") is not None:
            raise ConfigurationError("delay= and at= both say when: give one of them")
        if "outcome_ttl" in keywords and _is_time(keywords.get("keep_outcome")):
            raise ConfigurationError("keep_outcome= and outcome_ttl= both say how long: leave the time to one of them")
        if run:
            changes["overrides"] = msgspec.structs.replace(self.overrides, **run)
        found = msgspec.structs.replace(self, **changes) if changes else self
        _check_times(found)
        if found.keep_outcome and found.ignore_result:
            raise ConfigurationError(
                "keep_outcome= keeps an outcome that ignore_result=True does not want: leave one out"
            )
        return found


def refuse_children(options: TaskOptions, what: str) -> None:
    """Raises ConfigurationError for options with `child=True`, where children are not known."""
    if options.child:
        raise ConfigurationError(f"{what} submits no children: leave child= out, or use submit")


def check_run_options(run: RunOptions, of: str) -> RunOptions:
    """Return the options of a function. Raises ConfigurationError for options that cannot work together."""
    if run.soft_timeout is not None and run.timeout is not None and run.soft_timeout >= run.timeout:
        raise ConfigurationError(
            f"{of}: soft_timeout={run.soft_timeout:g} has to be less than timeout={run.timeout:g}, "
            "so that there is time to clear up"
        )
    for name in ("memory_limit", "max_tasks_per_process"):
        if getattr(run, name) is not None and run.pool is not PoolKind.PROCESS:
            raise ConfigurationError(f'{of}: {name}= needs a process of its own: add pool="process"')
    return run


def run_options(keywords: Mapping[str, object], *, is_async: bool, of: str) -> tuple[TaskOptions, RunOptions]:
    """Return the options of a registered function, for submitters and for workers. Raises as `TaskOptions.changed`."""
    options = TaskOptions().changed(keywords)
    run = apply_overrides(RunOptions(), options.overrides)
    if is_async and "pool" not in keywords:
        run = msgspec.structs.replace(run, pool=PoolKind.ASYNCIO)
    check_pool(run, is_async=is_async, of=of)
    return msgspec.structs.replace(options, overrides=Overrides()), check_run_options(run, of)


def check_pool(run: RunOptions, *, is_async: bool, of: str) -> None:
    """Raises ConfigurationError for a pool that cannot run the function."""
    if is_async and run.pool is not PoolKind.ASYNCIO:
        raise ConfigurationError(f"{of} is an `async def`, which runs in an event loop: leave pool= out")
    if not is_async and run.pool is PoolKind.ASYNCIO:
        raise ConfigurationError(f'{of} is a plain `def`, which would block the loop of pool="asyncio": '
                                 "make it an `async def`, or leave pool= out")  # fmt: skip


# --- one check per option --------------------------------------------------------------------------------------------

Check = Callable[[str, object], object]


def _queue(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name}={value!r}: it takes the name of a queue, as text")
    return check_queue(value)


def _priority(_name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidName(f"{value!r} is not a priority: a whole number from 0 to 9, 9 runs first, 5 is the default")
    return check_priority(value)


def _key(name: str, value: object) -> object:
    if value is None or callable(value) or (isinstance(value, str) and value):
        return value
    raise ConfigurationError(
        f"{name}={value!r}: it takes text that is not empty, or a function of the task's arguments that gives it"
    )


def _optional(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def _positive(name: str, value: object) -> float:
    return check_seconds(name, value, zero=False)


def _not_negative(name: str, value: object) -> float:
    return check_seconds(name, value, zero=True)


_RUN: Final[dict[str, Check]] = {
    "max_attempts": check_count,
    "backoff": _not_negative,
    "max_backoff": _not_negative,
    "retry_on": read_exception_names,
    "give_up_on": read_exception_names,
    "soft_timeout": _optional(_positive),
    "timeout": _optional(_positive),
    "memory_limit": _optional(read_bytes),
    "max_tasks_per_process": _optional(check_count),
    "pool": lambda name, value: check_choice(name, value, PoolKind),
}
_PLAIN: Final[dict[str, Check]] = {
    "queue": _queue,
    "priority": _priority,
    "max_deliveries": _optional(check_count),
    "key": _key,
    "key_scope": lambda name, value: check_choice(name, value, KeyScope),
    "key_holds": lambda name, value: check_choice(name, value, KeyHolds),
    "on_duplicate": lambda name, value: check_choice(name, value, OnDuplicate),
    "outcome_ttl": _optional(_positive),
    "ignore_result": check_flag,
    "child": check_flag,
    "max_backlog": _optional(check_count),
    "on_full": lambda name, value: check_choice(name, value, OnFull),
}


def _delay(value: object) -> dict[str, object]:
    return {"delay": None if value is None else _in_ms(_not_negative("delay", value)), "due_at": None}


def _at(value: object) -> dict[str, object]:
    return {"due_at": None if value is None else check_instant("at", value), "delay": None}


def _expires(value: object) -> dict[str, object]:
    if isinstance(value, datetime):
        return {"expires_at": check_instant("expires", value), "expires": None}
    return {"expires": None if value is None else _in_ms(_positive("expires", value)), "expires_at": None}


def _keep_outcome(value: object) -> dict[str, object]:
    if isinstance(value, bool):
        return {"keep_outcome": value}
    if not _is_time(value):
        raise ConfigurationError(f"keep_outcome={value!r}: it takes True, False, seconds or a timedelta")
    return {"keep_outcome": True, "outcome_ttl": _positive("keep_outcome", value)}


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float, timedelta)) and not isinstance(value, bool)


_SEVERAL: Final[dict[str, Callable[[object], dict[str, object]]]] = {
    "delay": _delay,
    "at": _at,
    "expires": _expires,
    "keep_outcome": _keep_outcome,
}
"""Options that set several fields, or others than their own."""


def _in_ms(seconds: float) -> int:
    return round(seconds * 1000)


def _check_times(options: TaskOptions) -> None:
    relative = options.delay is not None and options.expires is not None and options.expires <= options.delay
    absolute = options.due_at is not None and options.expires_at is not None and options.expires_at <= options.due_at
    if relative or absolute:
        raise ConfigurationError("expires= is not after the time that the task is delayed until: it could never run")


_OTHERS_WORDS: Final = {
    "autoretry_for": "retry_on",
    "countdown": "delay",
    "default_retry_delay": "backoff",
    "eta": "at",
    "max_age": "expires",
    "max_retries": "max_attempts",
    "min_backoff": "backoff",
    "once": "key",
    "queue_name": "queue",
    "retries": "max_attempts",
    "retry_backoff": "backoff",
    "retry_backoff_max": "max_backoff",
    "routing_key": "queue",
    "soft_time_limit": "soft_timeout",
    "store_results": "ignore_result",
    "time_limit": "timeout",
    "result_expires": "outcome_ttl",
    "result_ttl": "outcome_ttl",
    "keep_result": "keep_outcome",
    "unique": "key",
}
"""Options of other task systems, with their names here."""
_ELSEWHERE: Final = {
    "acks_late": "a task is always acknowledged after it ran: leave it out",
    "bind": "current_task() tells a task about itself: leave it out",
    "max_workers": "the workers are those that run, `herd worker --slots N` says how many tasks each takes",
    "name": "a task is called by its module and function: leave it out",
    "rate_limit": "`herd queues limit QUEUE --rate N` limits a queue",
    "reject_on_worker_lost": "a task always runs again when its worker is lost, max_deliveries= times: leave it out",
    "serializer": "Herd(codec=...) says how arguments travel",
}
"""Options of other task systems that Herdmaster does not have, with the explanation for the user."""


def _unknown(name: str) -> str:
    if name in _ELSEWHERE:
        return f"{name}= is no option of a task: {_ELSEWHERE[name]}"
    known = Options.__annotations__
    close = _OTHERS_WORDS.get(name) or next(iter(difflib.get_close_matches(name, known, 1, 0.6)), None)
    hint = f"the options are {', '.join(known)}" if close is None else f"did you mean {close}=?"
    return f"{name}= is no option of a task: {hint}"
