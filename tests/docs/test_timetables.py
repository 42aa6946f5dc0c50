"""The table of the guide to timetables: what is due on days when the clock changes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from herdmaster.core.timetable import Cron, next_due

PAGE = Path(__file__).parents[2] / "docs/guides/timetables.md"


def rows() -> Iterator[tuple[str, str, str, str, str]]:
    _, _, table = PAGE.read_text().partition("| expression | zone | day |")
    for line in table.splitlines()[2:]:
        if not line.startswith("|"):
            return
        expression, zone, day, ours, theirs = (cell.strip() for cell in line.strip("|").split(" | "))
        yield expression.strip("`"), zone, day, ours, theirs


def written(times: list[datetime], as_in: str) -> str:
    if as_in.endswith(" times"):
        return f"{len(times)} times"
    return " ".join(each.strftime("%H:%M%z") for each in times) or "never"


@pytest.mark.parametrize(("expression", "zone", "day", "ours", "theirs"), list(rows()))
def test_a_row_says_what_is_due(expression: str, zone: str, day: str, ours: str, theirs: str) -> None:
    local = ZoneInfo(zone)
    begin = datetime.fromisoformat(day).replace(tzinfo=local) - timedelta(seconds=1)
    after_ms, found = int(begin.timestamp()) * 1000, list[datetime]()
    while (due_ms := next_due(Cron(expression, zone), after_ms)) is not None:
        due = datetime.fromtimestamp(due_ms / 1000, local)
        if due.date().isoformat() != day:
            break
        found.append(due)
        after_ms = due_ms
    assert written(found, ours) == ours
    by_cronsim = list[datetime]()
    for each in CronSim(expression, begin):
        if each.date().isoformat() != day:
            break
        by_cronsim.append(each)
    assert written(by_cronsim, theirs) == theirs


def test_the_table_has_rows() -> None:
    assert len(list(rows())) > 10
