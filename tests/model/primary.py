"""Our primary and one task: what it hears, decides and has carried out, as in `core/dispatcher.py`."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Final

from herdmaster.core import transitions
from herdmaster.core.ending_moves import refuse
from herdmaster.core.endings import freed_key, too_large
from herdmaster.core.keys import HeldKey
from herdmaster.core.payload import with_start
from herdmaster.core.recovery import MAX_MOVABLE, Recovery, follow_up
from herdmaster.core.transitions import Move, TransitionName, Verdict, verdict
from herdmaster.core.whereabouts import Waiting
from tests.model.engine import Step
from tests.model.mind import Mind, catch_up, duplicate_of, hear, mind_counts
from tests.model.rules import Rule, Setup
from tests.model.server import Applied, Refused, Server
from tests.model.vocabulary import (
    ALL_LISTINGS,
    ASSIGN,
    CANCEL,
    DELAYED,
    DUE,
    INBOX_OF,
    INBOXES,
    INBOXES_LISTED,
    STATUS,
    TASKS,
    UNENDED,
    WORKERS,
    Kind,
    Link,
    Seat,
    Slot,
    Znodes,
    describe,
    letters_of,
    without_checks,
)

ONE_PRIMARY: Final = "only the session that owns /master acts as primary"


class Primary:
    """`number` is the task's, `task` its name."""

    def __init__(self, setup: Setup, number: int, task: str) -> None:
        self._setup = setup
        self._number = number
        self._task = task
        self._what = f"task {number}"
        self._server = Server(setup, task)
        self._recovery = Recovery(setup.max_deliveries)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("seat", "slot A", "slot B", f"znodes {self._number}", f"mind {self._number}")

    def steps(self, seat: Seat, a: Slot, b: Slot, znodes: Znodes, mind: Mind) -> Iterator[Step]:
        slots = {"A": a, "B": b}
        if mind.late is not None:
            yield self._late(mind, mind.late, znodes, slots)
        if seat.kind is not Kind.OURS:
            return
        if seat.link is Link.UP:
            yield from self._hear(mind, znodes, slots)
            if seat.listings == ALL_LISTINGS or (seat.listings >= INBOXES_LISTED and self._is_off(Rule.WHOLE_PICTURE)):
                yield from self._decide(mind, znodes, slots)
            if mind.move is not None:
                yield from self._served(seat, mind, mind.move, znodes, slots)
        elif mind.move is not None:
            yield from self._served_unheard(seat, mind, mind.move, znodes, slots)

    def _is_off(self, rule: Rule) -> bool:
        return self._setup.off is rule

    def _mind(self, story: str, before: Mind, after: Mind) -> Step:
        return Step(story, {f"mind {self._number}": after}, mind_counts(before, after))

    # --- its picture -----------------------------------------------------------------------------------------------

    def _hear(self, mind: Mind, znodes: Znodes, slots: Mapping[str, Slot]) -> Iterator[Step]:
        if self._setup.prompt:
            return
        for place in sorted(UNENDED):
            is_there = place in znodes.places
            if place in mind.deaf:
                if is_there == (place in mind.seen):
                    yield self._mind("", mind, mind._replace(deaf=mind.deaf - {place}))
            elif is_there != (place in mind.seen) and (place not in INBOX_OF or slots[INBOX_OF[place]].seen_inbox):
                where = f"the inbox of worker {INBOX_OF[place]}" if place in INBOX_OF else f"/{place}"
                story = f"The primary hears that {self._what} {'came to' if is_there else 'left'} {where}"
                yield self._mind(story, mind, hear(mind, place, slots, is_there=is_there))

    def _seen(self, mind: Mind, znodes: Znodes) -> frozenset[str]:
        return znodes.places & UNENDED if self._setup.prompt else mind.seen

    def _sees_alive(self, slot: Slot) -> bool:
        return slot.is_alive if self._setup.prompt else slot.seen_alive

    def _sees_inbox(self, slot: Slot) -> bool:
        return slot.inbox if self._setup.prompt else slot.seen_inbox

    # --- its decisions ---------------------------------------------------------------------------------------------

    def _decide(self, mind: Mind, znodes: Znodes, slots: Mapping[str, Slot]) -> Iterator[Step]:
        free = mind
        if mind.move is not None and mind.late is None and self._is_off(Rule.ONE_IN_FLIGHT):
            free = mind._replace(move=None, late=mind.move)
        if free.move is None:
            for what, move in self.decisions(free, znodes, slots):
                after = free._replace(move=self._as_sent(move), done=0, twice=None)
                yield self._mind(f"The primary decides to {what}", mind, after)

    def decisions(self, mind: Mind, znodes: Znodes, slots: Mapping[str, Slot]) -> Iterator[tuple[str, Move]]:
        """What it may decide while nothing is under way about the task."""
        seen, task, what = self._seen(mind, znodes), self._task, self._what
        if mind.twice == STATUS:
            yield f"drop {what} from /tasks: it has a status", transitions.drop_task_because_status(task)
        elif mind.twice is not None:
            move = transitions.drop_task_because_assigned(WORKERS[mind.twice], task)
            yield f"drop {what} from /tasks: worker {mind.twice} holds it", move
        if mind.twice is not None:
            return
        gone = [letter for letter, slot in slots.items() if self._sees_inbox(slot) and not self._sees_alive(slot)]
        gone = [letter for letter in gone if ASSIGN[letter] in seen]
        for letter in gone:
            if TASKS in seen:
                move = transitions.drop_assignment_because_task(WORKERS[letter], task)
                yield f"drop the assignment of {what} to worker {letter}: it stands in /tasks", move
            elif ASSIGN[letter] in znodes.places:  # otherwise its payload cannot be read
                yield self._recover(letter, znodes)
        if TASKS in seen & znodes.places and not gone and not mind.looked:
            yield from self._assign(znodes, slots)
        if DELAYED in seen & znodes.places:
            yield from self._promote(znodes)
        if CANCEL in znodes.places:
            yield from self._cancel(seen, znodes)

    def _promote(self, znodes: Znodes) -> Iterator[tuple[str, Move]]:
        """As in `roles/primary/promotion.py`, which asks no other part: a part of its own."""
        payload = znodes.payload(DELAYED)
        yield f"promote {self._what}, which is due", transitions.promote(DUE, self._task, payload)
        if self._setup.expiring:
            move = transitions.refuse_delayed(DUE, self._task, b"expired", freed_key(self._task, payload))
            yield f"end {self._what} in /delayed: its time is over", move

    def _recover(self, letter: str, znodes: Znodes) -> tuple[str, Move]:
        has_status = STATUS in znodes.places and self._setup.keeps(Rule.STATUS_DROPS)
        payload = znodes.payload(ASSIGN[letter])
        if self._is_off(Rule.ONLY_STARTED_COST):
            payload = with_start(payload, WORKERS[letter])
        move = self._recovery.move(WORKERS[letter], self._task, payload, has_status=has_status)
        return f"send: {describe(move, self._number)}, which is gone", move

    def _assign(self, znodes: Znodes, slots: Mapping[str, Slot]) -> Iterator[tuple[str, Move]]:
        payload = znodes.payload(TASKS)
        if len(payload) > MAX_MOVABLE:
            yield f"refuse {self._what}: it is too large", refuse(Waiting(self._task), b"", too_large(1))
            return
        if self._setup.expiring:
            yield (
                f"end {self._what}: its time is over",
                transitions.refuse(self._task, b"expired", freed_key(self._task, payload)),
            )
        for letter, slot in slots.items():
            if self._sees_alive(slot) and self._sees_inbox(slot):
                yield (
                    f"assign {self._what} to worker {letter}",
                    transitions.assign(self._task, WORKERS[letter], payload),
                )

    def _cancel(self, seen: frozenset[str], znodes: Znodes) -> Iterator[tuple[str, Move]]:
        payloads = dict(znodes.data)  # of what is gone by now the move is refused at its guard

        def key(place: str) -> HeldKey | None:
            return freed_key(self._task, payloads.get(place, b""))

        if TASKS in seen:
            yield f"cancel {self._what}, which waits", transitions.cancel_waiting(self._task, b"cancelled", key(TASKS))
        if DELAYED in seen:
            move = transitions.cancel_delayed(DUE, self._task, b"cancelled", key(DELAYED))
            yield f"cancel {self._what}, which is delayed", move
        for letter in INBOXES:
            if ASSIGN[letter] in seen:
                move = transitions.cancel_assigned(WORKERS[letter], self._task, b"cancelled", key(ASSIGN[letter]))
                yield f"cancel {self._what}, which worker {letter} holds", move
        if not znodes.places & UNENDED:
            yield f"drop the request to cancel {self._what}, which has ended", transitions.drop_cancel(self._task)

    def _as_sent(self, move: Move) -> Move:
        rule = Rule.WORKER_CHECK if move.transition is TransitionName.ASSIGN else Rule.DROPS_CHECK
        return without_checks(move) if self._is_off(rule) else move

    # --- its moves -------------------------------------------------------------------------------------------------

    def _served(self, seat: Seat, mind: Mind, move: Move, znodes: Znodes, slots: Mapping[str, Slot]) -> Iterator[Step]:
        """Carried out, and the reply handled. A reply that only ends the mark may as well be handled at once: as long
        as it is not, the primary just decides nothing about the task."""
        name = describe(move, self._number)
        if mind.done and self._is_off(Rule.REPLY_ONLY_ENDS_MARK):
            after = mind._replace(move=None, done=0, looked=move.transition is TransitionName.ASSIGN)
            yield self._mind(f"The primary has the reply to: {name}", mind, after)
            return
        last = mind.done + 1 if self._is_off(Rule.ONE_TRANSACTION) else len(move.operations)
        result = self._server.carry_out(move, znodes, slots, first=mind.done, last=last)
        if isinstance(result, Applied):
            after = mind._replace(move=None, done=0) if last == len(move.operations) else mind._replace(done=last)
            if self._is_off(Rule.REPLY_ONLY_ENDS_MARK):
                after = mind._replace(done=1)
            step = self._applied(f"ZooKeeper carries out: {name}", mind, after, result, seat)
            yield self._caught_up(step, mind, after, result.znodes, slots)
            return
        following = self._following(move, result)
        after = mind._replace(move=following, done=0)
        more = f"; the primary sends: {describe(following, self._number)}" if following is not None else ""
        reason = verdict(move, result.at, result.failure).value
        step = self._mind(f"ZooKeeper refuses: {name} ({reason}){more}", mind, after)
        yield self._caught_up(step, mind, after, znodes, slots)

    def _caught_up(self, step: Step, before: Mind, after: Mind, znodes: Znodes, slots: Mapping[str, Slot]) -> Step:
        """In the order of the wire, the events of everything that happened come before the reply."""
        if not self._setup.wire_order or self._setup.prompt:
            return step
        pictured = {letter: slot.pictured() for letter, slot in slots.items()}
        after = catch_up(after, znodes.places, pictured)
        changes: dict[str, Hashable] = {f"slot {letter}": slot for letter, slot in pictured.items()}
        counts = {name: count for name, count in step.counts.items() if name.startswith("held")}
        changes = {**step.changes, **changes, f"mind {self._number}": after}
        return step._replace(changes=changes, counts=counts | mind_counts(before, after))

    def _following(self, move: Move, refused: Refused) -> Move | None:
        found = verdict(move, refused.at, refused.failure)
        if found is Verdict.KEEP_AND_TRY_LATER and self._is_off(Rule.KEEP_AND_TRY_LATER):
            return transitions.drop_assignment_because_task(WORKERS[letters_of(move)[0]], self._task)
        following = follow_up(move, found)
        return None if following is None else self._as_sent(following)

    def _served_unheard(
        self, seat: Seat, mind: Mind, move: Move, znodes: Znodes, slots: Mapping[str, Slot]
    ) -> Iterator[Step]:
        """The connection is away: the request may still arrive, may be lost, or may not have left yet."""
        name = describe(move, self._number)
        after = mind._replace(move=None, done=0, twice=mind.twice or duplicate_of(move))
        result = self._server.carry_out(move, znodes, slots, first=mind.done)
        if isinstance(result, Applied):
            yield self._applied(
                f"ZooKeeper carries out, and the primary does not hear: {name}", mind, after, result, seat
            )
        yield self._mind(f"The primary's request is lost: {name}", mind, after)

    def _late(self, mind: Mind, move: Move, znodes: Znodes, slots: Mapping[str, Slot]) -> Step:
        """A second move under way about the task, or one of a primary before this one."""
        after = mind._replace(late=None)
        name = describe(move, self._number)
        result = self._server.carry_out(move, znodes, slots)
        if not isinstance(result, Applied):
            return self._mind(f"ZooKeeper refuses another move: {name}", mind, after)
        owner = self._setup.keeps(Rule.SESSION_FENCE)
        return self._applied(f"ZooKeeper carries out another move: {name}", mind, after, result, Seat(owner=owner))

    def _applied(self, story: str, before: Mind, after: Mind, result: Applied, seat: Seat) -> Step:
        counts = mind_counts(before, after) | result.counts
        changes = {f"mind {self._number}": after, f"znodes {self._number}": result.znodes}
        return Step(story, changes, counts, broken=result.broken or (None if seat.owner else ONE_PRIMARY))
