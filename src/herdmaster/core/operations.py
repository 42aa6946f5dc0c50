"""What transactions are made of: operations, the moves of single tasks, and batches of submissions.

They are this layer's own records, so that decisions stay free of any client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from herdmaster.core.row import TransitionName


class CheckNode(msgspec.Struct, frozen=True, gc=False):
    """The node exists and has this version; -1 is any."""

    path: str
    version: int = -1


class SetNode(msgspec.Struct, frozen=True, gc=False):
    """Replaces the data if the version is this one; -1 is any."""

    path: str
    data: bytes
    version: int = -1


class DeleteNode(msgspec.Struct, frozen=True, gc=False):
    """Deletes if the version is this one; -1 is any. The name of a task is never used twice, so its existence says
    enough.
    """

    path: str
    version: int = -1


class CreateNode(msgspec.Struct, frozen=True, gc=False):
    """Creates a persistent node."""

    path: str
    data: bytes


Operation = CheckNode | SetNode | DeleteNode | CreateNode

_OVERHEAD: Final = 64
"""Bytes on the wire of one operation beside path and data, rounded up: with an open ACL a create has 48."""


class Move(msgspec.Struct, frozen=True, gc=False):
    """One transition of one task. `guard` is the index of the operation that says whether the task was still there.
    A transition of a schedule has the name of its tick, or of the schedule, as its `task`.
    """

    transition: TransitionName
    task: str
    operations: tuple[Operation, ...]
    guard: int

    def size(self, namespace: int = 0, acl: int = 0) -> int:
        """Return at most how many bytes it has in a frame, with a chroot of `namespace` bytes and ACLs of `acl` bytes;
        an open ACL counts nothing. The frame adds 32."""
        return _size(self.operations, namespace, acl)


def at_version(move: Move, path: str, version: int) -> Move:
    """Return the move that deletes this znode at this version only."""
    operations = tuple(
        DeleteNode(path, version) if isinstance(each, DeleteNode) and each.path == path else each
        for each in move.operations
    )
    return msgspec.structs.replace(move, operations=operations)


class NewTask(msgspec.Struct, frozen=True, gc=False):
    """A task to submit: due at once, or at `due_ms` (unix milliseconds), perhaps holding a uniqueness key, of which
    `key_record` is what its hold says. `old_key_hash`: the key under which programs that knew only global ones may have
    submitted the same. `parent` is the path of the assignment whose code submits it as its child.

    `delay_ms` and `expires_ms` are durations from its submission. The sender turns them into times of the
    servers' clock first: `due_ms`, and `expires` in the payload.
    """

    name: str
    data: bytes
    due_ms: int | None = None
    key_hash: str | None = None
    delay_ms: int | None = None
    expires_ms: int | None = None
    key_record: bytes | None = None
    old_key_hash: str | None = None
    parent: str | None = None


class FlowPart(msgspec.Struct, frozen=True, gc=False):
    """A part of a flow to submit. `name` is that of the submission, or begins with it and a slash."""

    name: str
    transition: TransitionName
    operations: tuple[Operation, ...]


class Submission(msgspec.Struct, frozen=True, gc=False):
    """One accepted-or-not batch. `owners` says for each operation which task it belongs to, -1 for the batch itself.
    `of_flows` are the transitions of those owners that are parts of flows."""

    tasks: tuple[str, ...]
    operations: tuple[Operation, ...]
    owners: tuple[int, ...]
    of_flows: Mapping[int, TransitionName] = {}

    def transition(self, index: int) -> TransitionName:
        """Return the transition that an operation belongs to."""
        return self.of_flows.get(self.owners[index], TransitionName.SUBMIT)

    def size(self, namespace: int = 0, acl: int = 0) -> int:
        """As `Move.size`."""
        return _size(self.operations, namespace, acl)


def _size(operations: Sequence[Operation], namespace: int, acl: int) -> int:
    # One loop without calls: it runs for every move. Paths of the protocol are ASCII, so characters are bytes.
    size = (_OVERHEAD + namespace) * len(operations)
    for operation in operations:
        size += len(operation.path)
        if isinstance(operation, CreateNode):
            size += acl + len(operation.data)
        elif isinstance(operation, SetNode):
            size += len(operation.data)
    return size
