"""What a client's journal submits: items, each accepted or refused by itself, and batches of them."""

from __future__ import annotations

from collections.abc import Callable

from herdmaster.core.operations import CreateNode, FlowPart, NewTask, Submission
from herdmaster.errors import HerdError, NotSubmitted

Accepted = Callable[[NewTask, HerdError | None], None]
Answer = Callable[[HerdError | None], None]

_OVERHEAD = 200


class KeyTaken(NotSubmitted):
    """The task was certainly not accepted, because another one holds its uniqueness key. Of a flow: there is one with
    its key, or its name, already."""


class Item:
    """A task, or a part of a flow. `asked_at` is set for a task that is due or expires at a time. `abandoned`: its
    caller was told that the outcome is unknown. `cost` is its bytes, `creates` the number of znodes that it makes."""

    __slots__ = ("abandoned", "answer", "asked_at", "cost", "creates", "entry", "name")

    def __init__(self, entry: NewTask | FlowPart, answer: Answer, asked_at: float | None = None) -> None:
        self.entry = entry
        self.name = entry.name
        self.answer = answer
        self.asked_at = asked_at
        self.abandoned = False
        if isinstance(entry, FlowPart):
            creations = [each for each in entry.operations if isinstance(each, CreateNode)]
            self.cost = _OVERHEAD + sum(len(each.data) + len(each.path) + 64 for each in creations)
            self.creates = len(creations)
        else:
            self.cost = len(entry.data) + len(entry.name) + _OVERHEAD
            self.creates = 1 if entry.key_hash is None else 3  # the task, its key, the hold


class Batch:
    """Items that were sent as one transaction. `counted_on` is the version of the journal that it expects. `refused`:
    certainly not accepted, whatever the journal's version is."""

    __slots__ = ("counted_on", "items", "refused", "replied", "submission")

    def __init__(self, items: list[Item], counted_on: int, submission: Submission) -> None:
        self.items = items
        self.counted_on = counted_on
        self.submission = submission
        self.replied = False
        self.refused = False
