"""Tasks of steps that operators delete by hand, and what may follow from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.simulation.checks.effects import Effects, task_of

LOST: Final = "TaskLost"
_WITHOUT_PAYLOAD: Final = frozenset({"UnknownCall", "WorkerLost"})
"""How a run ends that has no payload, because the task of an earlier run was deleted."""


class _Deletion(msgspec.Struct, frozen=True):
    """Where a task was when it was deleted, and when that was by the servers' clock, in unix milliseconds."""

    path: str
    time: int


class DeletedSteps:
    """`steps` are the flow and the step of each task, and `where` returns the places of a task before the present
    transaction."""

    def __init__(self, steps: Mapping[str, tuple[str, str]], where: Callable[[str], tuple[str, ...]]) -> None:
        self._steps = steps
        self._where = where
        self._deletions: dict[str, _Deletion] = {}
        self._present: set[str] = set()
        self._lost: set[tuple[str, str]] = set()  # flows and steps

    def begin(self) -> None:
        """Begin with a transaction."""
        self._present = set()

    def note(self, effects: Effects) -> None:
        """Note what an operator deletes by hand: the task alone, in the only place where it is."""
        for path in effects.deleted:
            task = task_of(path) or ""
            flow, _ = self._steps.get(task, ("", ""))
            is_only = self._where(task) == (path,)
            if flow and is_only and layout.flow_running_path(flow, task) not in effects.deleted:
                self._deletions[task] = _Deletion(path, effects.time)
                self._present.add(task)

    def is_deleted(self, task: str) -> bool:
        """Return whether the present transaction deletes the task by hand."""
        return task in self._present

    def may_run(self, task: str, worker: str, now_ms: int, grace_ms: int) -> bool:
        """Return whether a worker may start the task: it was deleted in its inbox, so recently that the worker may not
        know it."""
        found = self._deletions.get(task)
        return (
            found is not None and found.path == layout.assignment_path(worker, task) and now_ms - found.time <= grace_ms
        )

    def lost(self, flow: str, step: str, task: str) -> bool:
        """Note that a step failed because its task is nowhere. Return whether the task was deleted."""
        self._lost.add((flow, step))
        return task in self._deletions

    def has_no_payload(self, flow: str, step: str) -> bool:
        """Return whether the task of an earlier run of the step was deleted."""
        return (flow, step) in self._lost

    def may_fail(self, flow: str, step: str, kind: str) -> bool:
        """Return whether a step may fail for lack of a payload."""
        return self.has_no_payload(flow, step) and kind in _WITHOUT_PAYLOAD

    def forget(self, flow: str) -> None:
        """Forget a flow: there is a new one of its name."""
        self._lost = {each for each in self._lost if each[0] != flow}
