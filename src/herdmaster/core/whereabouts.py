"""Where a task is that has not ended: it waits, is delayed, or is assigned."""

from __future__ import annotations

import msgspec

from herdmaster.core import layout


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """In `/tasks`."""

    task: str


class Delayed(msgspec.Struct, frozen=True, order=True, gc=False):
    """In `/delayed`; `due_ms` in unix milliseconds."""

    due_ms: int
    task: str


class Assigned(msgspec.Struct, frozen=True, gc=False):
    """In the worker's inbox."""

    task: str
    worker: str


Whereabouts = Waiting | Delayed | Assigned


def path_of(where: Whereabouts) -> str:
    match where:
        case Waiting(task):
            return layout.task_path(task)
        case Delayed(due_ms, task):
            return layout.delayed_path(due_ms, task)
        case Assigned(task, worker):
            return layout.assignment_path(worker, task)
