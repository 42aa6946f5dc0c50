"""The next times of a schedule, as people read them. Pure: the time is a parameter."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from herdmaster.core.schedule_decisions import first_due
from herdmaster.core.schedules import Schedule
from herdmaster.core.timetable import is_moved, is_repeated, zone_of

_MOVED = "the clock skips the time of the expression"
_TWICE = "the clock shows this time twice"


class UpcomingTick(msgspec.Struct, frozen=True):
    """One time. `due_ms` in unix milliseconds; `local` and `utc` as text, `note` says what the clock does, if that is
    unusual."""

    due_ms: int
    local: str
    utc: str
    note: str = ""


def upcoming(schedule: Schedule, after_ms: int, count: int) -> list[UpcomingTick]:
    """Return the next times after `after_ms`, without jitter. Raises TimetableError."""
    zone, found = zone_of(schedule.timetable), list[UpcomingTick]()
    while len(found) < count and (due_ms := first_due(schedule, after_ms)) is not None:
        after_ms = due_ms
        local = datetime.fromtimestamp(due_ms / 1000, zone)
        note = ""
        if is_moved(schedule.timetable, due_ms):
            note = _MOVED
        elif is_repeated(schedule.timetable, due_ms):
            note = _TWICE
        found.append(UpcomingTick(due_ms, _written(local), _written(local.astimezone(UTC)), note))
    return found


def _written(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} {at.tzname() or at.strftime('%z')}"
