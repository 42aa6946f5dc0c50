"""Records of the ledger: a znode, and the history of a task."""

from __future__ import annotations

import msgspec

from herdmaster.core.outcome import Outcome


class Node(msgspec.Struct, frozen=True, gc=False):
    """A znode. Its times are by the servers' clock, in unix milliseconds."""

    data: bytes
    session_id: int
    created_ms: int
    changed_ms: int


class TaskHistory(msgspec.Struct):
    """The history of a task.

    `excused`: a reference role has touched the task. `silent`: no outcome is wanted. `earlier` are the outcomes of a
    flow before it ran again: a client may be told of one late. `given` and `started` count per worker the assignments
    in its inbox, and the runs.
    """

    name: str
    accepted: int = 0
    outcomes: int = 0
    outcome: Outcome | None = None
    earlier: list[Outcome] = msgspec.field(default_factory=list)
    ended: bool = False
    cancelled: bool = False
    excused: bool = False
    silent: bool = False
    executions: int = 0
    given: dict[str, int] = msgspec.field(default_factory=dict)
    started: dict[str, int] = msgspec.field(default_factory=dict)
