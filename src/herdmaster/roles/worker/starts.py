"""Decides which of the waiting tasks are started next."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from herdmaster.core.names import parse_task_name
from herdmaster.core.options import PoolKind
from herdmaster.roles.worker.held import Held


class Room(msgspec.Struct):
    """The slots that are free: in all, and `of` each pool.

    `prefetches`: whether the pool may be given more than that. `is_empty`: whether all slots are free. `is_closed`:
    whether a task runs alone, so that nothing may be started beside it.
    """

    slots: int
    of: dict[PoolKind, int]
    prefetches: bool = True
    is_empty: bool = False
    is_closed: bool = False

    def take(self, kind: PoolKind) -> bool:
        """Take a slot. Return False if none is left."""
        if self.slots <= 0 or self.of[kind] <= 0:
            return False
        self.slots -= 1
        self.of[kind] -= 1
        return True


def choose_starts(waiting: Iterable[Held], is_idle: Callable[[str], bool], room: Room) -> tuple[list[Held], list[Held]]:
    """Return the tasks that go to the pools, and the suspects whose start is marked first; each with the most urgent in
    front. Uses up the room. A task whose name `is_idle` denies has a request under way and is left out.

    - Without suspects, and if all tasks are for one pool, every task goes there: the pool prefetches them.
    - Suspects are not prefetched, or they would be charged for what other tasks do to the worker. While there are
      any, no more tasks are started than there are free slots, less those that are kept for the suspects.
    - A suspect that runs alone is started when nothing else runs.
    """
    if room.is_closed:
        return [], []
    tasks = sorted(waiting, key=_urgency)
    if any(held.alone for held in tasks):
        return _choose_alone(tasks, is_idle, room)
    free = [held for held in tasks if is_idle(held.task.name)]
    if room.prefetches and not any(held.suspect for held in tasks):
        return free, []
    marked = [held for held in free if held.marked]
    known = set(map(id, free))
    for held in (*marked, *(held for held in tasks if held.suspect and id(held) not in known)):
        room.take(held.kind)
    to_mark = [held for held in free if held.suspect and not held.marked and room.take(held.kind)]
    others = [held for held in free if not held.suspect and room.take(held.kind)]
    return marked + others, to_mark


def _choose_alone(tasks: list[Held], is_idle: Callable[[str], bool], room: Room) -> tuple[list[Held], list[Held]]:
    """Choose one suspect that runs alone, once nothing else runs; until then start no other task.

    Suspects whose start is marked already come first. While a start is being marked, none is chosen: that task would
    be charged for what the chosen one does to the worker.
    """
    suspects = [held for held in tasks if held.suspect]
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
    """High priorities first, then the oldest assignment."""
    name = parse_task_name(held.task.name)
    return (-name.priority if name is not None else 0, held.task.czxid)
