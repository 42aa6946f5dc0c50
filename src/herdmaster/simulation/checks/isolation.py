"""Check that tasks are isolated from a task that kills its worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from herdmaster.core.names import is_call
from herdmaster.core.recovery import ALONE_AFTER
from herdmaster.simulation.checks.history import TaskHistory


class IsolationCheck:
    """Checks that no task runs more than twice beside one that kills its worker: after that it has to run alone.

    Leaves out raw tasks, whose losses a new primary does not know, and tasks that a reference role has touched, which
    counts no losses.
    """

    def __init__(self, max_deliveries: int, history: Callable[[str], TaskHistory], fail: Callable[[str], None]) -> None:
        self._limit = min(ALONE_AFTER, max_deliveries)
        self._history = history
        self._fail = fail
        self._counts: dict[str, int] = {}

    def killed(self, killer: str, running: Iterable[str]) -> None:
        """Note that a task killed the process in which the others were running."""
        for task in running:
            if task == killer or not is_call(task) or self._history(task).excused:
                continue
            count = self._counts[task] = self._counts.get(task, 0) + 1
            if count > self._limit:
                self._fail(f"{task} ran beside {killer}, which killed the worker, after {count - 1} such losses")
