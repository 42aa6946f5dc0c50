"""Check the children of tasks.

- A child is submitted only while its parent is assigned.
- A parent that is cancelled, or that exceeded its time limit, leaves no child for which there is no request to cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from herdmaster.core import layout
from herdmaster.core.children import children_of
from herdmaster.core.names import is_step
from herdmaster.core.outcome import OutcomeState
from herdmaster.errors import TimeLimitExceeded
from herdmaster.simulation.checks.effects import Effects, task_of
from herdmaster.simulation.checks.history import Node, TaskHistory

_ASSIGN: Final = f"{layout.ASSIGN}/"
_LIVE: Final = (f"{layout.TASKS}/", f"{layout.DELAYED}/", _ASSIGN)


class ChildCheck:
    """Part of the ledger. `where` returns the places of a task."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        history: Callable[[str], TaskHistory],
        where: Callable[[str], tuple[str, ...]],
        report: Callable[[str], None],
    ) -> None:
        self._nodes = nodes
        self._history = history
        self._where = where
        self._report = report
        self._children: dict[str, set[str]] = {}
        self._parents: dict[str, str] = {}

    def is_child(self, task: str | None) -> bool:
        return task in self._parents

    def check(self, effects: Effects) -> None:
        """Check a transaction that was applied."""
        for path, data in effects.written.items():
            if path.startswith(_ASSIGN):
                self._note(task_of(path) or "", data)
        if not self._parents:
            return
        for task, before in effects.places.items():
            if not before and task in self._parents:
                self._check_submission(task)
            if task in self._children and any(path.startswith(_LIVE) for path in before):
                self._check_end(task)

    def _note(self, parent: str, data: bytes) -> None:
        for child in children_of(data):
            self._parents[child] = parent
            self._children.setdefault(parent, set()).add(child)

    def _check_submission(self, task: str) -> None:
        parent = self._parents[task]
        is_live = any(path.startswith(_LIVE) for path in self._where(task))
        if is_live and not any(path.startswith(_ASSIGN) for path in self._where(parent)) and self._counts(parent):
            self._report(f"submitted {task}, whose parent {parent} is not assigned")

    def _check_end(self, parent: str) -> None:
        history = self._history(parent)
        if is_step(parent) or any(path.startswith(_LIVE) for path in self._where(parent)) or not self._counts(parent):
            return
        outcome = history.outcome
        error = "" if outcome is None or outcome.error is None else outcome.error.type
        is_cancelled = history.cancelled or (outcome is not None and outcome.state is OutcomeState.CANCELLED)
        if not is_cancelled and not error.endswith(TimeLimitExceeded.__name__):
            return
        for child in sorted(self._children[parent]):
            is_live = any(path.startswith(_LIVE) for path in self._where(child))
            if is_live and layout.cancel_path(child) not in self._nodes and self._counts(child):
                self._report(f"ended {parent}, and did not ask to cancel its child {child}")

    def _counts(self, task: str) -> bool:
        return not self._history(task).excused
