"""Every promise about a task's znodes is noticed when it is broken."""

from __future__ import annotations

import pytest

from herdmaster.core import layout, transitions
from herdmaster.core.payload import after_loss, with_asked, with_attempt, with_start
from herdmaster.core.transitions import CreateNode, Failure, Move, TransitionName
from tests.model.mind import EMPTY_MIND, Mind, mind_counts
from tests.model.rules import Setup
from tests.model.server import (
    ASKED,
    ATTEMPTS,
    COUNT_BACK,
    ENDED,
    FROM_THE_LIVING,
    LOST,
    MISCHARGED,
    TO_THE_GONE,
    TWO_OUTCOMES,
    TWO_PLACES,
    Applied,
    Refused,
    Server,
)
from tests.model.system import build
from tests.model.vocabulary import (
    ASSIGN,
    DELAYED,
    DUE,
    FIRST_PAYLOAD,
    STATUS,
    TASKS,
    WORKERS,
    Link,
    Slot,
    Znodes,
    call_name,
    without_checks,
)

COUNTERS = [f"{kind} {letter}" for kind in ("held", "seen", "named") for letter in ASSIGN]
T, W = call_name(1), WORKERS["A"]
ALIVE, GONE = Slot(Link.UP, inbox=True), Slot(Link.GONE, inbox=True)
LOST_ONCE = after_loss(FIRST_PAYLOAD, W)
SECOND = with_attempt(FIRST_PAYLOAD)
LOST_TWICE = after_loss(with_start(LOST_ONCE, W), W)


def task(*places: str, payload: bytes = FIRST_PAYLOAD, outcomes: int = 0, excused: bool = False) -> Znodes:
    znodes = Znodes(accepted=1, outcomes=outcomes, excused=excused)
    for place in places:
        znodes = znodes.written(place, payload)
    return znodes


ASSIGNED = CreateNode(layout.assignment_path(W, T), FIRST_PAYLOAD)

CASES = [
    (Move(TransitionName.ASSIGN, T, (ASSIGNED,), 0), ALIVE, task(TASKS), TWO_PLACES),
    (without_checks(transitions.drop_task_because_status(T)), ALIVE, task(TASKS), LOST),
    (transitions.complete(W, T, b""), ALIVE, task(ASSIGN["A"], outcomes=1), TWO_OUTCOMES),
    (transitions.recover(W, T, FIRST_PAYLOAD), GONE, task(ASSIGN["A"], STATUS, outcomes=1, excused=True), ENDED),
    (without_checks(transitions.assign(T, W, FIRST_PAYLOAD)), GONE, task(TASKS), TO_THE_GONE),
    (transitions.recover(W, T, LOST_ONCE), ALIVE, task(ASSIGN["A"]), FROM_THE_LIVING),
    (transitions.hand_back(W, T, FIRST_PAYLOAD), ALIVE, task(ASSIGN["A"], payload=LOST_ONCE), COUNT_BACK),
    (transitions.recover(W, T, LOST_TWICE), GONE, task(ASSIGN["A"], payload=LOST_ONCE), MISCHARGED),
    (transitions.recover(W, T, FIRST_PAYLOAD), GONE, task(ASSIGN["A"]), MISCHARGED),
    (transitions.bury(W, T, LOST_ONCE, b""), GONE, task(ASSIGN["A"], payload=LOST_ONCE), MISCHARGED),
    (transitions.retry_now(W, T, FIRST_PAYLOAD), ALIVE, task(ASSIGN["A"], payload=SECOND), ATTEMPTS),
    (transitions.hand_back(W, T, SECOND), ALIVE, task(ASSIGN["A"]), ATTEMPTS),
    (transitions.forward(W, T, DUE, FIRST_PAYLOAD), ALIVE, task(ASSIGN["A"]), ASKED),
    (transitions.retry_later(W, T, DUE, SECOND), ALIVE, task(ASSIGN["A"]), None),
    (transitions.forward(W, T, DUE, with_asked(FIRST_PAYLOAD, W)), ALIVE, task(ASSIGN["A"]), None),
    (transitions.promote(DUE, T, FIRST_PAYLOAD), ALIVE, task(DELAYED), None),
    (transitions.assign(T, W, FIRST_PAYLOAD), ALIVE, task(TASKS), None),
    (transitions.complete(W, T, b""), ALIVE, task(ASSIGN["A"]), None),
    (transitions.recover(W, T, LOST_ONCE), GONE, task(ASSIGN["A"]), None),
    (transitions.collect(T), ALIVE, task(STATUS, outcomes=1), None),
]  # fmt: skip


@pytest.mark.parametrize(("move", "slot", "znodes", "broken"), CASES)
def test_a_move_that_breaks_a_promise_is_noticed(move: Move, slot: Slot, znodes: Znodes, broken: str | None) -> None:
    result = Server(Setup(), T).carry_out(move, znodes, {"A": slot})
    assert isinstance(result, Applied)
    assert result.broken == broken


def test_a_move_is_carried_out_whole_or_not_at_all() -> None:
    result = Server(Setup(), T).carry_out(transitions.complete(W, T, b""), task(ASSIGN["A"], STATUS), {"A": ALIVE})
    assert result == Refused(1, Failure.NODE_EXISTS)


def test_the_counters_agree_with_what_they_count() -> None:
    model = build(Setup(faults=1, wire_order=True))
    model.explore(settling=False)
    for view in model.views():
        znodes, mind = view["znodes 1"], view["mind 1"]
        assert isinstance(znodes, Znodes)
        assert isinstance(mind, Mind)
        counted = {f"held {letter}": 1 for letter, place in ASSIGN.items() if place in znodes.places}
        counted |= mind_counts(EMPTY_MIND, mind)
        assert counted == {name: view[name] for name in COUNTERS if view[name] != 0}
