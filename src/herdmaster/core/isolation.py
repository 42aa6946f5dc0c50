"""Isolation: suspects run alone, each on a worker that it has to itself.

A task that was with several lost workers may have ended them. If it ran beside other tasks, these would be lost with it
again and again, and be buried in the end. So from its second loss on:

- A suspect is given a worker that holds nothing else, and that gets nothing else until the suspect has left it.
- Where no worker is idle, one is emptied: it gets no task for a while.
- At most half of the workers are reserved in this way, or the only one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

import msgspec

from herdmaster.core.backlog import Backlog
from herdmaster.core.roster import Kind, Roster, Worker

FIRST_PATIENCE: Final = 30.0
"""Seconds in which a worker has to get empty. If it does not, it gets tasks again for as long, and the next one is
given twice the time. So a worker whose tasks run for hours is not held up for long, and no suspect waits for ever."""
MAX_PATIENCE: Final = 3600.0


class Suspect(msgspec.Struct, frozen=True):
    """A suspect. `asked`: the workers that lack its function."""

    queue: str
    kind: Kind
    asked: Collection[str] = ()


class Isolation:
    """The suspects, in the order in which they are to be placed.

    A worker is reserved for a suspect from when it begins to get empty until the suspect has left its inbox.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._suspects: dict[str, Suspect] = {}
        self._patience = FIRST_PATIENCE
        self._emptying: Worker | None = None  # the one that gets empty
        self._until: float | None = None  # when its time is over; or, without one, when the next may follow

    def __contains__(self, task: str) -> bool:
        return task in self._suspects

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._suspects))

    def queue_of(self, task: str) -> str:
        return self._suspects[task].queue

    def add(self, task: str, suspect: Suspect) -> None:
        self._suspects[task] = suspect

    def review(self, backlog: Backlog, now: float) -> list[str]:
        """End what is over. Return the suspects that neither wait nor are assigned any more, and forget them."""
        if not self._suspects:
            return []
        if self._until is not None and now >= self._until:
            self._end_patience(now)
        held = {task for worker in self._roster if (task := worker.reserved_for) is not None and task in worker.held}
        gone = [task for task in self._suspects if task not in backlog and task not in held]
        for task in gone:
            del self._suspects[task]
        for worker in self._roster:
            if worker.reserved_for is not None and worker.reserved_for not in self._suspects:
                self._release(worker)
        return gone

    def find_copies(self, backlog: Backlog) -> dict[str, str]:
        """Return the suspects that wait although a live worker holds them too, with that worker's name.

        A second reference master may have put them back. Any other task would be assigned once more; a suspect would
        wait for ever, because that worker never gets empty.
        """
        return {
            task: worker.name
            for task in self._suspects
            if task in backlog
            for worker in self._roster.holders_of(task)
            if worker.alive
        }

    def choose(self, task: str, now: float) -> Worker | None:
        """Return the worker that the suspect has to itself from now on; None if it has to wait."""
        suspect = self._suspects[task]
        able = [each for each in self._roster if each.takes_tasks and each.serves(suspect.queue, suspect.kind)]
        mine = next((worker for worker in self._roster if worker.reserved_for == task), None)
        if mine is not None and mine not in able:
            self._release(mine)
            mine = None
        if mine is None or mine.load > 0:
            mine = self._find_idle(able, suspect.asked, mine) or self._let_run_empty(able, suspect.asked, mine, now)
        if mine is None:
            return None
        self._roster.reserve(mine, task)
        if mine.load > 0:
            return None
        self._patience = FIRST_PATIENCE
        if mine is self._emptying:
            self._emptying = self._until = None
        return mine

    def next_wakeup(self) -> float | None:
        return self._until if self._suspects else None

    def _find_idle(self, able: list[Worker], asked: Collection[str], mine: Worker | None) -> Worker | None:
        """Return the smallest worker that holds nothing, if one more may be reserved."""
        idle = _unasked([worker for worker in able if worker.load == 0 and worker.reserved_for is None], asked)
        found = min(idle, key=_size, default=None)
        if found is None or (mine is None and not _may_reserve(able)):
            return None
        if mine is not None:
            self._release(mine)
        return found

    def _let_run_empty(
        self, able: list[Worker], asked: Collection[str], mine: Worker | None, now: float
    ) -> Worker | None:
        """Return the worker that gets no task until it is empty: one at a time, and for a limited time."""
        if mine is self._emptying and mine is not None:
            return mine
        if mine is not None:
            self._release(mine)
        if self._until is not None or not _may_reserve(able):
            return None
        busy = _unasked([worker for worker in able if worker.reserved_for is None], asked)
        found = self._emptying = min(busy, key=_size, default=None)
        if found is not None:
            self._until = now + self._patience
        return found

    def _end_patience(self, now: float) -> None:
        if self._emptying is None:
            self._until = None
        else:
            self._release(self._emptying)
            self._until = now + self._patience
            self._patience = min(2 * self._patience, MAX_PATIENCE)

    def _release(self, worker: Worker) -> None:
        self._roster.reserve(worker, None)
        if worker is self._emptying:
            self._emptying = self._until = None


def _may_reserve(able: list[Worker]) -> bool:
    return sum(worker.reserved_for is not None for worker in able) < max(1, len(able) // 2)


def _unasked(workers: list[Worker], asked: Collection[str]) -> list[Worker]:
    return [worker for worker in workers if worker.name not in asked] or workers


def _size(worker: Worker) -> tuple[int, int, int, str]:
    return (worker.load, worker.state.slots if worker.state is not None else 0, worker.turn, worker.name)
