"""Check the children of tasks, which are tasks and flows.

- A child is submitted only while its parent is assigned.
- A parent that is cancelled, or that exceeded its time limit, leaves no child for which there is no request to cancel.
- Such a child, and all that is below it, ends soon after that, unless an operator opens it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from herdmaster.core import layout
from herdmaster.core.children import children_of
from herdmaster.core.names import is_step, parse_flow_name
from herdmaster.core.outcome import OutcomeState
from herdmaster.core.payload import decode_call
from herdmaster.errors import TaskCancelled, TimeLimitExceeded
from herdmaster.simulation.checks.effects import Actor, Effects, task_of
from herdmaster.simulation.checks.history import Node, TaskHistory
from herdmaster.simulation.plan.plan import Kind

_ASSIGN: Final = f"{layout.ASSIGN}/"
_FLOWS: Final = f"{layout.FLOWS}/"
_LIVE: Final = (f"{layout.TASKS}/", f"{layout.DELAYED}/", _ASSIGN)
_ENDING: Final = (TaskCancelled.__name__, TimeLimitExceeded.__name__)


class ChildCheck:
    """Part of the ledger. `where` returns the places of a task, `failed_path` where a step stands that has failed."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        history: Callable[[str], TaskHistory],
        where: Callable[[str], tuple[str, ...]],
        failed_path: Callable[[str], str | None],
        report: Callable[[str], None],
    ) -> None:
        self._nodes = nodes
        self._history = history
        self._where = where
        self._failed_path = failed_path
        self._report = report
        self._children: dict[str, set[str]] = {}
        self._parents: dict[str, str] = {}
        self._doomed: dict[str, None] = {}  # children that have to end soon
        self._opened_again: set[str] = set()

    def is_child(self, task: str | None) -> bool:
        return task in self._parents

    def check(self, effects: Effects, actor: Actor) -> None:
        """Check a transaction that was applied."""
        for path, data in effects.written.items():
            if path.startswith(_ASSIGN):
                self._note(task_of(path) or "", data)
        if not self._parents:
            return
        for task, before in effects.places.items():
            if not before and task in self._parents and parse_flow_name(task) is None:
                self._check_submission(task)
            if task in self._children and any(path.startswith(_LIVE) for path in before):
                self._check_end(task)
        for path, _, _ in effects.created:
            self._check_flow(path, actor)
        for path in effects.deleted:
            self._check_dropped(path)

    def unended(self) -> list[str]:
        """Return the children that have to end, and have not."""
        return [child for child in self._doomed if self._runs(child)]

    def _note(self, parent: str, data: bytes) -> None:
        for child in children_of(data):
            self._parents[child] = parent
            self._children.setdefault(parent, set()).add(child)

    def _runs(self, child: str) -> bool:
        if parse_flow_name(child) is not None:
            return layout.flow_running_path(child) in self._nodes
        return any(path.startswith(_LIVE) for path in self._where(child))

    def _check_flow(self, path: str, actor: Actor) -> None:
        """Check what creates the folder of a child that is a flow: it begins to run, or is opened again."""
        flow = path.removeprefix(_FLOWS).removesuffix("/running")
        if flow not in self._parents or path != layout.flow_running_path(flow):
            return
        if actor.kind is Kind.OPERATOR:
            self._doomed.pop(flow, None)
            self._opened_again.add(flow)
        else:
            self._check_submission(flow)

    def _check_dropped(self, path: str) -> None:
        """Check what deletes the request to cancel a child that is a flow: it was passed on to the flow. A child of a
        run that was given up may come after its parent is assigned to the same worker again: the end of the new run
        asks once more."""
        flow = layout.name_of(path)
        if path != layout.cancel_path(flow) or parse_flow_name(flow) is None or flow in self._opened_again:
            return
        if self._is_assigned(self._parents.get(flow, "")):
            return
        if self._runs(flow) and layout.flow_cancel_path(flow) not in self._nodes:
            self._report(f"dropped the request to cancel {flow}, which runs")

    def _check_submission(self, child: str) -> None:
        parent = self._parents[child]
        if self._runs(child) and not self._is_assigned(parent) and self._counts(parent):
            self._report(f"submitted {child}, whose parent {parent} is not assigned")

    def _is_assigned(self, task: str) -> bool:
        return any(path.startswith(_ASSIGN) for path in self._where(task))

    def _check_end(self, parent: str) -> None:
        if any(path.startswith(_LIVE) for path in self._where(parent)) or not self._counts(parent):
            return
        if not self._ends_children(parent):
            return
        for child in sorted(self._children[parent]):
            if not self._runs(child) or not self._counts(child):
                continue
            self._doomed[child] = None
            paths = (layout.cancel_path(child), layout.flow_cancel_path(child))
            if not any(path in self._nodes for path in paths):
                self._report(f"ended {parent}, and did not ask to cancel its child {child}")

    def _ends_children(self, parent: str) -> bool:
        """Return whether a task has ended in a way that ends its children, too."""
        if is_step(parent):
            node = self._nodes.get(self._failed_path(parent) or "")
            error = None if node is None else decode_call(node.data).error
            return error is not None and error.type.endswith(_ENDING)
        history = self._history(parent)
        outcome = history.outcome
        error = None if outcome is None else outcome.error
        is_cancelled = history.cancelled or (outcome is not None and outcome.state is OutcomeState.CANCELLED)
        return is_cancelled or (error is not None and error.type.endswith(_ENDING))

    def _counts(self, task: str) -> bool:
        return not self._history(task).excused
