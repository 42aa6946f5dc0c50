"""How the lines of one kind are limited, and what a summary says."""

from __future__ import annotations

from herdmaster.roles.shared.line_limit import MOST_LINES, LineKind, LineLimit, summary


def test_at_most_so_many_lines_a_second_are_admitted_and_the_rest_is_counted_by_name() -> None:
    limit = LineLimit("others")
    admitted = [limit.admits("m:f", 100.0) for _ in range(MOST_LINES + 3)] + [limit.admits("m:g", 100.5)]

    assert admitted == [True] * MOST_LINES + [False] * 4
    assert limit.take(101.0) == ({"m:f": 3, "m:g": 1}, 1.0)
    assert limit.admits("m:f", 101.0)
    assert limit.take(102.0)[0] == {}


def test_a_summary_names_the_most_frequent_names() -> None:
    counts = {f"m:f{number:02}": number for number in range(1, 13)} | {"": 100}

    line = summary(LineKind(20, "tasks done", nameless="raw tasks"), counts, 1.0)
    assert line.startswith("178 more tasks done in 1.0 s: raw tasks 100, m:f12 12, m:f11 11, ")
    assert line.endswith(", m:f04 4, others 6")
