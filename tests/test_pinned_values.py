"""No number in capitals and no default of a record changes by mistake; see scripts/pinned_values.py."""

from __future__ import annotations

from pathlib import Path

from scripts.pinned_values import values

LIST = Path(__file__).with_name("pinned_values.list")


def test_each_listed_value_is_as_it_was() -> None:
    """A value that is new or gone is no failure: `python scripts/pinned_values.py > tests/pinned_values.list`."""
    now = values()
    listed = dict(line.split(" = ", 1) for line in LIST.read_text("utf-8").splitlines())

    assert len(listed) > 700
    assert {place: now[place] for place in listed if place in now} == {
        place: text for place, text in listed.items() if place in now
    }
