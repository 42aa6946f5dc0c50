"""ZooKeeper's part: it carries out the operations of a move, all or none. What was promised is checked with each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import product
from typing import Final, NamedTuple

from herdmaster.core.payload import decode_call
from herdmaster.core.transitions import (
    CheckNode,
    CreateNode,
    DeleteNode,
    Failure,
    Move,
    Operation,
    SetNode,
    TransitionName,
)
from herdmaster.errors import BadPayload
from tests.model.rules import Rule, Setup
from tests.model.vocabulary import (
    ASSIGN,
    CANCEL,
    DEAD,
    HOLD,
    INBOX_OF,
    KEY,
    OF_KEYS,
    RIVAL,
    STATUS,
    UNENDED,
    WORKER_PATHS,
    WORKERS,
    Slot,
    Znodes,
    letters_of,
    paths_of,
)

TWO_PLACES: Final = "an accepted task stands in exactly one place"
LOST: Final = "an accepted task is never lost"
TWO_OUTCOMES: Final = "a task has at most one outcome"
TO_THE_GONE: Final = "nothing is assigned to a worker that is gone: that would cost the task a delivery"
FROM_THE_LIVING: Final = "nothing is recovered from a worker that is alive"
ENDED: Final = "what has a status is not put back into /tasks"
COUNT_BACK: Final = "the count of a task's deliveries never goes back"
MISCHARGED: Final = "a lost worker costs a task a delivery, from the second on only where its start was marked"
ATTEMPTS: Final = "a retry counts as an attempt, and nothing else does"
ASKED: Final = "a task that is passed on names who was asked"
KEY_OF_ANOTHER: Final = "no task frees the key of another"
KEY_PAIR: Final = "a key and its hold come and go together"
KEY_KEPT: Final = "what ends otherwise than done frees its key, and what is not ended or is done holds it"
STALE_DELIVERY: Final = "a worker moves only the delivery that it has read"


RETRIES = (TransitionName.RETRY_NOW, TransitionName.RETRY_LATER, TransitionName.RETRY_IN_PLACE)
_NEVER_HOLD = (
    TransitionName.BURY,
    TransitionName.REFUSE,
    TransitionName.REFUSE_ASSIGNED,
    TransitionName.REFUSE_DELAYED,
    TransitionName.CANCEL_WAITING,
    TransitionName.CANCEL_DELAYED,
    TransitionName.CANCEL_ASSIGNED,
    TransitionName.EXPIRE,
)
_ALWAYS_HOLD = (
    *RETRIES,
    TransitionName.PROMOTE,
    TransitionName.ASSIGN,
    TransitionName.FORWARD,
    TransitionName.HAND_BACK,
    TransitionName.RECOVER,
)
_FROM_THE_GONE = (TransitionName.RECOVER, TransitionName.BURY, TransitionName.REFUSE_ASSIGNED)


class Applied(NamedTuple):
    """`counts` is what it adds to the counters of assignments; `broken` the promise that it breaks."""

    znodes: Znodes
    counts: dict[str, int]
    broken: str | None


class Refused(NamedTuple):
    """The index of the operation that failed, and why."""

    at: int
    failure: Failure


class Server:
    """The znodes of one task, with the inboxes and workers around it. `two_requests`: for a role whose moves are two,
    and which may therefore have a task in two places for a while. `own`: for a worker, which buries what failed in its
    own hands."""

    def __init__(self, setup: Setup, task: str, *, two_requests: bool = False, own: bool = False) -> None:
        self._own = own
        self._setup = setup
        self._two_requests = two_requests
        self._places = paths_of(task)

    def carry_out(
        self, move: Move, znodes: Znodes, slots: Mapping[str, Slot], *, first: int = 0, last: int | None = None
    ) -> Applied | Refused:
        """The operations from `first` to before `last`, all by default, as one transaction."""
        now = znodes
        for index, operation in enumerate(move.operations[first:last], first):
            result = self._carry_out_one(operation, now, slots)
            if isinstance(result, Znodes):
                now = result
            elif index != move.guard or result is not Failure.NO_NODE or self._setup.keeps(Rule.GUARD):
                return Refused(index, result)
        excused = now.excused or self._two_requests
        now = now._replace(excused=excused and len(_copies(now)) > 1)
        return Applied(now, _count(znodes, now), self._find_broken(move, znodes, now, slots))

    def _carry_out_one(self, operation: Operation, now: Znodes, slots: Mapping[str, Slot]) -> Znodes | Failure:
        place = self._places.get(operation.path)
        if place is None:
            exists = slots[WORKER_PATHS[operation.path]].is_alive
            assert isinstance(operation, CheckNode), f"{operation} is about nothing that is modelled"
            return now if exists else Failure.NO_NODE
        match operation:
            case CreateNode():
                return _create(place, operation.data, now, slots)
            case DeleteNode() if place in now.places:
                return now.without(place)
            case DeleteNode() if place == HOLD and not self._setup.keeps(Rule.HOLD_GUARDS_KEY):
                return now
            case DeleteNode() if place == KEY and RIVAL in now.places:
                return now.without(RIVAL)
            case SetNode() if place in now.places:
                return now.written(place, operation.data)
            case CheckNode() if place in now.places:
                return now
        return Failure.NO_NODE

    def _find_broken(self, move: Move, before: Znodes, now: Znodes, slots: Mapping[str, Slot]) -> str | None:
        if RIVAL in before.places - now.places:
            return KEY_OF_ANOTHER
        if (KEY in now.places) != (HOLD in now.places):
            return KEY_PAIR
        if (KEY in before.places and move.transition in _ALWAYS_HOLD and KEY not in now.places) or (
            KEY in now.places and move.transition in _NEVER_HOLD
        ):
            return KEY_KEPT
        if len(_copies(now)) > 1 and not now.excused:
            return TWO_PLACES
        if before.accepted and not _copies(now) and not now.outcomes:
            return LOST
        if now.outcomes > 1 and self._setup.only_ours:
            return TWO_OUTCOMES
        if self._two_requests:
            return None
        if move.transition is TransitionName.RECOVER and STATUS in now.places:
            return ENDED
        holders = [slots[INBOX_OF[place]] for place in now.places ^ before.places if place in INBOX_OF]
        if move.transition is TransitionName.ASSIGN and any(not slot.is_alive for slot in holders):
            return TO_THE_GONE
        if move.transition in _FROM_THE_GONE and not self._own and any(slot.is_alive for slot in holders):
            return FROM_THE_LIVING
        return _find_miscounted(move, before, now, own=self._own)


def _find_miscounted(move: Move, before: Znodes, now: Znodes, *, own: bool) -> str | None:
    """Compares the payloads that a move took away or wrote over with those that it wrote."""
    old = [payload for place, payload in before.data if (place, payload) not in now.data and place in UNENDED]
    new = [payload for place, payload in now.data if (place, payload) not in before.data and place in UNENDED]
    for taken, written in product(old, new):
        if deliveries(written) < deliveries(taken):
            return COUNT_BACK
        if move.transition is TransitionName.RECOVER and _is_charged(taken, move) != (
            deliveries(written) > deliveries(taken)
        ):
            return MISCHARGED
        if not 0 <= attempt(written) - attempt(taken) <= (move.transition in RETRIES):
            return ATTEMPTS
        if _asked(written) - _asked(taken) != (move.transition is TransitionName.FORWARD):
            return ASKED
    is_buried = move.transition is TransitionName.BURY and not own
    return MISCHARGED if is_buried and not all(_is_charged(taken, move) for taken in old) else None


def _is_charged(payload: bytes, move: Move) -> bool:
    """Whether the worker that was lost costs the task a delivery. At the first loss it is not known whether it was
    started. The mark may be that of a worker before: a primary of the reference puts the task back with it."""
    lost = [WORKERS[letter] for letter in letters_of(move)]
    return is_call(payload) and (deliveries(payload) == 0 or decode_call(payload).started in lost)


def _create(place: str, data: bytes, now: Znodes, slots: Mapping[str, Slot]) -> Znodes | Failure:
    if place in INBOX_OF and not slots[INBOX_OF[place]].inbox:
        return Failure.NO_NODE
    if place in now.places:
        return Failure.NODE_EXISTS
    outcomes = min(now.outcomes + (place == STATUS), 2)
    return now._replace(outcomes=outcomes).written(place, data if place in UNENDED else b"")


def _copies(znodes: Znodes) -> frozenset[str]:
    return znodes.places - OF_KEYS - {DEAD, CANCEL}


def _count(before: Znodes, now: Znodes) -> dict[str, int]:
    return {
        f"held {letter}": (place in now.places) - (place in before.places)
        for letter, place in ASSIGN.items()
        if (place in now.places) != (place in before.places)
    }


@cache
def is_call(payload: bytes) -> bool:
    try:
        decode_call(payload)
    except BadPayload:
        return False
    return True


def deliveries(payload: bytes) -> int:
    """Raw tasks carry no count."""
    return decode_call(payload).deliveries if is_call(payload) else 0


def attempt(payload: bytes) -> int:
    return decode_call(payload).attempt if is_call(payload) else 1


def _asked(payload: bytes) -> int:
    return len(decode_call(payload).asked) if is_call(payload) else 0
