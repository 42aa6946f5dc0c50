"""What a worker holds, and what of it is started next."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from herdmaster.core.names import parse_task_name
from herdmaster.core.transitions import Move
from herdmaster.pools.threads import Job
from herdmaster.roles.execution import Delivered


class Held:
    """One delivery in this worker's hands: first waiting, then a job in the pool, then an outcome to commit."""

    __slots__ = ("job", "marked", "outcome", "since", "suspect", "task")

    def __init__(self, task: Delivered, now: float) -> None:
        self.task = task
        self.since = now
        self.job: Job[Held] | None = None
        self.suspect = False  # a worker was lost while it ran this task
        self.marked = False  # of a suspect: its start is marked
        self.outcome: Move | None = None


def choose_starts(
    waiting: Iterable[Held], is_idle: Callable[[str], bool], idle_threads: int
) -> tuple[list[Held], list[Held]]:
    """What goes to the pool, and the suspects whose start is marked first; each with the most urgent in front.

    Without suspects all that waits goes to the pool, where it is prefetched. A suspect is not prefetched, or it would
    be charged for what others do to the worker. So while there are any, no more goes to the pool than there are idle
    threads, less those that are kept for the suspects. What `is_idle` denies has a request under way.
    """
    everything = sorted(waiting, key=_urgency)
    free = [held for held in everything if is_idle(held.task.name)]
    if not any(held.suspect for held in everything):
        return free, []
    marked = [held for held in free if held.marked]
    marking = sum(1 for held in everything if held.suspect) - sum(1 for held in free if held.suspect)
    room = max(0, idle_threads - marking - len(marked))
    to_mark = [held for held in free if held.suspect and not held.marked][:room]
    others = [held for held in free if not held.suspect][: room - len(to_mark)]
    return marked + others, to_mark


def _urgency(held: Held) -> tuple[int, int]:
    name = parse_task_name(held.task.name)
    return (-name.priority if name is not None else 0, held.task.czxid)
