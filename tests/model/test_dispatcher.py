"""The modelled primary decides what the real dispatcher decides, in every picture that comes up."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from herdmaster.core.decisions import Assign, Decision, DropAssignment, DropTask, Recover, RemoveInbox
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.names import DEFAULT_QUEUE
from herdmaster.core.picture import Listing
from herdmaster.core.roster import WorkerState
from herdmaster.core.transitions import Move, TransitionName
from tests.model.mind import Mind, duplicate_of
from tests.model.primary import Primary
from tests.model.rules import Setup
from tests.model.system import build
from tests.model.vocabulary import (
    ALL_LISTINGS,
    ASSIGN,
    FIRST_PAYLOAD,
    INBOXES,
    STATUS,
    TASKS,
    WORKERS,
    Link,
    Seat,
    Slot,
    Znodes,
    call_name,
    letters_of,
)

TASK = call_name(1)
LATE = 1000.0
STATE = WorkerState(slots=100, queues=frozenset({DEFAULT_QUEUE}))


class Case(NamedTuple):
    a: Slot
    b: Slot
    seen: frozenset[str]
    twice: str | None

    @property
    def slots(self) -> dict[str, Slot]:
        return {"A": self.a, "B": self.b}


def cases(setup: Setup) -> set[Case]:
    """The pictures of a primary that may decide, without what it does not see."""
    model = build(setup)
    primary = Primary(setup, 1, TASK)
    model.explore(settling=False)
    found = set()
    for seat, a, b, _, mind in model.asked(primary.reads):
        assert isinstance(seat, Seat)
        assert isinstance(a, Slot)
        assert isinstance(b, Slot)
        assert isinstance(mind, Mind)
        if seat.link is Link.UP and seat.listings == ALL_LISTINGS and mind.move is None:
            found.add(Case(pictured(a), pictured(b), mind.seen, mind.twice))
    return found


def pictured(slot: Slot) -> Slot:
    return Slot(seen_alive=slot.seen_alive, seen_inbox=slot.seen_inbox)


def picture(case: Case) -> Dispatcher:
    """A real dispatcher that has been told what the picture shows. A mark about a copy that is gone is made first."""
    dispatcher = Dispatcher()
    marked = [letter for letter in INBOXES if letter == case.twice]
    seen = case.seen | {TASKS for _ in marked} | {ASSIGN[letter] for letter in marked}
    with_inbox = [letter for letter, slot in case.slots.items() if slot.seen_inbox or letter in marked]
    alive = [letter for letter, slot in case.slots.items() if slot.seen_alive or letter in marked]
    dispatcher.replace_tasks([TASK] if TASKS in seen else [])
    dispatcher.replace_inboxes([WORKERS[letter] for letter in with_inbox], 0.0)
    for letter in with_inbox:
        dispatcher.replace_assignments(WORKERS[letter], [TASK] if ASSIGN[letter] in seen else [], 0.0)
    dispatcher.replace_workers([WORKERS[letter] for letter in alive], 0.0)
    for letter in alive:
        dispatcher.set_worker_state(WORKERS[letter], STATE)
    dispatcher.add_statuses([TASK] if case.twice == STATUS else [])
    for part in Listing:
        dispatcher.complete(part)
    for letter in marked:
        dispatcher.add_assignment(WORKERS[letter], TASK)  # the last that was heard of makes the mark
        leave(dispatcher, case, letter)
    return dispatcher


def leave(dispatcher: Dispatcher, case: Case, letter: str) -> None:
    slot, worker = case.slots[letter], WORKERS[letter]
    if ASSIGN[letter] not in case.seen:
        dispatcher.remove_assignment(worker, TASK)
    if not slot.seen_alive:
        dispatcher.remove_worker(worker, 0.0)
    if not slot.seen_inbox:
        dispatcher.remove_inbox(worker)


def decided_really(case: Case) -> set[Decision]:
    dispatcher = picture(case)
    decisions = set(dispatcher.decide(LATE, 100))
    drops = {decision for decision in decisions if isinstance(decision, DropTask)}
    if case.twice is None and drops:  # a mark that was answered before: both copies are still in the picture
        dispatcher.finish(TASK)
        decisions = decisions - drops | set(dispatcher.decide(LATE, 100))
    return decisions


def decided_in_the_model(primary: Primary, case: Case) -> set[Decision]:
    znodes = Znodes()
    for place in case.seen:
        znodes = znodes.written(place, FIRST_PAYLOAD)
    mind = Mind(seen=case.seen, twice=case.twice)
    return {as_decision(move) for _, move in primary.decisions(mind, znodes, case.slots)}


def as_decision(move: Move) -> Decision:
    workers = [WORKERS[letter] for letter in letters_of(move)]
    match move.transition:
        case TransitionName.ASSIGN:
            return Assign(TASK, workers[0])
        case TransitionName.DROP_ASSIGNMENT_BECAUSE_TASK:
            return DropAssignment(TASK, workers[0])
        case TransitionName.DROP_TASK_BECAUSE_ASSIGNED | TransitionName.DROP_TASK_BECAUSE_STATUS:
            return DropTask(TASK, None if duplicate_of(move) == STATUS else workers[0])
    return Recover(TASK, workers[0])


@pytest.mark.long
def test_the_modelled_primary_decides_what_the_dispatcher_does() -> None:
    """Among several workers, or lost inboxes, the dispatcher has its own preference, and the model allows any."""
    setup = Setup(faults=1)
    primary = Primary(setup, 1, TASK)
    found = cases(setup)
    for case in found:
        decisions = decided_really(case)
        inboxes = {decision for decision in decisions if isinstance(decision, RemoveInbox)}
        of_the_task, allowed = decisions - inboxes, decided_in_the_model(primary, case)
        assert of_the_task <= allowed, case
        assert of_the_task or not allowed, case
        assert inboxes == {
            RemoveInbox(WORKERS[letter])
            for letter, slot in case.slots.items()
            if slot.seen_inbox and not slot.seen_alive and ASSIGN[letter] not in case.seen
        }, case
    kinds = {type(decision) for case in found for decision in decided_really(case)}
    assert kinds == {Assign, Recover, DropTask, DropAssignment, RemoveInbox}
