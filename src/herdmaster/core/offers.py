"""What the primary's pictures have in common: tasks are on offer, under way or postponed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic

from herdmaster.core.foreign_names import ForeignNames
from herdmaster.core.marks import Marks, MarkT


class Offers(ABC, Generic[MarkT]):
    """A picture of tasks, kept up to date by listings and events. A task is on offer, under way or postponed.

    A task that was taken from the offer is under way until exactly one of `finish`, `refute` and `postpone` is called
    for it. Listings and events alone say what is there. The end of a transaction only ends the mark of its task, so it
    does not matter whether replies or events are handled first.
    """

    def __init__(self) -> None:
        self.is_current = False  # False while the picture may be old: then nothing is given out
        self._marks: Marks[MarkT] = Marks()
        self._foreign = ForeignNames()

    @property
    def under_way(self) -> int:
        """The number of tasks that are under way."""
        return self._marks.under_way

    def take_foreign_names(self) -> set[str]:
        """Return the foreign names that were seen since the last call."""
        return self._foreign.take()

    def finish(self, key: str) -> None:
        """End what is under way. A task that is still there is on offer again."""
        self._marks.end(key)
        self._offer(key)

    def refute(self, key: str, until: float) -> bool:
        """End what is under way: ZooKeeper says that the task is not where it was taken from.

        The event of a change comes before any reply that shows the change, so usually the task has left the picture.
        If it has not, its events are withheld, and deciding anew would repeat for ever: the task is postponed. Return
        False then: the picture is wrong, and only a listing can mend it.
        """
        if self.is_current and self._is_still_there(key):
            self.postpone(key, until)
            return False
        self.finish(key)
        return True

    def postpone(self, key: str, until: float) -> None:
        """End what is under way. The task is not on offer before that time."""
        self._marks.postpone(key, until)

    def release_postponed(self, now: float) -> None:
        """Put the tasks whose time has come on offer again."""
        for key in self._marks.release(now):
            self._offer(key)

    def next_release(self) -> float | None:
        """Return when the first of the postponed tasks is on offer again."""
        return self._marks.next_release()

    @abstractmethod
    def _offer(self, key: str) -> None:
        """Put a task on offer, unless it has left or is marked."""

    @abstractmethod
    def _is_still_there(self, key: str) -> bool:
        """Whether the picture shows a task that is under way where it was taken from."""
