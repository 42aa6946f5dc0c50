"""Workers: how they register, lose their connections, crash and drain, and how the inbox of one that is gone goes."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import partial

from tests.model.engine import Process, Step
from tests.model.events import Crashed, Ended, Relisted
from tests.model.rules import Rule, Setup
from tests.model.vocabulary import INBOXES, OTHER, Kind, Link, Seat, Slot


class Workers:
    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def processes(self) -> list[Process]:
        found: list[Process] = []
        for letter in INBOXES:
            other = OTHER[letter]
            counters = (f"seen {letter}", f"named {letter}", f"seen {other}", f"named {other}")
            session = ("faults", f"slot {letter}", f"slot {other}", *counters)
            inbox = ("seat", f"slot {letter}", f"held {letter}", f"seen {letter}")
            found += [Process(session, partial(self._session, letter)), Process(inbox, partial(self._inbox, letter))]
        return found

    # --- its session -----------------------------------------------------------------------------------------------

    def _session(self, letter: str, faults: int, slot: Slot, other: Slot, *named: int) -> Iterator[Step]:
        who, field = f"Worker {letter}", f"slot {letter}"
        # Nothing but their letters distinguishes the inboxes, so a new worker takes the first that is free.
        is_first = letter == INBOXES[0] or other != Slot() or any(named[2:])
        if slot == Slot() and not any(named[:2]) and is_first:
            yield self._new(letter, other)
        match slot.link:
            case Link.REGISTERING:
                yield Step(f"{who} registers", {field: slot._replace(link=Link.UP)})
            case Link.AWAY:
                up = slot._replace(link=Link.UP)
                yield Step(f"{who} reconnects and lists its inbox", {field: up}, event=Relisted(letter))
            case Link.GONE if self._setup.off is Rule.NEW_WORKER_ID:
                up = slot._replace(link=Link.UP, inbox=True)
                yield Step(f"{who} registers again under its old id", {field: up}, event=Relisted(letter))
        if slot.link in (Link.AWAY, Link.CRASHED):
            gone, is_dead = slot._replace(link=Link.GONE).tidied(), slot.link is Link.CRASHED
            yield Step(f"The session of worker {letter} ends", {field: gone}, progress=is_dead, event=Ended(letter))
        if self._setup.may_fail("worker", faults):
            yield from self._fail(letter, slot)
        if slot.link is Link.UP and self._setup.draining and not slot.draining:
            yield Step(f"{who} is told to drain", {field: slot._replace(draining=True)}, progress=False)

    def _new(self, letter: str, other: Slot) -> Step:
        is_reference = self._setup.workers is Kind.REFERENCE
        link, story = (Link.REGISTERING, "makes its inbox") if is_reference else (Link.UP, "registers with its inbox")
        slot: Hashable = Slot(link, inbox=True)
        # Where another is at work, nothing may depend on a second one coming.
        return Step(
            f"Worker {letter}, a new one, {story}", {f"slot {letter}": slot}, progress=other.link is not Link.UP
        )

    def _fail(self, letter: str, slot: Slot) -> Iterator[Step]:
        who, field, less = f"Worker {letter}", f"slot {letter}", {"faults": -1}
        if slot.link is Link.UP:
            away = slot._replace(link=Link.AWAY)
            yield Step(f"{who} loses its connection", {field: away}, less, progress=False)
        if slot.link in (Link.UP, Link.AWAY):
            dead = slot._replace(link=Link.CRASHED, draining=False)
            yield Step(f"{who} crashes", {field: dead}, less, progress=False, event=Crashed(letter))
        if slot.link is Link.REGISTERING:
            gone = slot._replace(link=Link.GONE)
            yield Step(f"{who} crashes before it registers", {field: gone}, less, progress=False)

    # --- its inbox -------------------------------------------------------------------------------------------------

    def _inbox(self, letter: str, seat: Seat, slot: Slot, held: int, seen: int) -> Iterator[Step]:
        field = f"slot {letter}"
        if slot.draining and slot.link is Link.UP:
            yield from self._drained(letter, seat, slot, held)
        if slot.removing:
            after = slot._replace(removing=False)
            can_go = slot.inbox and not held
            yield Step(
                f"ZooKeeper {'deletes' if can_go else 'refuses to delete'} the inbox of worker {letter}",
                {field: after._replace(inbox=slot.inbox and not can_go).tidied()},
            )
            if seat.link is not Link.UP:
                yield Step(
                    f"The primary's request is lost: delete the inbox of worker {letter}", {field: after.tidied()}
                )
        elif seat.link is Link.UP and self._may_remove(slot, held if self._setup.prompt else seen):
            story = f"The primary decides to delete the inbox of worker {letter}"
            yield Step(story, {field: slot._replace(removing=True)})
        if seat.link is Link.UP and not self._setup.prompt:
            yield from self._hear(letter, slot, seen)

    def _drained(self, letter: str, seat: Seat, slot: Slot, held: int) -> Iterator[Step]:
        gone = slot._replace(link=Link.GONE, draining=False)
        if seat.kind is Kind.OURS and seat.link is not Link.NONE:
            if not held:
                story = f"Worker {letter} has drained and takes its inbox away"
                yield Step(story, {f"slot {letter}": gone._replace(inbox=False).tidied()}, event=Ended(letter))
            return
        what = "its time is over: it ends its session with tasks in its inbox" if held else "it has run its inbox empty"
        yield Step(f"Worker {letter} drains, and {what}", {f"slot {letter}": gone}, event=Ended(letter))

    def _hear(self, letter: str, slot: Slot, seen: int) -> Iterator[Step]:
        if slot.is_alive != slot.seen_alive:
            # Of a worker's registration both parts come together.
            seen_inbox = slot.seen_inbox or (slot.is_alive and slot.inbox)
            after = slot._replace(seen_alive=slot.is_alive, seen_inbox=seen_inbox).tidied()
            what = "joined" if slot.is_alive else "is gone"
            yield Step(f"The primary hears that worker {letter} {what}", {f"slot {letter}": after})
        elif slot.inbox != slot.seen_inbox and (slot.inbox or not seen):
            after = slot._replace(seen_inbox=slot.inbox).tidied()
            what = "is there" if slot.inbox else "is gone"
            yield Step(f"The primary hears that the inbox of worker {letter} {what}", {f"slot {letter}": after})

    def _may_remove(self, slot: Slot, held: int) -> bool:
        """The wait for a worker that may be about to register ends, at the latest, with its session."""
        is_hasty = self._setup.off is Rule.ORPHAN_WAIT and slot.link is Link.REGISTERING
        if held or not (slot.link is Link.GONE or is_hasty):
            return False
        return slot.inbox if self._setup.prompt else slot.seen_inbox and not slot.seen_alive
