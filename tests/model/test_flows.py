"""Every state of the modelled flows keeps the promises; without a rule a promise is broken."""

from __future__ import annotations

import sys

import pytest

from tests.model.engine import STUCK
from tests.model.flow_graph import Definition, Graph
from tests.model.flow_server import (
    AT_REST,
    HAD_TASK,
    NEEDED,
    OLD_REQUEST,
    ONCE,
    ONE_PLACE,
    OWN_OUTCOME,
    WHOLE,
    Rule,
    Setup,
)
from tests.model.flows import build

CHAIN = Graph((Definition("0"), Definition("1", ("0",))))
JOIN = Graph((Definition("0"), Definition("1"), Definition("2", ("0", "1")), Definition("3", ("2",))))
MARKS = Graph((Definition("0"), Definition("1", ("0",), "?"), Definition("2", ("0",), "!"), Definition("3", ("0",))))
EACH = Graph((Definition("0", each=2), Definition("1", ("0",))))
ADDS = Graph((Definition("0", adds=True),))

RETRIED = Setup(MARKS, ("retry",), failing=("0",), faults=0)
CANCELLED = Setup(CHAIN, ("cancel", "retry"), faults=0)
REMOVED = Setup(CHAIN, ("remove", "delete"), ("retry",), failing=("0",), faults=0)
ANEW = Setup(CHAIN, ("remove", "delete"), ("delete",), lives=2, faults=0)
COPIED = Setup(EACH, copies=1, faults=0)

LOST = Setup(CHAIN, deletions=1)
LOST_AGAIN = Setup(CHAIN, ("retry", "retry"), deletions=2, faults=0)

RUNS = {
    "two steps, three faults": Setup(CHAIN, workers=2, faults=3),
    "a join": Setup(JOIN),
    "a join under two masters that stand in": Setup(JOIN, faults=0, fenced=False),
    "marked steps and a retry": RETRIED,
    "marked steps of which some fail": Setup(MARKS, may_fail=("0", "1")),
    "a stop at the first failure": Setup(MARKS, stop=True, may_fail=("0", "1")),
    "a retry while the flow may be running": Setup(CHAIN, ("retry",), may_fail=("0",)),
    "a retry of one of two": Setup(JOIN, ("retry",), may_fail=("0", "1"), faults=0),
    "items that are made": Setup(EACH),
    "items that fail": Setup(EACH, ("retry",), may_fail=("0.1",), faults=0),
    "items of which a reference master makes copies": COPIED,
    "a copy of a step that may fail": Setup(CHAIN, ("retry",), may_fail=("0",), copies=1),
    "a step that adds another": Setup(ADDS),
    "a cancelled flow that is opened again": CANCELLED._replace(faults=1),
    "a cancelled join under two masters that stand in": Setup(CHAIN, ("cancel",), faults=0, fenced=False),
    "a removal beside a retry": REMOVED._replace(faults=1),
    "a large flow whose client may die, and its removal": Setup(JOIN, ("remove", "delete"), batches=2),
    "another flow of the same key": ANEW,
    "a task that is deleted by hand": LOST,
    "tasks that are deleted by hand, and retries": LOST_AGAIN,
    "a task that is deleted by hand, and a cancelled flow": LOST._replace(acts=("cancel",), faults=0),
}
EXPECTED = {
    Rule.RUNNING_LAST: (Setup(CHAIN, may_fail=("1",), faults=0), AT_REST),
    Rule.START_RUNNING_FIRST: (RUNS["a join under two masters that stand in"], AT_REST),
    Rule.EDGE_GONE: (RETRIED, STUCK),
    Rule.RUNNING_GUARD: (Setup(CHAIN, may_fail=("0",), copies=1, faults=0), ONE_PLACE),
    Rule.RETRY_SETS_HEADER: (Setup(CHAIN, ("retry",), failing=("0",), faults=0), AT_REST),
    Rule.END_NOT_EMPTY: (RUNS["a cancelled join under two masters that stand in"], AT_REST),
    Rule.REOPEN_TAKES_CANCEL: (CANCELLED, OLD_REQUEST),
    Rule.EXPAND_SETS_RUNNING: (COPIED._replace(workers=2), ONCE),
    Rule.EDGES_WITH_START: (RETRIED._replace(acts=(), faults=1), AT_REST),
    Rule.MARKED_AT_VERSION: (RETRIED, NEEDED),
    Rule.REMOVED_FIRST: (REMOVED, WHOLE),
    Rule.LEAVES_AT_VERSION: (ANEW, WHOLE),
    Rule.BUILT_AT_VERSION: (Setup(JOIN, ("remove", "delete"), batches=2, faults=0), WHOLE),
    Rule.LOSE_STEP: (LOST, STUCK),
    Rule.LOST_BEHIND_READ: (LOST, HAD_TASK),
    Rule.LOSE_KEEPS_RUN: (LOST_AGAIN, ONCE),
    Rule.OUTCOME_WITH_HEADER: (ANEW._replace(others=()), OWN_OUTCOME),
}


@pytest.mark.long
@pytest.mark.parametrize("name", RUNS)
def test_no_step_breaks_a_promise_and_every_flow_ends(name: str) -> None:
    verdict = build(RUNS[name]).explore()
    sys.stdout.write(f"\n{name}: {verdict.states} states, {verdict.depth} steps deep\n")
    assert verdict.counterexample is None, f"{name}\n{verdict.counterexample}"


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
