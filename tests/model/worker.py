"""Our worker and one task in its inbox, as in `roles/worker/worker_session.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from herdmaster.core import transitions
from herdmaster.core.endings import freed_key
from herdmaster.core.payload import decode_call, with_asked, with_attempt, with_start
from herdmaster.core.transitions import Move, TransitionName, Verdict, verdict
from tests.model.engine import Step
from tests.model.rules import Rule, Setup
from tests.model.server import ATTEMPTS, RETRIES, STALE_DELIVERY, Applied, Refused, Server, attempt, deliveries
from tests.model.vocabulary import (
    ASSIGN,
    DUE,
    EMPTY_HAND,
    LACKING,
    RAW_PAYLOAD,
    UNENDED,
    WORKERS,
    Doing,
    Hand,
    Kind,
    Link,
    Seat,
    Slot,
    Znodes,
    describe,
    without_checks,
)

NOT_IN_INBOX: Final = "no worker starts a task that is not in its inbox"
_MAX_ASKED: Final = 2
UNMARKED: Final = "a task that was lost with a worker before is not started without a mark: that would cost nothing"


class Worker:
    """`letter` is the inbox's. Of a reference master in the seat nothing is handed back."""

    def __init__(self, setup: Setup, number: int, task: str, letter: str) -> None:
        self._setup = setup
        self._number = number
        self._task = task
        self._letter = letter
        self._server = Server(setup, task, own=True)
        self._who = f"Worker {letter}"
        self._what = f"task {number}"

    @property
    def reads(self) -> tuple[str, ...]:
        return ("seat", f"slot {self._letter}", f"znodes {self._number}", f"hand {self._number}{self._letter}")

    def steps(self, seat: Seat, slot: Slot, znodes: Znodes, hand: Hand) -> Iterator[Step]:
        if slot.link is Link.UP:
            if hand.move is not None:
                yield from self._served(slot, znodes, hand, hand.move)
            elif ASSIGN[self._letter] in znodes.places:
                yield from self._go_on(seat, slot, znodes, hand)
            elif hand != EMPTY_HAND:
                yield self._hand(f"{self._who} hears that {self._what} left its inbox", EMPTY_HAND)
        elif hand.move is not None:
            yield from self._served_unheard(slot, znodes, hand, hand.move)
        elif self._is_off(Rule.WORKER_FENCE) and slot.link in (Link.AWAY, Link.GONE):
            yield from self._start(slot, znodes, hand)

    def _is_off(self, rule: Rule) -> bool:
        return self._setup.off is rule

    def _hand(self, story: str, hand: Hand, *, progress: bool = True, broken: str | None = None) -> Step:
        return Step(story, {f"hand {self._number}{self._letter}": hand}, progress=progress, broken=broken)

    # --- what it does with a task that is in its inbox ---------------------------------------------------------------

    def _go_on(self, seat: Seat, slot: Slot, znodes: Znodes, hand: Hand) -> Iterator[Step]:
        match hand.doing:
            case Doing.NOTHING:
                story = f"{self._who} reads {self._what} in its inbox"
                yield self._hand(story, Hand(Doing.WAITING, znodes.payload(ASSIGN[self._letter])))
            case Doing.WAITING if self._setup.lacking and self._letter == LACKING and not slot.draining:
                yield self._sends(hand, self._forward(seat, hand))
            case Doing.WAITING | Doing.MARKED:
                if not (slot.draining and self._may_hand_back(seat)):
                    yield from self._start(slot, znodes, hand)
                if self._may_hand_back(seat):
                    yield self._hands_back(hand, progress=slot.draining)
            case Doing.RUNNING:
                yield self._sends(hand, transitions.complete(WORKERS[self._letter], self._task, b"outcome"))
                yield from self._fails(seat, hand)
                if slot.draining and self._may_hand_back(seat):
                    yield self._hands_back(hand, progress=True)
            case Doing.HANDING:
                yield self._hands_back(hand, progress=True)
            case Doing.ENDING:
                yield self._sends(hand, self._drop())

    def _fails(self, seat: Seat, hand: Hand) -> Iterator[Step]:
        """Its code has raised: the next attempt, or after the last of several the grave."""
        worker, task = WORKERS[self._letter], self._task
        if self._setup.attempts == 1 or hand.payload == RAW_PAYLOAD:
            return
        moves: list[Move] = []
        if attempt(hand.payload) >= self._setup.attempts:
            moves.append(transitions.bury(worker, task, hand.payload, b"failed", freed_key(task, hand.payload)))
        elif seat.link is not Link.NONE or self._is_off(Rule.RETRY_TO_OURS):
            again = with_attempt(hand.payload) if self._setup.keeps(Rule.ATTEMPT_COUNTED) else hand.payload
            if seat.kind is Kind.OURS:
                moves += [transitions.retry_now(worker, task, again), transitions.retry_later(worker, task, DUE, again)]
            else:
                moves.append(transitions.retry_in_place(worker, task, again))
        for move in moves:
            yield self._sends(hand, move, progress=False)

    def _forward(self, seat: Seat, hand: Hand) -> Move:
        worker, task = WORKERS[self._letter], self._task
        if len(decode_call(hand.payload).asked) + 1 >= _MAX_ASKED or seat.kind is not Kind.OURS:
            return transitions.complete(worker, task, b"unknown call", freed_key(task, hand.payload))
        keeps = self._setup.keeps(Rule.ASKED_COUNTED)
        payload = with_asked(hand.payload, worker) if keeps else hand.payload
        return transitions.forward(worker, task, DUE, payload)

    def _may_hand_back(self, seat: Seat) -> bool:
        """To a primary of ours. A reference primary may be about to delete the name that this would create."""
        return seat.kind is Kind.OURS and (seat.link is not Link.NONE or self._is_off(Rule.HAND_BACK_TO_OURS))

    def _start(self, slot: Slot, znodes: Znodes, hand: Hand) -> Iterator[Step]:
        if hand.doing not in (Doing.WAITING, Doing.MARKED):
            return
        suspect = hand.payload != RAW_PAYLOAD and deliveries(hand.payload) > 0
        if suspect and hand.doing is Doing.WAITING and self._setup.keeps(Rule.MARK_START):
            marked = with_start(hand.payload, WORKERS[self._letter])
            yield self._sends(hand, transitions.mark_start(WORKERS[self._letter], self._task, marked))
            return
        broken = None
        if ASSIGN[self._letter] not in znodes.places:
            broken = NOT_IN_INBOX
        elif suspect and decode_call(znodes.payload(ASSIGN[self._letter])).started != WORKERS[self._letter]:
            broken = UNMARKED
        yield self._hand(f"{self._who} starts {self._what}", hand._replace(doing=Doing.RUNNING), broken=broken)

    def _hands_back(self, hand: Hand, *, progress: bool) -> Step:
        move = transitions.hand_back(WORKERS[self._letter], self._task, hand.payload)
        return self._sends(hand._replace(doing=Doing.HANDING), move, progress=progress)

    def _drop(self) -> Move:
        move = transitions.drop_assignment_because_status(WORKERS[self._letter], self._task)
        return without_checks(move) if self._is_off(Rule.DROPS_CHECK) else move

    def _sends(self, hand: Hand, move: Move, *, progress: bool = True) -> Step:
        return self._hand(
            f"{self._who} sends: {describe(move, self._number)}", hand._replace(move=move), progress=progress
        )

    # --- its moves -------------------------------------------------------------------------------------------------

    def _served(self, slot: Slot, znodes: Znodes, hand: Hand, move: Move) -> Iterator[Step]:
        name = describe(move, self._number)
        result = self._server.carry_out(move, znodes, {self._letter: slot})
        if isinstance(result, Applied):
            after = EMPTY_HAND
            if move.transition is TransitionName.MARK_START:
                after = hand._replace(doing=Doing.MARKED, move=None)
            elif move.transition is TransitionName.RETRY_IN_PLACE:
                after = Hand(Doing.WAITING, result.znodes.payload(ASSIGN[self._letter]))
            yield self._applied(f"ZooKeeper carries out: {name}", after, hand, result)
            return
        reason = verdict(move, result.at, result.failure)
        yield self._hand(f"ZooKeeper refuses: {name} ({reason.value})", self._refused(hand, move, result))

    def _refused(self, hand: Hand, move: Move, refused: Refused) -> Hand:
        found = verdict(move, refused.at, refused.failure)
        if found is Verdict.DROP_ASSIGNMENT and self._setup.keeps(Rule.STATUS_DROPS):
            return hand._replace(doing=Doing.ENDING, move=self._drop())
        if found is Verdict.KEEP_AND_TRY_LATER and self._is_off(Rule.KEEP_AND_TRY_LATER):
            drop = transitions.drop_assignment_because_task(WORKERS[self._letter], self._task)
            return hand._replace(move=drop)
        if found is Verdict.WITHOUT_KEY:
            return hand._replace(move=transitions.without_key(move))
        if found is Verdict.RACE_LOST or self._is_off(Rule.RACE_LOST_ONLY_AT_GUARD):
            return Hand(Doing.LEFT)
        if found is Verdict.DECIDE_AGAIN and move.transition is TransitionName.DROP_ASSIGNMENT_BECAUSE_STATUS:
            ended = transitions.complete(WORKERS[self._letter], self._task, None)
            return hand._replace(doing=Doing.ENDING, move=ended)
        return hand._replace(move=None)

    def _served_unheard(self, slot: Slot, znodes: Znodes, hand: Hand, move: Move) -> Iterator[Step]:
        """The connection is away. What was carried out is told by the listing after the reconnect, so it is forgotten
        here at once; a role that goes by names alone would not find out."""
        name = describe(move, self._number)
        result = self._server.carry_out(move, znodes, {self._letter: slot})
        lost = hand._replace(move=None)
        if isinstance(result, Applied):
            stays = (TransitionName.MARK_START, TransitionName.RETRY_IN_PLACE)
            after = EMPTY_HAND if slot.link is Link.CRASHED or move.transition not in stays else lost
            if self._is_off(Rule.OWN_DELIVERY) and slot.link is Link.AWAY:
                after = lost._replace(done=1)
            yield self._applied(
                f"ZooKeeper carries out, and worker {self._letter} does not hear: {name}", after, hand, result
            )
        if slot.link is Link.AWAY:
            yield self._hand(f"The request of worker {self._letter} is lost: {name}", lost)

    def _applied(self, story: str, after: Hand, before: Hand, result: Applied) -> Step:
        changes = {f"hand {self._number}{self._letter}": after, f"znodes {self._number}": result.znodes}
        is_stale = before.done and before.doing is not Doing.WAITING and self._is_off(Rule.OWN_DELIVERY)
        broken = result.broken or (STALE_DELIVERY if is_stale else None) or self._find_uncounted(result, before)
        return Step(story, changes, result.counts, broken=broken)

    def _find_uncounted(self, result: Applied, before: Hand) -> str | None:
        """A retry that is repeated, because the reply was lost, writes what stands there already."""
        if before.move is None or before.move.transition not in RETRIES:
            return None
        unended = (payload for place, payload in result.znodes.data if place in UNENDED)
        return None if any(attempt(payload) == attempt(before.payload) + 1 for payload in unended) else ATTEMPTS
