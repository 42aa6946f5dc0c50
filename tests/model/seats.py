"""Masters: how one becomes primary, loses its connection, crashes, and comes back."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping

from tests.model.engine import Process, Step
from tests.model.events import End, Listed
from tests.model.rules import Rule, Setup
from tests.model.vocabulary import ALL_LISTINGS, ASSIGN, DELAYED, INBOXES, INBOXES_LISTED, TASKS, Kind, Link, Seat, Slot

_MASTERS = {Kind.OURS: "A master", Kind.REFERENCE: "A reference master"}


class Masters:
    """Backups differ in nothing until one of them takes the seat, and it is free when its owner's session has ended."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def process(self) -> Process:
        return Process(("faults", "seat", "slot A", "slot B"), self._steps)

    def _steps(self, faults: int, seat: Seat, a: Slot, b: Slot) -> Iterator[Step]:
        slots = {"A": a, "B": b}
        match seat.link:
            case Link.NONE:
                for kind in self._setup.masters:
                    story = f"{_MASTERS[kind]} takes over as primary"
                    yield self._listed(story, Seat(Link.UP, kind), slots, takeover=True)
            case Link.UP if seat.listings < ALL_LISTINGS:
                yield self._listed("The primary gets the next of its listings", seat, slots, takeover=True)
            case Link.AWAY:
                back = seat._replace(link=Link.UP)
                yield self._listed("The primary reconnects and takes its listings", back, slots, takeover=False)
            case Link.CRASHED if self._setup.off is Rule.OWNER_IS_PRIMARY:
                story = "The master starts again, reads its own name in /master, and takes itself for the primary"
                yield self._listed(story, Seat(Link.UP, owner=False), slots, takeover=True)
        if seat.link in (Link.AWAY, Link.CRASHED):
            is_dead = seat.link is Link.CRASHED
            yield Step("The primary's session ends", seat_free(slots), progress=is_dead, event=End.PRIMARY_OVER)
        if self._setup.may_fail("primary", faults):
            if seat.link is Link.UP:
                yield self._cut("The primary loses its connection", seat._replace(link=Link.AWAY), slots)
            if seat.link in (Link.UP, Link.AWAY):
                yield self._cut("The primary crashes", seat._replace(link=Link.CRASHED), slots)

    def _cut(self, story: str, seat: Seat, slots: Mapping[str, Slot]) -> Step:
        changes: dict[str, Hashable] = {"seat": seat}
        if not self._setup.keeps_picture or seat.link is Link.CRASHED:
            changes |= {f"slot {letter}": slot.unseen() for letter, slot in slots.items()}
        return Step(story, changes, {"faults": -1}, progress=False, event=End.PRIMARY_CUT)

    def _listed(self, story: str, seat: Seat, slots: Mapping[str, Slot], *, takeover: bool) -> Step:
        """All the listings, which are of one moment as long as nothing is decided before the last of them."""
        one_by_one = takeover and self._setup.off is Rule.WHOLE_PICTURE
        before = seat.listings if one_by_one else 0
        after = before + 1 if one_by_one else ALL_LISTINGS
        tasks = {TASKS, DELAYED} if before == 0 else set()
        assignments = set(ASSIGN.values()) if before < INBOXES_LISTED <= after else set()
        changes: dict[str, Hashable] = {"seat": seat._replace(listings=after)}
        if not self._setup.prompt and (takeover or self._setup.keeps(Rule.FRESH_LISTING)):
            changes |= {f"slot {letter}": _pictured(slot, after) for letter, slot in slots.items()}
        alive = [letter for letter in INBOXES if slots[letter].is_alive and after == ALL_LISTINGS]
        event = Listed(frozenset(tasks | assignments), takeover, seat.kind, frozenset(alive))
        return Step(story, changes, event=event)


def _pictured(slot: Slot, listings: int) -> Slot:
    if listings == ALL_LISTINGS:
        return slot.pictured()
    return slot._replace(seen_inbox=slot.inbox) if listings == INBOXES_LISTED else slot


def seat_free(slots: Mapping[str, Slot]) -> dict[str, Hashable]:
    """What changes when the session of the primary has ended."""
    changes: dict[str, Hashable] = {"seat": Seat()}
    return changes | {f"slot {letter}": slot._replace(removing=False).unseen() for letter, slot in slots.items()}
