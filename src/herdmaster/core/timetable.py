"""When a schedule is due: cron expressions, fixed intervals and listed times. Pure: the time is a parameter.

All times are Unix milliseconds. cronsim reads the cron expressions. A change of the clock, such as daylight saving
time, is handled as Debian's cron does (cron(8), NOTES):

- An expression with a fixed minute and hour is due once a day. A time that the clock skips is due when the clock has
  moved on. A time that the clock shows twice is due the first time.
- An expression whose minute or hour begins with a star follows the clock: due in both repetitions of an hour, and not
  in an hour that is skipped.

cronsim does this for five fields only, and goes in hours, which fails where the clock changes by half an hour. Here it
gets local times without a zone, and the changes are handled around it.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import islice
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

from herdmaster.errors import ConfigurationError

MIN_PERIOD_MS: Final = 1_000
MAX_TIMES: Final = 5_000
MAX_EXPRESSION: Final = 256
MAX_DUE_MS: Final = 9_999_999_999_999
"""The names of ticks have 13 digits; this is in the year 2286."""
_BAD_DAY: Final = "Bad day-of-month"
_NICKNAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class TimetableError(ConfigurationError):
    """A timetable that cannot be read. The text says what to write instead."""


class Cron(msgspec.Struct, frozen=True, tag="cron"):
    """A cron expression on the clock of a time zone.

    `expression`: five fields (minute, hour, day of the month, month, day of the week), six with seconds first, or a
    nickname such as `@daily`. `timezone`: an IANA name such as `Europe/Berlin`.
    """

    expression: str
    timezone: str = "UTC"


class Every(msgspec.Struct, frozen=True, tag="every"):
    """Fixed intervals of `period_ms`, counted from `anchor_ms` in both directions."""

    period_ms: int
    anchor_ms: int = 0


class Times(msgspec.Struct, frozen=True, tag="times"):
    """Times one by one, in ascending order."""

    unix_ms: tuple[int, ...]


Timetable: TypeAlias = Cron | Every | Times


def next_due(timetable: Timetable, after_ms: int) -> int | None:
    """Return the first due time that is later than `after_ms`; None if there is none.

    Raises TimetableError if the timetable cannot be read on this machine.
    """
    due = _next(timetable, after_ms)
    return due if due is not None and 0 < due <= MAX_DUE_MS else None


def check_timetable(timetable: Timetable, now_ms: int) -> None:
    """Raise TimetableError if the timetable cannot be read, or is never due after `now_ms`."""
    if next_due(timetable, now_ms) is not None:
        return
    if isinstance(timetable, Cron):
        raise TimetableError(f"cron expression {timetable.expression!r} never fires: no date matches it")
    raise TimetableError("no time is left: the last one has passed; give later times, or remove the schedule")


def zone_of(timetable: Timetable) -> tzinfo:
    """Return the time zone whose clock the timetable follows: UTC if it follows none."""
    return _zone(timetable.timezone if isinstance(timetable, Cron) else "UTC")


def is_moved(timetable: Timetable, due_ms: int) -> bool:
    """Return whether the clock skips the time that the expression names, so that it is due at another time."""
    if not isinstance(timetable, Cron):
        return False
    local = datetime.fromtimestamp(due_ms // 1000, _zone(timetable.timezone)).replace(tzinfo=None)
    return next(cron_from(timetable.expression, local - timedelta(seconds=1)), None) != local


def is_repeated(timetable: Timetable, due_ms: int) -> bool:
    """Return whether the clock of the timetable shows the time of `due_ms` twice on that day."""
    local = datetime.fromtimestamp(due_ms // 1000, zone_of(timetable))
    return local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()


def _next(timetable: Timetable, after_ms: int) -> int | None:
    match timetable:
        case Cron():
            return _next_of_cron(timetable, after_ms)
        case Every(period_ms, anchor_ms):
            _check_period(period_ms)
            return after_ms + period_ms - (after_ms - anchor_ms) % period_ms
        case Times(unix_ms):
            _check_times(unix_ms)
            return next(islice(unix_ms, bisect_right(unix_ms, after_ms), None), None)


def _next_of_cron(cron: Cron, after_ms: int) -> int | None:
    after = datetime.fromtimestamp(after_ms // 1000, _zone(cron.timezone))
    due = _next_fixed(cron, after) if is_fixed(cron.expression) else _next_by_the_wall(cron, after)
    return int(due.timestamp()) * 1000 if due is not None else None


def _next_fixed(cron: Cron, after: datetime) -> datetime | None:
    zone = _zone(cron.timezone)
    for wall in cron_from(cron.expression, after.replace(tzinfo=None)):
        # From within a repeated hour, the times of its first repetition are found too. They have passed.
        due = _first_valid(wall, zone)
        if due.timestamp() > after.timestamp():
            return due
    return None


def _next_by_the_wall(cron: Cron, after: datetime) -> datetime | None:
    """Return the next time when the clock shows a time that matches, however often it shows that."""
    zone = _zone(cron.timezone)
    at, wall = after.astimezone(UTC), after.replace(tzinfo=None)
    while (found := next(cron_from(cron.expression, wall), None)) is not None:
        offset = at.astimezone(zone).utcoffset() or timedelta()
        due = found.replace(tzinfo=UTC) - offset
        if due.astimezone(zone).utcoffset() == offset:
            return due
        at = change_of_clock(at, due, zone)
        wall = at.astimezone(zone).replace(tzinfo=None) - timedelta(seconds=1)
    return None


def change_of_clock(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """Return a time between the two when the offset changes from that of `before`, to the second."""
    offset = before.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after


def is_fixed(expression: str) -> bool:
    """Return whether neither minute nor hour begins with a star; then the clock's changes are made up for."""
    fields = _NICKNAMES.get(expression.strip().lower(), expression).split()
    return not any(field.startswith("*") for field in fields[-5:-3])


def _first_valid(wall: datetime, zone: tzinfo) -> datetime:
    """Return the first time when the clock shows `wall`; if it skips that time, the end of what it skips."""
    while True:
        aware = wall.replace(tzinfo=zone)
        if aware.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == wall:
            return aware
        wall = wall.replace(second=0) + timedelta(minutes=1)


def cron_from(expression: str, start: datetime) -> CronSim:
    """Return the times after `start` of an expression, on a clock that never changes. Raises TimetableError."""
    if len(expression) > MAX_EXPRESSION:
        raise TimetableError(f"cron expression has {len(expression)} characters; the limit is {MAX_EXPRESSION}")
    fields = expression.strip()
    if fields.startswith("@"):
        known = ", ".join(sorted(_NICKNAMES))
        if fields.lower() not in _NICKNAMES:
            raise TimetableError(f"cron expression {expression!r}: unknown nickname; known are {known}")
        fields = _NICKNAMES[fields.lower()]
    try:
        return CronSim(fields, start)
    except CronSimError as error:
        if str(error) == _BAD_DAY and _has_day_in_other_months(fields, start):
            raise TimetableError(f"cron expression {expression!r} never fires: its months have no such day") from error
        reason = _reason(str(error), len(fields.split()))
        raise TimetableError(f"cron expression {expression!r}: {reason}") from error


def _has_day_in_other_months(fields: str, start: datetime) -> bool:
    *before, _months, weekday = fields.split()
    try:
        CronSim(" ".join((*before, "*", weekday)), start)
    except CronSimError:
        return False
    return True


def _reason(error: str, fields: int) -> str:
    """Return what cronsim finds wrong, with what is allowed."""
    if error == "Wrong number of fields":
        return f"{fields} fields; write five (minute, hour, day of month, month, day of week) or six (second first)"
    allowed = {
        "Bad second": "0 to 59",
        "Bad minute": "0 to 59",
        "Bad hour": "0 to 23",
        _BAD_DAY: "1 to 31, L (last day) or LW (last weekday)",
        "Bad month": "1 to 12 or JAN to DEC",
        "Bad day-of-week": "0 to 7 or SUN to SAT, with L or #1 to #5 behind it",
    }
    field = error.removeprefix("Bad ")
    return f"the field {field} is wrong; allowed are {allowed.get(error, 'numbers')}, with * , - and /"


def _check_period(period_ms: int) -> None:
    if period_ms < MIN_PERIOD_MS:
        raise TimetableError(f"the interval is {period_ms / 1000:g} s; the shortest is {MIN_PERIOD_MS / 1000:g} s")


def _check_times(unix_ms: tuple[int, ...]) -> None:
    if len(unix_ms) > MAX_TIMES:
        raise TimetableError(f"{len(unix_ms)} times are listed; the limit is {MAX_TIMES}")


@lru_cache(maxsize=1_000)
def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # also where the system has no time zones
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise TimetableError(
            f"time zone {name!r} is not known on this machine; write an IANA name such as 'Europe/Berlin', and install "
            f"the package tzdata if the system has no time zones"
        ) from error
