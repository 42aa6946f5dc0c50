"""What the ledger keeps: a znode, and what became of a task."""

from __future__ import annotations

import msgspec

from herdmaster.core.outcome import Outcome


class Node(msgspec.Struct, frozen=True, gc=False):
    data: bytes
    session_id: int


class TaskHistory(msgspec.Struct):
    """`excused`: a reference role has touched it. `silent`: its outcome is not wanted. `given`, `started`: how often
    each worker had it put into its inbox, and began it."""

    name: str
    accepted: int = 0
    outcomes: int = 0
    outcome: Outcome | None = None
    ended: bool = False
    cancelled: bool = False
    excused: bool = False
    silent: bool = False
    executions: int = 0
    given: dict[str, int] = msgspec.field(default_factory=dict)
    started: dict[str, int] = msgspec.field(default_factory=dict)
