"""A task as a listing shows it, and the filter that chooses tasks. Pure."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from herdmaster.core.names import parse_task_name, ulid_time_ms
from herdmaster.core.progress import TaskProgress


class TaskState(enum.StrEnum):
    """The state of a task, for people. `running`: its worker reported so in the last seconds, otherwise it is
    `assigned`. `recovering`: its worker is lost. `dead`: given up on and kept for replay. `ended`: its status cannot be
    read."""

    DELAYED = "delayed"
    PENDING = "pending"
    ASSIGNED = "assigned"
    RUNNING = "running"
    RECOVERING = "recovering"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    ENDED = "ended"
    DEAD = "dead"


UNENDED: Final = frozenset({
    TaskState.DELAYED, TaskState.PENDING, TaskState.ASSIGNED, TaskState.RUNNING, TaskState.RECOVERING,
})  # fmt: skip


class TaskSeen(msgspec.Struct, frozen=True, omit_defaults=True):
    """One task. Times are in unix milliseconds. `submitted` is when the client made the name; for a raw task, when its
    znode was created. `due` is set for a delayed task.

    `call` is known until the task has ended, and if it is dead. `error` is the type of the error that it ended with, or
    that its last attempt ended with. `began` is set for a task that runs or has ended, `ended` for one that has ended.
    """

    name: str
    state: TaskState
    queue: str
    priority: int
    submitted: int | None = None
    due: int | None = None
    worker: str | None = None
    progress: TaskProgress | None = None
    call: str | None = None
    error: str | None = None
    began: int | None = None
    ended: int | None = None


class TaskFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which tasks are wanted: those that have everything that is given. `call` and `error` match a whole name or its
    last part after `:` or `.`. Times are in unix milliseconds, and compared with when the task was submitted. With
    `flow` only steps of it are wanted that have not ended."""

    states: frozenset[TaskState] = frozenset(TaskState)
    queue: str | None = None
    call: str | None = None
    error: str | None = None
    worker: str | None = None
    before_ms: int | None = None
    after_ms: int | None = None
    flow: str | None = None

    @property
    def needs_payloads(self) -> bool:
        """Whether payloads of any size have to be read to know whether a task is wanted."""
        return self.call is not None or self.error is not None

    def takes_name(self, name: str) -> bool:
        """Return False if the name of the task alone says that it is not wanted."""
        parsed = parse_task_name(name)
        time = ulid_time_ms(name)
        return parsed is not None and self.queue in {None, parsed.queue} and (time is None or self._takes_time(time))

    def takes(self, seen: TaskSeen) -> bool:
        """Return whether the task is wanted."""
        return (
            seen.state in self.states
            and self.queue in {None, seen.queue}
            and self.worker in {None, seen.worker}
            and matches_name(self.call, seen.call)
            and matches_name(self.error, seen.error)
            and self._takes_time(seen.submitted)
        )

    def _takes_time(self, submitted: int | None) -> bool:
        if submitted is None:
            return self.before_ms is None and self.after_ms is None
        return (self.before_ms is None or submitted < self.before_ms) and (
            self.after_ms is None or submitted >= self.after_ms
        )


def matches_name(wanted: str | None, name: str | None) -> bool:
    """Return whether the name of a call or an error is the wanted one, or ends with it."""
    return wanted is None or (name is not None and (name == wanted or name.endswith((f":{wanted}", f".{wanted}"))))
