"""The oldest of our masters under a primary of the reference: it does what that one leaves undone.

It holds no office, so nothing fences it but the guard of each transaction. It is told of no fault of its own: if it is
gone, the next oldest takes its place. It waits for longer than any move and any takeover of the primary takes before it
assigns or recovers; time is not modelled, so here it waits until nothing of the primary's is under way about the task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from herdmaster.core import transitions
from herdmaster.core.recovery import Recovery, follow_up
from herdmaster.core.transitions import Move, TransitionName, Verdict, verdict
from tests.model.engine import Step
from tests.model.mind import Mind
from tests.model.rules import Rule, Setup
from tests.model.server import Applied, Server
from tests.model.vocabulary import (
    ASSIGN,
    DELAYED,
    DUE,
    INBOXES,
    STATUS,
    TASKS,
    WORKERS,
    Kind,
    Link,
    Seat,
    Slot,
    Znodes,
    describe,
)


class StandIn:
    """One task."""

    def __init__(self, setup: Setup, number: int, task: str) -> None:
        self._setup = setup
        self._number = number
        self._task = task
        self._server = Server(setup, task)
        self._recovery = Recovery(setup.max_deliveries)

    @property
    def reads(self) -> tuple[str, ...]:
        slots = (f"slot {letter}" for letter in INBOXES)
        return ("seat", *slots, f"znodes {self._number}", f"mind {self._number}")

    def steps(self, seat: Seat, a: Slot, b: Slot, znodes: Znodes, mind: Mind) -> Iterator[Step]:
        if seat.kind is not Kind.REFERENCE or seat.link is Link.NONE:
            return
        slots = {"A": a, "B": b}
        if DELAYED in znodes.places:
            yield from self._carried_out(transitions.promote(DUE, self._task, znodes.payload(DELAYED)), znodes, slots)
        if not _is_at_it(mind, znodes) or self._setup.off is Rule.STAND_IN_WAITS:
            for move in self._overdue(znodes, slots):
                yield from self._carried_out(move, znodes, slots)

    def _overdue(self, znodes: Znodes, slots: Mapping[str, Slot]) -> Iterator[Move]:
        """What a primary of ours would do with a task in `/tasks` or in the inbox of a worker that is gone."""
        task, places = self._task, znodes.places
        holders = [letter for letter in INBOXES if ASSIGN[letter] in places]
        gone = [letter for letter in holders if slots[letter].link is Link.GONE]
        if TASKS in places and STATUS in places:
            yield transitions.drop_task_because_status(task)
        elif TASKS in places and holders != gone:
            letter = next(letter for letter in holders if letter not in gone)
            yield transitions.drop_task_because_assigned(WORKERS[letter], task)
        elif TASKS in places and gone:
            yield transitions.drop_assignment_because_task(WORKERS[gone[0]], task)
        elif TASKS in places:
            for letter in (letter for letter in INBOXES if slots[letter].is_alive):
                yield transitions.assign(task, WORKERS[letter], znodes.payload(TASKS))
        for letter in gone if TASKS not in places else ():
            payload = znodes.payload(ASSIGN[letter])
            yield self._recovery.move(WORKERS[letter], task, payload, has_status=STATUS in places)

    def _carried_out(self, move: Move | None, znodes: Znodes, slots: Mapping[str, Slot]) -> Iterator[Step]:
        while move is not None:
            result = self._server.carry_out(move, znodes, slots)
            if isinstance(result, Applied):
                story = f"For a master that stands in ZooKeeper carries out: {describe(move, self._number)}"
                yield Step(story, {f"znodes {self._number}": result.znodes}, result.counts, broken=result.broken)
                return
            move = self._following(move, verdict(move, result.at, result.failure))

    def _following(self, move: Move, found: Verdict) -> Move | None:
        """What stands in `/tasks` as well the other primary may be about to delete: then it is tried again later."""
        return follow_up(move, found, stands_in=self._setup.off is not Rule.STAND_IN_KEEPS)


def _is_at_it(mind: Mind, znodes: Znodes) -> bool:
    """Whether the primary will do more about the task, and not only try for ever to create it where it stands."""
    if mind.move is None:
        return False
    is_create = mind.done == 0 and mind.move.transition is TransitionName.RECOVER
    return not (is_create and TASKS in znodes.places)
