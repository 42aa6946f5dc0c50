"""What befalls a whole role, and what becomes of one task then, in the primary's mind and in the workers' hands."""

from __future__ import annotations

import enum
from typing import NamedTuple

from tests.model.engine import Reaction, Step
from tests.model.mind import EMPTY_MIND, Mind, mind_counts
from tests.model.reference_moves import at_takeover
from tests.model.rules import Rule, Setup
from tests.model.vocabulary import ASSIGN, EMPTY_HAND, INBOXES, STATUS, TASKS, UNENDED, Doing, Hand, Kind, Znodes


class Listed(NamedTuple):
    """The listings of these places have come to a primary of this kind, after a takeover or a reconnect; `alive` are
    the workers in them."""

    places: frozenset[str]
    takeover: bool
    kind: Kind
    alive: frozenset[str]


class Relisted(NamedTuple):
    """A worker has listed its inbox anew."""

    letter: str


class Crashed(NamedTuple):
    """A worker's process is dead; what it has sent is on its way."""

    letter: str
    how: str = "crashed"


class Ended(NamedTuple):
    """A worker's session has ended."""

    letter: str
    how: str = "ended"


class End(enum.Enum):
    PRIMARY_CUT = "the primary's connection is lost, or it has crashed"
    PRIMARY_OVER = "the session that owned /master has ended"
    CLIENT_OVER = "the client has crashed"


class Reactions:
    """Of the task with this number and name."""

    def __init__(self, setup: Setup, number: int, task: str) -> None:
        self._setup = setup
        self._number = number
        self._task = task

    def reaction(self) -> Reaction:
        number = self._number
        return Reaction((f"znodes {number}", f"mind {number}", f"hand {number}A", f"hand {number}B"), self._react)

    def _react(self, event: object, znodes: Znodes, mind: Mind, a: Hand, b: Hand) -> Step:
        hands = {"A": a, "B": b}
        match event:
            case Relisted(letter):
                return self._hand(letter, self._relisted(znodes, letter, hands[letter]))
            case Crashed(letter):
                hand = hands[letter]
                return self._hand(letter, EMPTY_HAND if hand.move is None else Hand(move=hand.move, done=hand.done))
            case Ended(letter):
                is_zombie = self._setup.off is Rule.WORKER_FENCE
                return self._hand(letter, hands[letter]._replace(move=None) if is_zombie else EMPTY_HAND)
            case Listed():
                return self._mind(mind, self._listed(event, znodes, mind))
            case End.PRIMARY_CUT:
                picture = mind if self._setup.keeps_picture else mind._replace(seen=frozenset())
                return self._mind(mind, picture)
            case End.PRIMARY_OVER:
                is_unfenced = self._setup.off is Rule.SESSION_FENCE
                return self._mind(mind, EMPTY_MIND._replace(late=mind.move if is_unfenced else None))
        return Step("", {})

    def _relisted(self, znodes: Znodes, letter: str, hand: Hand) -> Hand:
        if hand.doing is Doing.LEFT and self._setup.workers is Kind.OURS:
            return EMPTY_HAND  # ours reads everything anew
        is_known = ASSIGN[letter] in znodes.places or hand.move is not None
        return hand if is_known else EMPTY_HAND

    def _hand(self, letter: str, hand: Hand) -> Step:
        return Step("", {f"hand {self._number}{letter}": hand})

    def _mind(self, before: Mind, after: Mind) -> Step:
        return Step("", {f"mind {self._number}": after}, mind_counts(before, after))

    def _listed(self, event: Listed, znodes: Znodes, mind: Mind) -> Mind:
        places = znodes.places & event.places
        seen = mind.seen - event.places | places
        if event.kind is Kind.REFERENCE:
            recovers = event.takeover and not self._setup.c_master
            move = at_takeover(self._task, znodes, event.alive) if recovers else mind.move
            return mind._replace(seen=seen & {TASKS}, move=move, looked=mind.looked and TASKS in places)
        deaf = mind.deaf
        if self._setup.keeps_picture and not event.takeover:
            seen = mind.seen | places if self._setup.off is Rule.LISTING_REPLACES else mind.seen
            deaf = seen ^ (znodes.places & UNENDED)
        twice = self._find_duplicate(event, znodes.places, mind)
        return mind._replace(seen=frozenset() if self._setup.prompt else seen, deaf=deaf, twice=twice)

    def _find_duplicate(self, event: Listed, places: frozenset[str], mind: Mind) -> str | None:
        if TASKS not in places:
            return None
        for letter in INBOXES:
            if letter in event.alive and ASSIGN[letter] in places:
                return letter
        return STATUS if event.takeover and STATUS in places else mind.twice
