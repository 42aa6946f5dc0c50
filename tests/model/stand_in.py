"""The oldest of our masters under a primary of the reference's: it does what that one leaves undone.

It holds no office, so nothing fences it but the guard of each transaction. It is told of no fault of its own: if it is
gone, the next oldest takes its place.
"""

from __future__ import annotations

from collections.abc import Iterator

from herdmaster.core import transitions
from herdmaster.core.transitions import Move, Verdict, verdict
from tests.model.engine import Step
from tests.model.rules import Rule, Setup
from tests.model.server import Applied, Server
from tests.model.vocabulary import DELAYED, DUE, INBOXES, Kind, Link, Seat, Slot, Znodes, describe


class StandIn:
    """One task."""

    def __init__(self, setup: Setup, number: int, task: str) -> None:
        self._setup = setup
        self._number = number
        self._task = task
        self._server = Server(setup, task)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("seat", *(f"slot {letter}" for letter in INBOXES), f"znodes {self._number}")

    def steps(self, seat: Seat, a: Slot, b: Slot, znodes: Znodes) -> Iterator[Step]:
        if seat.kind is not Kind.REFERENCE or seat.link is Link.NONE or DELAYED not in znodes.places:
            return
        move: Move | None = transitions.promote(DUE, self._task, znodes.payload(DELAYED))
        while move is not None:
            result = self._server.carry_out(move, znodes, {"A": a, "B": b})
            if isinstance(result, Applied):
                story = f"For a master that stands in ZooKeeper carries out: {describe(move, self._number)}"
                yield Step(story, {f"znodes {self._number}": result.znodes}, result.counts, broken=result.broken)
                return
            move = self._following(verdict(move, result.at, result.failure))

    def _following(self, found: Verdict) -> Move | None:
        """What stands in `/tasks` as well the other primary may be about to delete: then it is tried again later."""
        if found is Verdict.DROP_DELAYED_ENDED:
            return transitions.drop_delayed_because_status(DUE, self._task)
        if found is Verdict.DROP_DELAYED_WAITING and self._setup.off is Rule.STAND_IN_KEEPS:
            return transitions.drop_delayed_because_task(DUE, self._task)
        return None
