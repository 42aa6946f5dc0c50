from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from herdmaster.core.schedules import Schedule
from herdmaster.core.timetable import Cron, Every, Timetable
from herdmaster.core.upcoming import UpcomingTick, upcoming

PAYLOAD = msgspec.Raw(b'{"herd":1,"call":"shop:warm","args":[],"kwargs":{},"attempt":1,"deliveries":0}')


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def schedule(timetable: Timetable, **rest: int) -> Schedule:
    return Schedule(id="00000000", timetable=timetable, payload=PAYLOAD, **rest)  # type: ignore[arg-type]  # any field


def test_times_are_shown_in_their_zone_and_in_utc() -> None:
    nightly = schedule(Cron("30 2 * * *", "Europe/Berlin"))
    assert upcoming(nightly, ms("2026-03-27T12:00"), 3) == [
        UpcomingTick(ms("2026-03-28T01:30"), "2026-03-28 02:30:00 CET", "2026-03-28 01:30:00 UTC"),
        UpcomingTick(
            ms("2026-03-29T01:00"),
            "2026-03-29 03:00:00 CEST",
            "2026-03-29 01:00:00 UTC",
            "the clock skips the time of the expression",
        ),
        UpcomingTick(ms("2026-03-30T00:30"), "2026-03-30 02:30:00 CEST", "2026-03-30 00:30:00 UTC"),
    ]


def test_a_time_that_the_clock_shows_twice_is_marked() -> None:
    half_hourly = schedule(Cron("*/30 * * * *", "Europe/Berlin"))
    found = upcoming(half_hourly, ms("2026-10-24T23:45"), 5)
    assert [bool(each.note) for each in found] == [True, True, True, True, False]
    assert [each.local[11:16] for each in found] == ["02:00", "02:30", "02:00", "02:30", "03:00"]


def test_times_end_where_the_schedule_ends() -> None:
    bounded = schedule(Every(60_000), starts_ms=ms("2030-01-01T00:01"), ends_ms=ms("2030-01-01T00:03"))
    assert [each.due_ms for each in upcoming(bounded, 0, 10)] == [
        ms(f"2030-01-01T00:0{minute}") for minute in (1, 2, 3)
    ]
