"""The options of a schedule, and their checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, Literal, TypedDict

import msgspec

from herdmaster.api.checks import check_choice, check_count, check_instant, check_seconds
from herdmaster.core.schedule_decisions import first_due
from herdmaster.core.schedules import MAX_JITTER_MS, Missed, Overlap, Schedule
from herdmaster.core.timetable import MAX_TIMES, Cron, Every, Times, Timetable, TimetableError, check_timetable
from herdmaster.errors import ConfigurationError

Duration = float | timedelta
"""Seconds, or a timedelta."""
Instants = Iterable[datetime] | Callable[[], Iterable[datetime]]


class ScheduleOptions(TypedDict, total=False):
    """The options of `herd.schedule(...)`. Durations are in seconds, or timedeltas. Times are datetimes with a zone.

    One of these says when:

    - `cron`: a cron expression, with `timezone` (an IANA name; UTC).
    - `every`: an interval from a second on, counted from `anchor` (the epoch).
    - `times`: times one by one, or a function that returns them. They are read when the schedules are applied, the next
      5,000 of them.

    The others:

    - `starts`, `ends`: there are no ticks before and after. `max_runs`: the number of tasks in all.
    - `jitter`: a tick is late by a part of this, which is always the same for the same tick.
    - `missed`: what becomes of several ticks that are due at once, because no primary acted or the schedule was paused:
      one task for the last of them ("latest", the default), a task for each ("all"), or one for the last if that is not
      late by more than the grace ("skip"). `grace`: no task is made for a tick that is later ("skip" has a minute).
    - `overlap`: what becomes of a tick while the task of the last one has not ended: no task ("skip", the default), a
      task ("allow"), a task as soon as that has ended ("wait"), or a task, and the other is cancelled ("cancel").

    None is the default of each of these, and of `timezone` and `anchor`.
    """

    cron: str
    timezone: str | None
    every: Duration
    anchor: datetime | None
    times: Instants
    starts: datetime | None
    ends: datetime | None
    max_runs: int | None
    jitter: Duration | None
    missed: Literal["latest", "all", "skip"] | None
    grace: Duration | None
    overlap: Literal["skip", "allow", "wait", "cancel"] | None


class CheckedSchedule(msgspec.Struct, frozen=True):
    """Options that have been checked. Times are in milliseconds. The `timetable` of a function is made by `read`."""

    timetable: Timetable | Callable[[], Iterable[datetime]]
    missed: Missed = Missed.LATEST
    grace_ms: int | None = None
    overlap: Overlap = Overlap.SKIP
    jitter_ms: int = 0
    starts_ms: int | None = None
    ends_ms: int | None = None
    max_runs: int | None = None

    def read(self) -> Timetable:
        """Return when the schedule is due. Raises ConfigurationError, and what the function for the times raises."""
        return _times(self.timetable()) if callable(self.timetable) else self.timetable


def check_schedule(keywords: Mapping[str, object]) -> CheckedSchedule:
    """Return the options of a schedule, checked. Raises ConfigurationError for options that cannot work, TypeError for
    an unknown one."""
    _check_names(keywords)
    changes = {
        field: check(name, keywords[name]) for name, (field, check) in _CHECKS.items() if keywords.get(name) is not None
    }
    found = msgspec.structs.replace(CheckedSchedule(_timetable(keywords)), **changes)
    if found.starts_ms is not None and found.ends_ms is not None and found.ends_ms < found.starts_ms:
        raise ConfigurationError("the schedule ends before it starts: give ends= a later time than starts=")
    return found


def _check_names(keywords: Iterable[str]) -> None:
    for name in keywords:
        if name not in ScheduleOptions.__annotations__:
            known = ", ".join(ScheduleOptions.__annotations__)
            raise TypeError(f"{name}= is no option of a schedule: the options are {known}")


def read_times(keywords: Mapping[str, object]) -> Mapping[str, object]:
    """Return the options for `edited`, which may run on another thread and several times: a function for times is
    called here. Raises TypeError for an unknown option, and what the function raises."""
    _check_names(keywords)
    times = keywords.get("times")
    return {**keywords, "times": _times(times() if callable(times) else times)} if times is not None else keywords


def edited(schedule: Schedule, options: Mapping[str, object]) -> Schedule:
    """Return a stored schedule with these options, the others as they are. None takes an option back. Raises as
    `check_schedule`."""
    whole: dict[str, object] = dict(options)
    match schedule.timetable:
        case Cron(expression, timezone) if options.keys() & {"cron", "timezone"}:
            whole = {"cron": expression, "timezone": timezone, **options}
        case Every(period_ms, anchor_ms) if options.keys() & {"every", "anchor"}:
            anchor = datetime.fromtimestamp(anchor_ms / 1000, UTC)
            whole = {"every": period_ms / 1000, "anchor": anchor, **options}
    for name, other in _BELONGS.items():
        if whole.get(name) is not None and all(whole.get(kind) is None for kind in ("cron", "every", "times")):
            raise ConfigurationError(f"{name}= belongs to {other}=, which this schedule does not have")
    is_timed = any(whole.get(name) is not None for name in ("cron", "timezone", "every", "anchor", "times"))
    found = check_schedule(whole if is_timed else {"every": 60, **whole})
    changes: dict[str, Any] = {  # of the types of the fields
        field: getattr(found, field) for name, (field, _) in _CHECKS.items() if name in options
    }
    if is_timed:
        changes["timetable"] = found.read()
    return msgspec.structs.replace(schedule, **changes)


def checked(name: str, schedule: Schedule, *, must_come: bool = False) -> Schedule:
    """Return the schedule. Raises ConfigurationError for a timetable that cannot be read on this machine; with
    `must_come` also for a schedule that has no time to come."""
    try:
        is_never_due = is_over(schedule)
    except TimetableError as error:
        raise ConfigurationError(f"schedule {name!r}: {error}") from None
    if is_never_due and must_come:
        raise ConfigurationError(f"schedule {name!r} is never due: {NONE_LEFT}")
    return schedule


_BELONGS: Final = {"timezone": "cron", "anchor": "every"}
NONE_LEFT: Final = "its times have passed, or there are none between starts= and ends="


def is_over(schedule: Schedule) -> bool:
    """Return whether the schedule has no time to come, by the clock of this machine. Raises TimetableError."""
    return first_due(schedule, _now_ms()) is None


def timetable_of(value: Cron | timedelta) -> Timetable:
    """Return the timetable of `@herd.task(schedule=...)`. Raises ConfigurationError."""
    if isinstance(value, Cron):
        return _checked(value)
    if isinstance(value, timedelta):
        return _every("schedule", value, None)
    raise ConfigurationError(
        f"schedule={value!r}: it takes Cron('30 2 * * *', timezone='Europe/Berlin'), or a timedelta; "
        "herd.schedule(...) takes other times"
    )


# --- when ------------------------------------------------------------------------------------------------------------


def _timetable(keywords: Mapping[str, object]) -> Timetable | Callable[[], Iterable[datetime]]:
    given = [name for name in ("cron", "every", "times") if keywords.get(name) is not None]
    if len(given) != 1:
        said = f"{' and '.join(f'{name}=' for name in given)} were given" if given else "none was given"
        raise ConfigurationError(f"a schedule needs one of cron=, every= and times=: {said}")
    for name, other in _BELONGS.items():
        if keywords.get(name) is not None and other not in given:
            raise ConfigurationError(f"{name}= belongs to {other}=, and {given[0]}= was given: leave it out")
    value, zone = keywords[given[0]], keywords.get("timezone")
    if given == ["cron"]:
        return _checked(Cron(_text("cron", value), _text("timezone", "UTC" if zone is None else zone)))
    if given == ["every"]:
        return _every("every", value, keywords.get("anchor"))
    if callable(value) or isinstance(value, Times):
        return value
    return _times(value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name}={value!r}: it takes text")
    return value


def _checked(cron: Cron) -> Cron:
    """Return a cron expression that can be read, and is due at all. Its zone is not looked for: a worker that imports
    this app may have none."""
    for value in (cron.expression, cron.timezone):
        _text("Cron", value)
    check_timetable(Cron(cron.expression), _now_ms())
    return cron


def _every(name: str, value: object, anchor: object) -> Every:
    period_ms = round(check_seconds(name, value, zero=False) * 1000)
    every = Every(period_ms, 0 if anchor is None else check_instant("anchor", anchor))
    try:
        check_timetable(every, _now_ms())
    except TimetableError as error:
        raise ConfigurationError(f"{name}={value!r}: {error}") from None
    return every


def _times(value: object) -> Times:
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes)):
        raise ConfigurationError(
            f"times={value!r}: it takes datetimes with a time zone, or a function that returns them"
        )
    now_ms, future, past = _now_ms(), set[int](), list[int]()
    for each in islice(value, _MAX_READ):
        at_ms = check_instant("times", each)
        if at_ms <= now_ms:
            past.append(at_ms)
            continue
        future.add(at_ms)
        if len(future) == MAX_TIMES:
            break
    # With the latest that have passed, as long as there is room: a list stays the same from one day to the next.
    found = sorted({*past, *future})
    return Times(tuple(found[-MAX_TIMES:]))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


_MAX_READ: Final = 1_000_000
"""Times that are read at most: those that have passed count, too, and an iterator may have no end."""

# --- one check per option --------------------------------------------------------------------------------------------

Check = Callable[[str, object], object]


def _milliseconds(name: str, value: object) -> int:
    return round(check_seconds(name, value, zero=True) * 1000)


def _jitter(name: str, value: object) -> int:
    found = _milliseconds(name, value)
    if found > MAX_JITTER_MS:
        raise ConfigurationError(f"{name}={value!r}: it takes at most a day")
    return found


_CHECKS: Final[dict[str, tuple[str, Check]]] = {
    "missed": ("missed", lambda name, value: check_choice(name, value, Missed)),
    "grace": ("grace_ms", _milliseconds),
    "overlap": ("overlap", lambda name, value: check_choice(name, value, Overlap)),
    "jitter": ("jitter_ms", _jitter),
    "starts": ("starts_ms", check_instant),
    "ends": ("ends_ms", check_instant),
    "max_runs": ("max_runs", check_count),
}
"""The options beside those that say when, each with its field and its check."""
