"""The tasks in `/delayed`, by when they are due. No I/O, no clock.

As in the dispatcher only listings and events say what is there; the end of a transaction only ends the mark that one is
under way. A znode is known by its due time and its task, since its name says both.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

import msgspec

from herdmaster.core.layout import parse_delayed_name

_DUE_DIGITS: Final = 13
_MIN_VOIDS: Final = 64


class Delayed(msgspec.Struct, frozen=True, order=True, gc=False):
    """One znode in `/delayed`; `due_ms` in unix milliseconds."""

    due_ms: int
    task: str


class Schedule:
    """What `take_due` gives is answered with `finish`, `refute` or `postpone`, exactly once. Memory for a task: its
    name, an entry in one dict, and a place in one heap. Nothing that happens costs more for the many that are not due.
    """

    def __init__(self) -> None:
        self._due: dict[str, int] = {}
        self._doubles: set[Delayed] = set()  # further znodes of tasks in `_due`; no transition of ours makes any
        self._heap: list[Delayed] = []  # every znode that is on offer, and some that have left
        self._taken: set[Delayed] = set()
        self._postponed: list[tuple[float, Delayed]] = []
        self._foreign_names: set[str] = set()
        self.is_current = False  # while the picture may be old nothing is due

    def __len__(self) -> int:
        return len(self._due) + len(self._doubles)

    def __contains__(self, item: Delayed) -> bool:
        return self._due.get(item.task) == item.due_ms or item in self._doubles

    def find(self, task: str) -> int | None:
        """When the task is due; None if it is not delayed."""
        return self._due.get(task)

    def take_foreign_names(self) -> set[str]:
        """The names of no use that were seen since the last call."""
        found, self._foreign_names = self._foreign_names, set()
        return found

    # --- what is told --------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        self.is_current = False

    def complete(self) -> None:
        self.is_current = True

    def replace(self, names: Iterable[str]) -> None:
        """Takes a listing for the whole truth."""
        known, self._due = self._due, {}
        self._doubles.clear()
        self._heap = []
        for name in names:
            task = name[_DUE_DIGITS + 1 :]
            due_ms = known.get(task)
            if due_ms is not None and name.startswith(f"{due_ms:0{_DUE_DIGITS}d}-"):
                self._heap.append(self._enter(due_ms, task))  # a good name, as is known: a million listed cost little
            else:
                found = parse_delayed_name(name)
                if found is None:
                    self._foreign_names.add(name)
                else:
                    self._heap.append(self._enter(*found))
        heapq.heapify(self._heap)

    def add(self, name: str) -> None:
        found = parse_delayed_name(name)
        if found is None:
            self._foreign_names.add(name)
        elif Delayed(*found) not in self:
            heapq.heappush(self._heap, self._enter(*found))

    def remove(self, name: str) -> None:
        found = parse_delayed_name(name)
        if found is None:
            return
        item = Delayed(*found)
        if item in self._doubles:
            self._doubles.discard(item)
        elif item in self:
            del self._due[item.task]
            double = min((other for other in self._doubles if other.task == item.task), default=None)
            if double is not None:
                self._doubles.discard(double)
                self._due[double.task] = double.due_ms
        if len(self._heap) > 2 * len(self) + _MIN_VOIDS:
            self._heap = [each for each in dict.fromkeys(self._heap) if each in self]
            heapq.heapify(self._heap)

    # --- what is due ---------------------------------------------------------------------------------------------

    def take_due(self, now_ms: int, room: int) -> list[Delayed]:
        """At most `room` that are due, the most overdue first."""
        due: list[Delayed] = []
        while self.is_current and len(due) < room:
            item = self._next()
            if item is None or item.due_ms > now_ms:
                break
            heapq.heappop(self._heap)
            self._taken.add(item)
            due.append(item)
        return due

    def next_due_ms(self) -> int | None:
        """Of those that are neither taken nor postponed."""
        item = self._next() if self.is_current else None
        return None if item is None else item.due_ms

    def release_postponed(self, now: float) -> None:
        """Puts on offer again what was postponed until now."""
        while self._postponed and self._postponed[0][0] <= now:
            self.finish(heapq.heappop(self._postponed)[1])

    def next_release(self) -> float | None:
        return self._postponed[0][0] if self._postponed else None

    def finish(self, item: Delayed) -> None:
        """The transaction about it is over. If it is still there, it is on offer again."""
        self._taken.discard(item)
        if item in self:
            heapq.heappush(self._heap, item)

    def refute(self, item: Delayed, until: float) -> bool:
        """As `finish`: ZooKeeper says that it is not there. False where the picture shows it nevertheless, since its
        events are withheld, say: then it is postponed, and only a listing can mend that."""
        if self.is_current and item in self:
            self.postpone(item, until)
            return False
        self.finish(item)
        return True

    def postpone(self, item: Delayed, until: float) -> None:
        """As `finish`, but it is not on offer before `until`."""
        heapq.heappush(self._postponed, (until, item))

    # --- inside --------------------------------------------------------------------------------------------------

    def _enter(self, due_ms: int, task: str) -> Delayed:
        item = Delayed(due_ms, task)
        if self._due.setdefault(task, due_ms) != due_ms:
            self._doubles.add(item)
        return item

    def _next(self) -> Delayed | None:
        """The first of the heap; what has left, and what is taken or postponed, leaves it."""
        while self._heap and (self._heap[0] in self._taken or self._heap[0] not in self):
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None
