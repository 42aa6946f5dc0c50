"""How often a cron expression is due in a range: as often as one by one, also where the clock changes."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from herdmaster.core.due_counts import count_due
from herdmaster.core.timetable import Cron, TimetableError, next_due

HOUR = 3_600_000
EXPRESSIONS = (
    "*/7 * * * *", "30 2 * * *", "0 0 * * *", "15,45 1-3 * * *", "*/20 2 * * *", "5 */2 * * *", "0 12 L * *",
    "30 1 * * MON#2", "*/13 10 1,15 * 5", "20 10,30 1,2,3 * * *", "*/50 */30 * * * *", "0-59/17 2,3 * * 0",
    "*/30 30 2 * * *", "45 23,0 * * *",
)  # fmt: skip
CHANGES = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "Australia/Lord_Howe": ("2026-04-05", "2026-10-04"),  # by half an hour
    "Pacific/Apia": ("2011-12-30", "2011-09-24"),  # a whole day is left out
    "America/Sao_Paulo": ("2017-10-15", "2018-02-18"),  # at midnight
    "Africa/Casablanca": ("2026-02-15", "2026-03-22"),
    "Antarctica/Troll": ("2026-03-29", "2026-10-25"),  # by two hours
    "UTC": ("2026-03-29", "2026-10-25"),
}


def unix_ms(day: str) -> int:
    return round(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


def one_by_one(cron: Cron, after_ms: int, until_ms: int) -> int:
    count, due_ms = 0, next_due(cron, after_ms)
    while due_ms is not None and due_ms <= until_ms:
        count, due_ms = count + 1, next_due(cron, due_ms)
    return count


@given(
    st.sampled_from(EXPRESSIONS),
    st.sampled_from([(zone, day) for zone, days in CHANGES.items() for day in days]),
    st.integers(-30 * HOUR, 30 * HOUR),
    st.integers(0, 40 * HOUR),
)
@example("30 2 * * *", ("Europe/Berlin", "2026-03-29"), 0, 3 * HOUR)
@example("15,45 1-3 * * *", ("Europe/Berlin", "2026-10-25"), 0, 12 * HOUR)
@settings(max_examples=60, deadline=None)
def test_a_count_is_that_of_the_times_one_by_one(
    expression: str, change: tuple[str, str], after_ms: int, length_ms: int
) -> None:
    zone, day = change
    cron, after_ms = Cron(expression, zone), unix_ms(day) + after_ms
    assert count_due(cron, after_ms, after_ms + length_ms) == one_by_one(cron, after_ms, after_ms + length_ms)


@pytest.mark.parametrize("zone", CHANGES)
def test_the_counts_of_parts_add_up(zone: str) -> None:
    cron = Cron("*/5 1-3 * * *", zone)
    edges = [unix_ms("2026-01-01") + number * 31 * HOUR for number in range(200)]
    parts = sum(count_due(cron, begin, end) for begin, end in pairwise(edges))
    assert parts == count_due(cron, edges[0], edges[-1])


def test_a_year_of_seconds_is_counted_without_looking_for_each() -> None:
    assert count_due(Cron("* * * * * *", "Europe/Berlin"), unix_ms("2026-01-01"), unix_ms("2027-01-01")) == 365 * 86400


def test_a_range_that_ends_before_it_begins_has_no_times() -> None:
    assert count_due(Cron("* * * * *"), 5 * HOUR, HOUR) == 0


def test_an_expression_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(TimetableError):
        count_due(Cron("* * *"), 0, HOUR)
