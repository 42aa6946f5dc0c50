"""What a worker holds, and what of it is started next."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from herdmaster.core.names import parse_task_name
from herdmaster.core.options import PoolKind
from herdmaster.core.transitions import Move
from herdmaster.pools.job import Job
from herdmaster.roles.worker.next_move import Again
from herdmaster.running.delivery import Delivered


class Held:
    """One delivery in this worker's hands: first waiting, then a job in the pool, then a move to commit.

    `again`: its code has run, and it goes back as soon as it is known where to; or, where it was retried in place, it
    waits here for its next attempt.
    """

    __slots__ = ("again", "alone", "job", "kind", "marked", "outcome", "since", "suspect", "task")

    def __init__(self, task: Delivered, now: float) -> None:
        self.task = task
        self.since = now
        self.kind = PoolKind.THREAD
        self.job: Job[Held] | None = None
        self.suspect = False  # a worker was lost while it ran this task
        self.alone = False  # a suspect that nothing else may run beside
        self.marked = False  # of a suspect: its start is marked
        self.again: Again | None = None
        self.outcome: Move | None = None

    @property
    def has_begun(self) -> bool:
        """Whether its code has run, and what came of that is still to be committed."""
        return self.again is not None or self.outcome is not None


class Room(msgspec.Struct):
    """Slots that are free: in all, and of each pool. `prefetches`: the pool may be given more than that. `is_empty`:
    nothing was handed over; `is_closed`: what was handed over runs alone."""

    slots: int
    of: dict[PoolKind, int]
    prefetches: bool = True
    is_empty: bool = False
    is_closed: bool = False

    def take(self, kind: PoolKind) -> bool:
        """False if there is none left."""
        if self.slots <= 0 or self.of[kind] <= 0:
            return False
        self.slots -= 1
        self.of[kind] -= 1
        return True


def choose_starts(waiting: Iterable[Held], is_idle: Callable[[str], bool], room: Room) -> tuple[list[Held], list[Held]]:
    """What goes to the pools, and the suspects whose start is marked first; each with the most urgent in front. Uses
    the room up.

    Without suspects, and where all is for one pool, everything goes there, where it is prefetched. A suspect is not
    prefetched, or it would be charged for what others do to the worker. So while there are any, no more is handed over
    than there are idle slots, less those that are kept for the suspects. What `is_idle` denies has a request under way.
    """
    if room.is_closed:
        return [], []
    everything = sorted(waiting, key=_urgency)
    if any(held.alone for held in everything):
        return _choose_alone(everything, is_idle, room)
    free = [held for held in everything if is_idle(held.task.name)]
    if room.prefetches and not any(held.suspect for held in everything):
        return free, []
    marked = [held for held in free if held.marked]
    known = set(map(id, free))
    for held in (*marked, *(held for held in everything if held.suspect and id(held) not in known)):
        room.take(held.kind)
    to_mark = [held for held in free if held.suspect and not held.marked and room.take(held.kind)]
    others = [held for held in free if not held.suspect and room.take(held.kind)]
    return marked + others, to_mark


def _choose_alone(everything: list[Held], is_idle: Callable[[str], bool], room: Room) -> tuple[list[Held], list[Held]]:
    """One suspect that runs alone, once nothing else does; until then no other task is begun. A start that is marked
    already comes first, and one that is being marked is waited for: it would be charged for what the next one does.
    """
    suspects = [held for held in everything if held.suspect]
    marked = [held for held in suspects if held.marked]
    others = [held for held in marked if not held.alone and is_idle(held.task.name)]
    if others:
        return [held for held in others if room.take(held.kind)], []
    if not room.is_empty or any(not held.alone and not is_idle(held.task.name) for held in suspects):
        return [], []
    alone = next(held for held in (*marked, *suspects) if held.alone)
    if not is_idle(alone.task.name):
        return [], []
    return ([alone], []) if alone.marked else ([], [alone])


def _urgency(held: Held) -> tuple[int, int]:
    name = parse_task_name(held.task.name)
    return (-name.priority if name is not None else 0, held.task.czxid)
