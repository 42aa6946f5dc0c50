"""How often a cron expression is due in a range, without looking for each time: the cost grows with the days."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from herdmaster.core.timetable import Cron, change_of_clock, cron_from, is_fixed, zone_of

_SECOND: Final = timedelta(seconds=1)
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)
_LONGEST_REPETITION: Final = timedelta(days=2)
"""No clock shows a time again after longer than that."""


def count_due(cron: Cron, after_ms: int, until_ms: int) -> int:
    """Return how many times `next_due` gives after `after_ms` and up to `until_ms`. Raises TimetableError."""
    begin, end = (datetime.fromtimestamp(at_ms // 1000, UTC) + _SECOND for at_ms in (after_ms, until_ms))
    times = _WallTimes(cron)
    if begin >= end:
        return 0
    zone = zone_of(cron)
    if not is_fixed(cron.expression):
        return sum(times.between(span.begin + span.offset, span.end + span.offset) for span in _spans(begin, end, zone))
    return _count_fixed(times, begin, end, zone)


def _count_fixed(times: _WallTimes, begin: datetime, end: datetime, zone: tzinfo) -> int:
    """Count a time that the clock shows twice the first time, and times that it skips once, when it has moved on."""
    count = 0
    shown: datetime | None = None  # the clock has shown every time before this one
    for span in _spans(begin - _LONGEST_REPETITION, end, zone):
        first, last = span.begin + span.offset, span.end + span.offset
        if shown is None:
            shown = first
        elif shown < first:
            valid = first.replace(second=0) + (_MINUTE if first.second else timedelta())
            is_skipped = times.between(shown, first) > 0 and not times.between(valid, valid + _SECOND)
            count += is_skipped and begin <= valid - span.offset < end
        count += times.between(max(first, begin + span.offset, shown), last)
        shown = max(shown, last)
    return count


class _Span(NamedTuple):
    """Times, without the last, in which the clock of a zone has one offset."""

    begin: datetime
    end: datetime
    offset: timedelta


def _spans(begin: datetime, end: datetime, zone: tzinfo) -> Iterator[_Span]:
    if zone is UTC:
        yield _Span(begin, end, timedelta())
        return
    at = begin
    while at < end:
        offset = at.astimezone(zone).utcoffset() or timedelta()
        before = following = at
        while following < end and following.astimezone(zone).utcoffset() == offset:
            before, following = following, min(following + _DAY, end)
        if following.astimezone(zone).utcoffset() != offset:
            following = change_of_clock(before, following, zone)
        yield _Span(at, following, offset)
        at = following


class _WallTimes:
    """The times of a cron expression on a clock that never changes. They are written as UTC."""

    def __init__(self, cron: Cron) -> None:
        """Raises TimetableError."""
        self._cron = cron_from(cron.expression, datetime(2000, 1, 1))  # noqa: DTZ001 - times on a wall have no zone
        self._hours, self._minutes, self._seconds = (
            sorted(each) for each in (self._cron.hours, self._cron.minutes, self._cron.seconds)
        )

    def between(self, begin: datetime, end: datetime) -> int:
        """Return how many there are from `begin` on and before `end`."""
        if begin >= end:
            return 0
        day, last = begin.date(), end.date()
        count = -self._before(begin) if self._is_of(begin) else 0
        each = len(self._hours) * len(self._minutes) * len(self._seconds)
        at = datetime(day.year, day.month, day.day, tzinfo=UTC)
        while at.date() < last:
            count += each * self._is_of(at)
            at += _DAY
        return count + (self._before(end) if self._is_of(end) else 0)

    def _is_of(self, at: datetime) -> bool:
        return at.month in self._cron.months and self._cron.match_day(at.date())

    def _before(self, at: datetime) -> int:
        """Return how many there are on a day that matches, before that time of the day."""
        hours, minutes, seconds = self._hours, self._minutes, self._seconds
        count = bisect_left(hours, at.hour) * len(minutes) * len(seconds)
        if at.hour in hours:
            count += bisect_left(minutes, at.minute) * len(seconds)
            if at.minute in minutes:
                count += bisect_left(seconds, at.second)
        return count
