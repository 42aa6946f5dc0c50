"""The requests in `/cancel`, and the transactions that fulfil them. No I/O, no clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import msgspec

from herdmaster.core import layout, transitions
from herdmaster.core.delayed import Delayed
from herdmaster.core.endings import cancelled, freed_key
from herdmaster.core.names import parse_task_name
from herdmaster.core.transitions import Move


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """In `/tasks`."""

    task: str


class Assigned(msgspec.Struct, frozen=True, gc=False):
    """In the worker's inbox."""

    task: str
    worker: str


Whereabouts = Waiting | Delayed | Assigned


def path_of(where: Whereabouts) -> str:
    match where:
        case Waiting(task):
            return layout.task_path(task)
        case Delayed(due_ms, task):
            return layout.delayed_path(due_ms, task)
        case Assigned(task, worker):
            return layout.assignment_path(worker, task)


def cancel(where: Whereabouts, payload: bytes) -> Move:
    """Ends the task as cancelled. A payload that is not known, or cannot be read, is as good as an empty one."""
    outcome, key = cancelled(where.task, payload), freed_key(where.task, payload)
    match where:
        case Waiting(task):
            return transitions.cancel_waiting(task, outcome, key)
        case Delayed(due_ms, task):
            return transitions.cancel_delayed(due_ms, task, outcome, key)
        case Assigned(task, worker):
            return transitions.cancel_assigned(worker, task, outcome, key)


def drop_because_status(where: Whereabouts) -> Move:
    """The task has ended: takes away what is left of it."""
    match where:
        case Waiting(task):
            return transitions.drop_task_because_status(task)
        case Delayed(due_ms, task):
            return transitions.drop_delayed_because_status(due_ms, task)
        case Assigned(task, worker):
            return transitions.drop_assignment_because_status(worker, task)


class Requests:
    """What `take` gives is answered with `finish` or `postpone`, exactly once. As elsewhere only listings and events
    say which requests there are."""

    def __init__(self) -> None:
        self._tasks: set[str] = set()
        self._on_offer: dict[str, None] = {}
        self._taken: set[str] = set()
        self._postponed: list[tuple[float, str]] = []
        self._foreign_names: set[str] = set()
        self.is_current = False  # while the picture may be old nothing is taken

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, task: str) -> bool:
        return task in self._tasks

    def take_foreign_names(self) -> set[str]:
        """The names of no use that were seen since the last call."""
        found, self._foreign_names = self._foreign_names, set()
        return found

    def interrupt(self) -> None:
        self.is_current = False

    def complete(self) -> None:
        self.is_current = True

    def replace(self, names: Iterable[str]) -> None:
        """Takes a listing for the whole truth."""
        self._tasks.clear()
        self._on_offer.clear()
        for name in sorted(names):
            self.add(name)

    def add(self, name: str) -> None:
        if parse_task_name(name) is None:
            self._foreign_names.add(name)
            return
        self._tasks.add(name)
        if name not in self._taken:
            self._on_offer[name] = None

    def remove(self, name: str) -> None:
        self._tasks.discard(name)
        self._on_offer.pop(name, None)

    def take(self, room: int) -> list[str]:
        """At most `room` tasks to look for, the oldest requests first."""
        if not self.is_current or not self._on_offer:
            return []
        found = [task for task, _ in zip(self._on_offer, range(room), strict=False)]
        for task in found:
            del self._on_offer[task]
            self._taken.add(task)
        return found

    def finish(self, task: str) -> None:
        """What was done about it is over. If the request is still there, the task is looked for again."""
        self._taken.discard(task)
        if task in self._tasks:
            self._on_offer[task] = None

    def postpone(self, task: str, until: float) -> None:
        """As `finish`, but it is not looked for before `until`."""
        heapq.heappush(self._postponed, (until, task))

    def release_postponed(self, now: float) -> None:
        while self._postponed and self._postponed[0][0] <= now:
            self.finish(heapq.heappop(self._postponed)[1])

    def next_release(self) -> float | None:
        return self._postponed[0][0] if self._postponed else None
