"""What the ledger keeps: a znode, and what became of a task."""

from __future__ import annotations

import msgspec


class Node(msgspec.Struct, frozen=True, gc=False):
    data: bytes
    session_id: int


class TaskHistory(msgspec.Struct):
    """`excused`: a reference role has touched it. `silent`: nobody wants its outcome."""

    name: str
    accepted: int = 0
    outcomes: int = 0
    ended: bool = False
    cancelled: bool = False
    excused: bool = False
    silent: bool = False
    executions: int = 0
