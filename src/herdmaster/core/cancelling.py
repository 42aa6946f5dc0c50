"""The requests in `/cancel`: for tasks, and for flows that are children of tasks."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Protocol

from herdmaster.core.names import has_outcome
from herdmaster.core.offers import Offers
from herdmaster.core.whereabouts import Whereabouts


class Places(Protocol):
    """The pictures of all folders in which a task can be."""

    @property
    def are_current(self) -> bool: ...

    def where_is(self, task: str) -> Whereabouts | None: ...


class Requests(Offers[Whereabouts | None]):
    """The requests in `/cancel`, the oldest first. A request that is taken is marked with where its task was then."""

    def __init__(self, places: Places) -> None:
        super().__init__()
        self._places = places
        self._tasks: set[str] = set()
        self._offered: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, task: str) -> bool:
        return task in self._tasks

    # --- listings and events -----------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        self.is_current = False

    def complete(self) -> None:
        self.is_current = True

    def replace(self, names: Iterable[str]) -> None:
        """Replace the picture by a listing."""
        self._tasks.clear()
        self._offered.clear()
        for name in sorted(names):
            self.add(name)

    def add(self, name: str) -> None:
        if not has_outcome(name):
            self._foreign.add(name)
            return
        self._tasks.add(name)
        self._offer(name)

    def remove(self, name: str) -> None:
        self._tasks.discard(name)
        self._offered.pop(name, None)

    # --- requests to carry out ---------------------------------------------------------------------------------------

    def take(self, room: int) -> list[tuple[str, Whereabouts | None]]:
        """Take at most `room` tasks from the offer. Return them with where each is; None: in no picture."""
        if not self.is_current or not self._places.are_current:
            return []
        taken = []
        for task in list(islice(self._offered, room)):
            del self._offered[task]
            where = self._places.where_is(task)
            self._marks.begin(task, where)
            taken.append((task, where))
        return taken

    def _offer(self, key: str) -> None:
        if key in self._tasks and key not in self._marks:
            self._offered[key] = None

    def _is_still_there(self, key: str) -> bool:
        return self._places.are_current and self._places.where_is(key) == self._marks.get(key)
