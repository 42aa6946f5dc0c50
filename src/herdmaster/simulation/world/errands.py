"""What an operator can be sent to do."""

from __future__ import annotations

import msgspec

from herdmaster.simulation.plan.faults import FlowChange, Limit, Mistake, ScheduleChange, StoreSchedule
from herdmaster.simulation.plan.jobs import Job


class CancelTask(msgspec.Struct, frozen=True):
    """Ask to cancel a task."""

    task: str


class LimitQueueFor(msgspec.Struct, frozen=True):
    """Limit a queue, and take the limit away after so many seconds, also if the operator's process was killed."""

    queue: str
    limit: Limit
    seconds: float


class ReplayDead(msgspec.Struct, frozen=True):
    """Replay everything in `/dead` under new names."""


class ReleaseKey(msgspec.Struct, frozen=True):
    """Release a uniqueness key."""

    hash: str


class AddSchedule(msgspec.Struct, frozen=True):
    """Store a schedule of the tasks of a job."""

    planned: StoreSchedule
    job: Job


class EditSchedule(msgspec.Struct, frozen=True):
    """Change the schedule of a job."""

    name: str
    what: ScheduleChange


class EditFlow(msgspec.Struct, frozen=True):
    """Change a flow."""

    name: str
    what: FlowChange


class DeleteStepOf(msgspec.Struct, frozen=True):
    """Delete the task of a step of a flow by hand."""

    flow: str


Errand = (
    Mistake
    | CancelTask
    | LimitQueueFor
    | ReplayDead
    | ReleaseKey
    | AddSchedule
    | EditSchedule
    | EditFlow
    | DeleteStepOf
)
