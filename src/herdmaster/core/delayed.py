"""The tasks in `/delayed`, by when they are due."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from typing import Final

from herdmaster.core.layout import parse_delayed_name
from herdmaster.core.names import queue_of
from herdmaster.core.offers import Offers
from herdmaster.core.whereabouts import Delayed

_DUE_DIGITS: Final = 13
_MIN_VOIDS: Final = 64


class DelayedTasks(Offers[Delayed]):
    """The delayed tasks. A name in `/delayed` says when its task is due, so no payload has to be read.

    Memory for a task: its name, an entry in one dict, and a place in one heap. No change costs more because many tasks
    are not due yet. A task that stands here twice is given out once at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._due: dict[str, int] = {}
        self._counts: Counter[str] = Counter()  # of the tasks in `_due`, by queue
        self._doubles: set[Delayed] = set()  # further znodes of tasks in `_due`; none of our transitions makes any
        self._heap: list[Delayed] = []  # every znode on offer, and some that have left or are marked

    def __len__(self) -> int:
        return len(self._due) + len(self._doubles)

    def __contains__(self, item: Delayed) -> bool:
        return self._due.get(item.task) == item.due_ms or item in self._doubles

    def due_ms_of(self, task: str) -> int | None:
        """Return when the task is due; None if it is not delayed."""
        return self._due.get(task)

    def count_by_queue(self) -> dict[str, int]:
        """Return how many tasks are delayed, by queue."""
        return {queue: count for queue, count in self._counts.items() if count}

    # --- listings and events -----------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        self.is_current = False

    def complete(self) -> None:
        self.is_current = True

    def replace(self, names: Iterable[str]) -> None:
        """Replace the picture by a listing."""
        known, self._due = self._due, {}
        self._counts.clear()
        self._doubles.clear()
        self._heap = []
        for name in names:
            task = name[_DUE_DIGITS + 1 :]
            due_ms = known.get(task)
            if due_ms is not None and name.startswith(f"{due_ms:0{_DUE_DIGITS}d}-"):
                self._heap.append(self._enter(due_ms, task))  # not parsed again: a listing may have a million names
            else:
                parsed = parse_delayed_name(name)
                if parsed is None:
                    self._foreign.add(name)
                else:
                    self._heap.append(self._enter(*parsed))
        heapq.heapify(self._heap)

    def add(self, name: str) -> None:
        parsed = parse_delayed_name(name)
        if parsed is None:
            self._foreign.add(name)
        elif Delayed(*parsed) not in self:
            heapq.heappush(self._heap, self._enter(*parsed))

    def remove(self, name: str) -> None:
        parsed = parse_delayed_name(name)
        if parsed is None:
            return
        item = Delayed(*parsed)
        if item in self._doubles:
            self._doubles.discard(item)
        elif item in self:
            del self._due[item.task]
            self._counts[queue_of(item.task)] -= 1
            double = min((other for other in self._doubles if other.task == item.task), default=None)
            if double is not None:
                self._doubles.discard(double)
                self._due[double.task] = double.due_ms
                self._counts[queue_of(double.task)] += 1
        if len(self._heap) > 2 * len(self) + _MIN_VOIDS:
            self._heap = [each for each in dict.fromkeys(self._heap) if each in self]
            heapq.heapify(self._heap)

    # --- what is due -------------------------------------------------------------------------------------------------

    def take_due(self, now_ms: int, room: int) -> list[Delayed]:
        """Take at most `room` tasks that are due from the offer, the most overdue first."""
        due: list[Delayed] = []
        while self.is_current and len(due) < room:
            item = self._first()
            if item is None or item.due_ms > now_ms:
                break
            heapq.heappop(self._heap)
            self._marks.begin(item.task, item)
            due.append(item)
        return due

    def next_due_ms(self) -> int | None:
        """Return when the first task on offer is due."""
        item = self._first() if self.is_current else None
        return None if item is None else item.due_ms

    def _enter(self, due_ms: int, task: str) -> Delayed:
        item = Delayed(due_ms, task)
        known = self._due.get(task)
        if known is None:
            self._due[task] = due_ms
            self._counts[queue_of(task)] += 1
        elif known != due_ms:
            self._doubles.add(item)
        return item

    def _first(self) -> Delayed | None:
        """Return the first task on offer. What has left or is marked leaves the heap; `_offer` puts it back."""
        while self._heap and (self._heap[0].task in self._marks or self._heap[0] not in self):
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None

    def _offer(self, key: str) -> None:
        due_ms = self._due.get(key)
        if due_ms is None or key in self._marks:
            return
        heapq.heappush(self._heap, Delayed(due_ms, key))
        for double in self._doubles:
            if double.task == key:
                heapq.heappush(self._heap, double)

    def _is_still_there(self, key: str) -> bool:
        item = self._marks.get(key)
        return item is not None and item in self
