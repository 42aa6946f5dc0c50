from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core import timetable as timetables
from herdmaster.core.timetable import (
    MAX_DUE_MS,
    Cron,
    Every,
    Times,
    Timetable,
    TimetableError,
    check_timetable,
    is_moved,
    is_repeated,
    next_due,
)

NOW = 1_795_000_000_000


def ms(text: str, zone: str = "UTC", fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()) * 1000


def dues(timetable: Timetable, after_ms: int, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count and (due := next_due(timetable, after_ms)) is not None:
        found.append(due)
        after_ms = due
    return found


def local(timetable: Cron, after: str, count: int) -> list[str]:
    zone = ZoneInfo(timetable.timezone)
    found = dues(timetable, ms(after, timetable.timezone), count)
    return [datetime.fromtimestamp(due / 1000, zone).isoformat() for due in found]


# --- what an expression means ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "first", "second"),
    [
        ("30 2 * * *", "2026-03-02T02:30", "2026-03-03T02:30"),
        ("*/20 * * * *", "2026-03-01T12:20", "2026-03-01T12:40"),
        ("15 30 2 * * *", "2026-03-02T02:30:15", "2026-03-03T02:30:15"),
        ("*/10 * * * * *", "2026-03-01T12:00:10", "2026-03-01T12:00:20"),
        ("0 9 * * MON-FRI", "2026-03-02T09:00", "2026-03-03T09:00"),
        ("0 9 * * 7", "2026-03-08T09:00", "2026-03-15T09:00"),
        ("0 9 1 JAN,JUL *", "2026-07-01T09:00", "2027-01-01T09:00"),
        ("0 0 L * *", "2026-03-31T00:00", "2026-04-30T00:00"),
        ("0 0 LW * *", "2026-03-31T00:00", "2026-04-30T00:00"),
        ("0 0 * * FRI#2", "2026-03-13T00:00", "2026-04-10T00:00"),
        ("0 0 * * 5L", "2026-03-27T00:00", "2026-04-24T00:00"),
        ("0 0 13 * FRI", "2026-03-06T00:00", "2026-03-13T00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00", "2032-02-29T00:00"),
        ("@hourly", "2026-03-01T13:00", "2026-03-01T14:00"),
        ("@daily", "2026-03-02T00:00", "2026-03-03T00:00"),
        ("@midnight", "2026-03-02T00:00", "2026-03-03T00:00"),
        ("@weekly", "2026-03-08T00:00", "2026-03-15T00:00"),
        ("@MONTHLY", "2026-04-01T00:00", "2026-05-01T00:00"),
        ("@yearly", "2027-01-01T00:00", "2028-01-01T00:00"),
        ("@annually", "2027-01-01T00:00", "2028-01-01T00:00"),
    ],
)
def test_an_expression_is_due_at_the_times_that_match_it(expression: str, first: str, second: str) -> None:
    assert dues(Cron(expression), ms("2026-03-01T12:00"), 2) == [ms(first), ms(second)]


def test_a_due_time_is_later_than_the_time_asked_for() -> None:
    every_minute = Cron("* * * * *")
    at = ms("2026-03-01T12:00")
    assert next_due(every_minute, at - 1) == at
    assert next_due(every_minute, at) == at + 60_000


def test_the_interval_is_counted_from_its_anchor() -> None:
    assert dues(Every(60_000, anchor_ms=5_000), 0, 3) == [5_000, 65_000, 125_000]
    assert next_due(Every(60_000, anchor_ms=10 * 60_000 + 7), 0) == 7
    assert next_due(Every(60_000, anchor_ms=7), 7) == 60_007


def test_listed_times_come_one_by_one_and_end() -> None:
    assert dues(Times((5, 9, 9, 12)), 5, 5) == [9, 12]
    assert next_due(Times(()), 0) is None


def test_a_time_that_a_name_cannot_show_is_never_due() -> None:
    assert next_due(Times((MAX_DUE_MS + 1,)), 0) is None
    assert next_due(Every(1_000), MAX_DUE_MS) is None


# --- clocks that are changed -----------------------------------------------------------------------------------------


def test_a_time_that_the_clock_skips_is_due_when_the_clock_has_moved_on() -> None:
    for expression in ("30 2 * * *", "0 30 2 * * *"):
        nightly = Cron(expression, "Europe/Berlin")
        assert local(nightly, "2026-03-28T12:00", 2) == ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]
        assert is_moved(nightly, ms("2026-03-29T03:00", "Europe/Berlin"))
        assert not is_moved(nightly, ms("2026-03-30T02:30", "Europe/Berlin"))


def test_a_time_that_the_clock_shows_twice_is_due_the_first_time() -> None:
    for expression in ("30 2 * * *", "0 30 2 * * *"):
        nightly = Cron(expression, "Europe/Berlin")
        assert local(nightly, "2026-10-24T12:00", 2) == ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]
        assert is_repeated(nightly, ms("2026-10-25T02:30", "Europe/Berlin"))
        assert not is_repeated(nightly, ms("2026-10-26T02:30", "Europe/Berlin"))


def test_a_search_that_begins_in_the_second_repetition_finds_nothing_of_the_first() -> None:
    after = ms("2026-10-25T02:10", "Europe/Berlin", fold=1)
    assert next_due(Cron("30 2 * * *", "Europe/Berlin"), after) == ms("2026-10-26T02:30", "Europe/Berlin")


def test_an_expression_with_a_star_follows_the_clock_on_the_wall() -> None:
    half_hourly = Cron("*/30 * * * *", "Europe/Berlin")
    assert local(half_hourly, "2026-03-29T01:30", 2) == ["2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"]
    assert local(half_hourly, "2026-10-25T02:00", 3) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T02:30:00+01:00",
    ]


ZONES = (
    "Europe/Berlin",
    "Europe/Dublin",
    "America/New_York",
    "America/Santiago",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Africa/Cairo",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
)
FIXED = ("30 2 * * *", "10,40 0-3 * * *", "0 0 * * *", "15 1 * * 0")
WILD = ("*/15 * * * *", "30 * * * *", "5 */2 * * *")


def changes_of_the_clock(zone: ZoneInfo, first_year: int, years: int) -> Iterator[datetime]:
    """Yield the UTC minutes at which the zone's offset changes."""
    at, end = datetime(first_year, 1, 1, tzinfo=UTC), datetime(first_year + years, 1, 1, tzinfo=UTC)
    while at < end:
        later = at + timedelta(hours=1)
        if at.astimezone(zone).utcoffset() != later.astimezone(zone).utcoffset():
            while at.astimezone(zone).utcoffset() != later.astimezone(zone).utcoffset():
                later -= timedelta(minutes=1)
            yield later + timedelta(minutes=1)
            at = later + timedelta(hours=1)
        else:
            at = later


def by_debians_cron(matches: set[datetime], is_fixed: bool, walls: list[tuple[int, datetime]]) -> list[int]:
    """Return when the main loop of Debian's cron runs a job whose expression matches these local minutes.

    cron keeps a virtual time and compares it with the clock once a minute: if the clock is up to three hours ahead, it
    runs the jobs of fixed times for each minute between; if behind, only the others, until the virtual time is reached.
    """
    minute, found = timedelta(minutes=1), []
    virtual = walls[0][1] - minute
    for at_ms, wall in walls:
        ahead = (wall - virtual) // minute
        checked = [virtual + minute * step for step in range(1, ahead + 1)] if is_fixed else [wall]
        virtual = max(virtual, wall)
        if not matches.isdisjoint(checked):
            found.append(at_ms)
    return found


@pytest.mark.long
@pytest.mark.parametrize("name", ZONES)
def test_changes_of_the_clock_are_handled_as_by_debians_cron_for_ten_years(name: str) -> None:
    zone = ZoneInfo(name)
    for change in changes_of_the_clock(zone, 2020, 10):
        instants = [change + timedelta(minutes=minute) for minute in range(-200, 400)]
        walls = [(int(at.timestamp()) * 1000, at.astimezone(zone).replace(tzinfo=None)) for at in instants]
        for expression in (*FIXED, *WILD):
            matches, at_ms = set(), int(instants[0].astimezone(zone).replace(tzinfo=UTC).timestamp()) * 1000 - 1
            while (at_ms := next_due(Cron(expression), at_ms) or 0) < walls[-1][0] + 86_400_000:
                matches.add(datetime.fromtimestamp(at_ms / 1000, UTC).replace(tzinfo=None))
            expected = by_debians_cron(matches, expression in FIXED, walls)
            for fields in (expression, f"0 {expression}"):
                assert until(Cron(fields, name), walls[0][0] - 1, walls[-1][0]) == expected


def until(timetable: Cron, after_ms: int, last_ms: int) -> list[int]:
    found: list[int] = []
    while (due := next_due(timetable, after_ms)) is not None and due <= last_ms:
        found.append(due)
        after_ms = due
    return found


# --- what cannot be read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timetable", "says"),
    [
        (Cron("* * * *"), "4 fields; write five"),
        (Cron(""), "0 fields"),
        (Cron("61 * * * *"), "the field minute is wrong; allowed are 0 to 59"),
        (Cron("0 24 * * *"), "the field hour is wrong; allowed are 0 to 23"),
        (Cron("0 0 * * 8"), "the field day-of-week is wrong"),
        (Cron("0 0 32 * *"), "the field day-of-month is wrong; allowed are 1 to 31"),
        (Cron("0 0 30 13 *"), "the field month is wrong"),
        (Cron("0 0 30 2 *"), "never fires: its months have no such day"),
        (Cron("0 0 0 31 FEB,APR *"), "never fires: its months have no such day"),
        (Cron("@reboot"), "unknown nickname; known are @annually"),
        (Cron("* " * 200), "the limit is 256"),
        (Cron("@daily", "Europe/Nowhere"), "time zone 'Europe/Nowhere' is not known"),
        (Cron("@daily", ""), "time zone '' is not known"),
        (Cron("@daily", "../etc/passwd"), "is not known"),
        (Cron("@daily", "Europe"), "is not known"),
        (Every(999), "the shortest is 1 s"),
        (Every(0), "the shortest is 1 s"),
        (Every(-60_000), "the shortest is 1 s"),
        (Times((1, 2, 3)), "no time is left"),
        (Times(tuple(range(5_001))), "the limit is 5000"),
    ],
)
def test_a_timetable_that_cannot_be_read_is_told_what_to_write(timetable: Timetable, says: str) -> None:
    with pytest.raises(TimetableError) as caught:
        check_timetable(timetable, NOW)
    assert says in str(caught.value)


def test_utc_needs_no_time_zones_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> ZoneInfo:
        raise ZoneInfoNotFoundError(name)

    monkeypatch.setattr(timetables, "ZoneInfo", unknown)
    timetables._zone.cache_clear()
    assert next_due(Cron("@daily"), NOW) == NOW - NOW % 86_400_000 + 86_400_000
    with pytest.raises(TimetableError, match="install the package tzdata"):
        next_due(Cron("@daily", "Europe/Berlin"), NOW)


def test_an_expression_that_never_matches_a_date_is_refused() -> None:
    with pytest.raises(TimetableError, match="never fires"):
        check_timetable(Cron("0 0 LW * */6"), NOW)


@given(st.text(alphabet="0123456789*/,-#LWMONFEB @\n\x00²", max_size=24), st.integers(0, MAX_DUE_MS))
def test_any_text_is_a_timetable_or_is_refused(expression: str, now_ms: int) -> None:
    try:
        due = next_due(Cron(expression, "Europe/Berlin"), now_ms)
    except TimetableError:
        return
    assert due is None or due > now_ms
