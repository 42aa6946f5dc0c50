"""The primary's mind, as far as one task is concerned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from herdmaster.core.transitions import Move, TransitionName
from tests.model.vocabulary import ASSIGN, INBOX_OF, INBOXES, NOWHERE, STATUS, TASKS, UNENDED, Slot, letters_of


class Mind(NamedTuple):
    """What the primary thinks of one task: where its picture shows it, with whom it is a duplicate (an inbox's letter
    or `STATUS`), and the move under way about it, of which `done` operations were carried out."""

    seen: frozenset[str] = NOWHERE
    twice: str | None = None
    move: Move | None = None
    done: int = 0
    looked: bool = False
    """It will not look at the name again before the name has left `/tasks`: the way of a reference master."""
    deaf: frozenset[str] = NOWHERE
    """Changes that it never hears of, because they happened while it was away and no listing replaced its picture."""
    late: Move | None = None
    """A move of an earlier primary, whose session has ended."""


EMPTY_MIND: Final = Mind()


def hear(mind: Mind, place: str, slots: Mapping[str, Slot], *, is_there: bool) -> Mind:
    """An event: the task came to a place, or left it."""
    seen = mind.seen | {place} if is_there else mind.seen - {place}
    twice, looked = mind.twice, mind.looked
    if is_there and TASKS in seen:
        holders = [letter for letter in INBOXES if ASSIGN[letter] in seen and slots[letter].seen_alive]
        newest = [letter for letter in holders if place == ASSIGN[letter]]
        twice = next(iter(newest or holders), twice)
    elif place == TASKS:
        twice, looked = None, False
    return mind._replace(seen=seen, twice=twice, looked=looked)


def catch_up(mind: Mind, places: frozenset[str], slots: Mapping[str, Slot]) -> Mind:
    """All the events that have happened; of one transaction what is consumed comes first."""
    for place in sorted(mind.seen - places - mind.deaf):
        mind = hear(mind, place, slots, is_there=False)
    for place in sorted(places & UNENDED - mind.seen - mind.deaf):
        if place not in INBOX_OF or slots[INBOX_OF[place]].seen_inbox:
            mind = hear(mind, place, slots, is_there=True)
    return mind


def duplicate_of(move: Move) -> str | None:
    """The duplicate that a move is about."""
    match move.transition:
        case TransitionName.DROP_TASK_BECAUSE_STATUS:
            return STATUS
        case TransitionName.DROP_TASK_BECAUSE_ASSIGNED:
            return next(iter(letters_of(move)), None)
    return None


def mind_counts(before: Mind, after: Mind) -> dict[str, int]:
    """How many tasks the picture shows in each inbox, and how many marks and moves name it."""
    counts = {}
    for letter, place in ASSIGN.items():
        counts[f"seen {letter}"] = (place in after.seen) - (place in before.seen)
        counts[f"named {letter}"] = _names(after, letter) - _names(before, letter)
    return {name: count for name, count in counts.items() if count}


def _names(mind: Mind, letter: str) -> int:
    moves = [move for move in (mind.move, mind.late) if move is not None and letter in letters_of(move)]
    return len(moves) + (mind.twice == letter)
