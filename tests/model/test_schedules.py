"""Every state of the modelled schedules keeps the promises; without a rule a promise is broken."""

from __future__ import annotations

import sys

import pytest

from herdmaster.core.schedules import Overlap
from herdmaster.core.table import TABLE, Place
from tests.model.engine import STUCK
from tests.model.schedule_server import EARLY, ONE_TICK, OVERLAP, RUN_ONCE, STALE, TWICE, Rule, Setup
from tests.model.schedules import build

EDIT = Setup(("edit",), faults=0)
TWO_AT_ONCE = Setup(faults=0, fenced=False)
MADE_ANEW = TWO_AT_ONCE._replace(acts=("remove", "add"))

RUNS = {
    "primaries that die and lose replies": Setup(faults=2),
    "an edit": Setup(("edit",)),
    "an edit under two masters that stand in": TWO_AT_ONCE._replace(acts=("edit",)),
    "a run by hand": Setup(("run",)),
    "a removal, and another schedule of the same name": Setup(("remove", "add")),
    "a pause": Setup(("pause", "catch up")),
    "other times while the servers' clock goes back": Setup(("retime",), clock_goes_back=True),
    "tasks that wait for each other": Setup(overlap=Overlap.WAIT, faults=2),
}
EXPECTED = {
    Rule.VERSION_CHECK: (EDIT, STALE),
    Rule.GUARD: (TWO_AT_ONCE, ONE_TICK),
    Rule.ONE_TRANSACTION: (Setup(), TWICE),
    Rule.ID_IN_TICK: (MADE_ANEW, STALE),
    Rule.LAST_TIME: (Setup(("retime",), faults=0, clock_goes_back=True), TWICE),
    Rule.FORGET_REFUSED: (EDIT, STUCK),
    Rule.SERVERS_CLOCK: (Setup(faults=0), EARLY),
    Rule.RUN_IS_EDIT: (Setup(("run",)), RUN_ONCE),
    Rule.WHOLE_PICTURE: (Setup(overlap=Overlap.WAIT), OVERLAP),
}


@pytest.mark.long
@pytest.mark.parametrize("name", RUNS)
def test_no_step_breaks_a_promise_and_every_time_has_its_task(name: str) -> None:
    found = build(RUNS[name]).explore().counterexample
    assert found is None, f"{name}\n{found}"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_no_step_breaks_a_promise_where_two_masters_stand_in_while_a_schedule_is_made_anew() -> None:
    found = build(MADE_ANEW).explore().counterexample
    assert found is None, found


def test_every_rule_is_listed() -> None:
    assert EXPECTED.keys() == set(Rule)


@pytest.mark.long
@pytest.mark.parametrize("rule", Rule, ids=lambda rule: rule.name.lower())
def test_without_the_rule_a_promise_is_broken(rule: Rule) -> None:
    setup, promise = EXPECTED[rule]
    found = build(setup._replace(off=rule)).explore().counterexample
    assert found is not None, f"nothing goes wrong where {rule.value}"
    sys.stdout.write(f"\nWhere {rule.value}:\n{found}\n")
    assert found.broken == promise, found


@pytest.mark.long
def test_every_row_about_schedules_is_carried_out_somewhere() -> None:
    stories: set[str] = set()
    for acts in (("edit",), ("run",), ("remove", "add")):
        model = build(Setup(acts))
        model.explore(settling=False)
        stories |= model.stories
    rows = {row.name for row in TABLE.values() if Place.TICKS in row.consumes or Place.NEXT_TICKS in row.produces}
    assert {name for name in rows if any(f": {name}" in story for story in stories)} == rows
