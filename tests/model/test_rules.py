"""Every rule stands against something: without it the model finds a story that breaks a promise."""

from __future__ import annotations

import sys

import pytest

from tests.model.client import NOT_TRUE, TWICE
from tests.model.engine import STUCK
from tests.model.primary import ONE_PRIMARY
from tests.model.rules import Rule, Setup
from tests.model.runs import ANY_MASTERS, UNCOUNTED
from tests.model.server import (
    ASKED,
    ATTEMPTS,
    COUNT_BACK,
    ENDED,
    FROM_THE_LIVING,
    KEY_OF_ANOTHER,
    LOST,
    MISCHARGED,
    STALE_DELIVERY,
    TO_THE_GONE,
    TWO_PLACES,
)
from tests.model.system import build
from tests.model.vocabulary import Kind
from tests.model.worker import NOT_IN_INBOX, UNMARKED

ONE = Setup(faults=1, wire_order=True)
TWO_FAULTS = Setup(faults=2, wire_order=True, hit=frozenset({"primary", "worker"}))
TWO_TASKS = Setup(tasks=2, faults=1, prompt=True)
KEY_TAKEN = Setup(tasks=2, faults=0, prompt=True, key_taken=True)
MIXED_MASTERS = TWO_FAULTS._replace(masters=ANY_MASTERS)
REFERENCE_WORKERS = ONE._replace(workers=Kind.REFERENCE, max_deliveries=UNCOUNTED)

EXPECTED = {
    Rule.ONE_TRANSACTION: (ONE, LOST),
    Rule.GUARD: (ONE._replace(cancelling=True), TWO_PLACES),
    Rule.WORKER_CHECK: (ONE, TO_THE_GONE),
    Rule.RACE_LOST_ONLY_AT_GUARD: (MIXED_MASTERS._replace(faults=1), STUCK),
    Rule.STATUS_DROPS: (REFERENCE_WORKERS, ENDED),
    Rule.KEEP_AND_TRY_LATER: (MIXED_MASTERS, LOST),
    Rule.DROPS_CHECK: (ONE, LOST),
    Rule.HAND_BACK_TO_OURS: (MIXED_MASTERS, LOST),
    Rule.ONE_IN_FLIGHT: (ONE, COUNT_BACK),
    Rule.OWN_DELIVERY: (ONE, STALE_DELIVERY),
    Rule.REPLY_ONLY_ENDS_MARK: (ONE, STUCK),
    Rule.LISTING_REPLACES: (TWO_FAULTS, STUCK),
    Rule.FRESH_LISTING: (ONE, STUCK),
    Rule.WHOLE_PICTURE: (ONE, FROM_THE_LIVING),
    Rule.ORPHAN_WAIT: (REFERENCE_WORKERS._replace(faults=0), STUCK),
    Rule.NEW_WORKER_ID: (ONE, FROM_THE_LIVING),
    Rule.RETRY_TO_OURS: (MIXED_MASTERS._replace(attempts=2), LOST),
    Rule.STAND_IN_KEEPS: (MIXED_MASTERS._replace(attempts=2), LOST),
    Rule.STAND_IN_WAITS: (MIXED_MASTERS._replace(faults=1), LOST),
    Rule.ATTEMPT_COUNTED: (ONE._replace(attempts=2), ATTEMPTS),
    Rule.ASKED_COUNTED: (ONE._replace(lacking=True), ASKED),
    Rule.MARK_START: (ONE, UNMARKED),
    Rule.ONLY_STARTED_COST: (TWO_FAULTS, MISCHARGED),
    Rule.WORKER_FENCE: (ONE, NOT_IN_INBOX),
    Rule.SESSION_FENCE: (ONE, ONE_PRIMARY),
    Rule.OWNER_IS_PRIMARY: (ONE, ONE_PRIMARY),
    Rule.ALIVE_CHECK: (ONE, NOT_TRUE),
    Rule.OLDER_ALIVE_DELETED: (ONE, NOT_TRUE),
    Rule.JOURNAL_VERSION: (TWO_TASKS, LOST),
    Rule.BAD_VERSION: (KEY_TAKEN, LOST),
    Rule.JOURNAL_READ: (ONE, TWICE),
    Rule.HOLD_GUARDS_KEY: (ONE._replace(faults=0, keyed=True, cancelling=True), KEY_OF_ANOTHER),
    Rule.SYNC: (ONE, NOT_TRUE),
}


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
@pytest.mark.timeout(180)
@pytest.mark.parametrize("setup", list(dict.fromkeys(setup for setup, _ in EXPECTED.values())))
def test_with_all_rules_the_same_runs_keep_the_promises(setup: Setup) -> None:
    found = build(setup).explore().counterexample
    assert found is None, found


def test_a_counterexample_is_told_as_a_story() -> None:
    found = build(ONE._replace(off=Rule.WORKER_CHECK)).explore().counterexample
    assert str(found) == (
        "Broken: nothing is assigned to a worker that is gone: that would cost the task a delivery.\n"
        "How it comes to that:\n"
        "   1. Worker A, a new one, registers with its inbox.\n"
        "   2. Worker A loses its connection.\n"
        "   3. The caller submits task 1.\n"
        "   4. The client sends: submit, task 1, counting on version 0.\n"
        "   5. ZooKeeper carries out: submit, task 1, counting on version 0.\n"
        "   6. A master takes over as primary.\n"
        "   7. The session of worker A ends.\n"
        "   8. The primary decides to assign task 1 to worker A.\n"
        "   9. ZooKeeper carries out: assign, task 1, worker A."
    )
