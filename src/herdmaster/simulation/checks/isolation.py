"""Tasks that run beside one that kills its worker: at most twice each, for from then on a task runs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from herdmaster.core.names import is_call
from herdmaster.core.recovery import ALONE_AFTER
from herdmaster.simulation.checks.history import TaskHistory


class Bystanders:
    """Raw tasks are left out, whose losses a new primary does not know of, and what a reference role has touched, which
    counts none."""

    def __init__(self, max_deliveries: int, history: Callable[[str], TaskHistory], fail: Callable[[str], None]) -> None:
        self._most = min(ALONE_AFTER, max_deliveries)
        self._history = history
        self._fail = fail
        self._counts: dict[str, int] = {}

    def note(self, killer: str, running: Iterable[str]) -> None:
        """A task has killed the process in which these run."""
        for task in running:
            if task == killer or not is_call(task) or self._history(task).excused:
                continue
            count = self._counts[task] = self._counts.get(task, 0) + 1
            if count > self._most:
                self._fail(f"{task} ran beside {killer}, which killed the worker, after {count - 1} such losses")
