"""The transactions of the transition table, one function per row, and what it means when one is refused.

A `Move` is one task's row as operations. Moves of several tasks are committed as one transaction by putting their
operations one after the other; `verdict` takes the index within the task's own move. The operations are this layer's
own records, so that decisions stay free of any client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.table import (
    TABLE,
    Failure,
    Place,
    Role,
    Transition,
    TransitionName,
    Verb,
    Verdict,
    as_markdown,
    judge,
)

__all__ = [
    "TABLE", "CheckNode", "CreateNode", "DeleteNode", "Failure", "Move", "NewTask", "Operation", "Place", "Role",
    "SetNode", "Submission", "Transition", "TransitionName", "Verb", "Verdict", "as_markdown", "assign", "bury",
    "cancel_assigned", "cancel_delayed", "cancel_waiting", "collect", "complete", "drop_assignment_because_status",
    "drop_assignment_because_task", "drop_cancel", "drop_delayed_because_status", "drop_delayed_because_task",
    "drop_task_because_assigned", "drop_task_because_status", "expire", "forward", "hand_back", "mark_start", "promote",
    "recover", "refuse", "refuse_assigned", "refuse_delayed", "replay", "retry_in_place", "retry_later", "retry_now",
    "submit", "verdict",
]  # fmt: skip


class CheckNode(msgspec.Struct, frozen=True, gc=False):
    """The node exists, at any version."""

    path: str


class SetNode(msgspec.Struct, frozen=True, gc=False):
    """Replaces the data if the version is this one; -1 is any."""

    path: str
    data: bytes
    version: int = -1


class DeleteNode(msgspec.Struct, frozen=True, gc=False):
    """Deletes at any version: a name is never used twice, so its existence says enough."""

    path: str


class CreateNode(msgspec.Struct, frozen=True, gc=False):
    """Creates a persistent node."""

    path: str
    data: bytes


Operation = CheckNode | SetNode | DeleteNode | CreateNode

_OVERHEAD: Final = 64
"""Bytes on the wire of one operation beside path and data, rounded up: with an open ACL a create has 48."""


class Move(msgspec.Struct, frozen=True, gc=False):
    """One transition of one task. `guard` is the index of the operation that says whether the task was still there."""

    transition: TransitionName
    task: str
    operations: tuple[Operation, ...]
    guard: int

    def size(self, namespace: int = 0) -> int:
        """At most so many bytes in a frame, with a chroot of `namespace` bytes. The frame adds 32 of its own."""
        return sum(_size(operation, namespace) for operation in self.operations)


class NewTask(msgspec.Struct, frozen=True, gc=False):
    """A task to submit: due at once, or at `due_ms` (unix milliseconds), perhaps holding a uniqueness key.

    `delay_ms` and `expires_ms` are durations from its submission. Whoever sends it turns them into times of the
    servers' clock first: `due_ms`, and `expires` in the payload.
    """

    name: str
    data: bytes
    due_ms: int | None = None
    key_hash: str | None = None
    delay_ms: int | None = None
    expires_ms: int | None = None


class Submission(msgspec.Struct, frozen=True, gc=False):
    """One accepted-or-not batch. `owners` says for each operation which task it belongs to, -1 for the batch itself."""

    tasks: tuple[str, ...]
    operations: tuple[Operation, ...]
    owners: tuple[int, ...]

    def size(self, namespace: int = 0) -> int:
        """As `Move.size`."""
        return sum(_size(operation, namespace) for operation in self.operations)


def _size(operation: Operation, namespace: int) -> int:
    data = len(operation.data) if isinstance(operation, (SetNode, CreateNode)) else 0
    # Paths of the protocol are ASCII, so characters are bytes.
    return _OVERHEAD + namespace + len(operation.path) + data


class _Subject(msgspec.Struct, frozen=True, gc=False):
    """Everything that the paths of one move are made of."""

    task: str
    worker: str = ""
    due_ms: int = 0
    key_hash: str | None = None
    new_task: str = ""


_PATHS: Final[dict[Place, Callable[[_Subject], str]]] = {
    Place.TASKS: lambda subject: layout.task_path(subject.task),
    Place.RENAMED: lambda subject: layout.task_path(subject.new_task),
    Place.DELAYED: lambda subject: layout.delayed_path(subject.due_ms, subject.task),
    Place.ASSIGN: lambda subject: layout.assignment_path(subject.worker, subject.task),
    Place.STATUS: lambda subject: layout.status_path(subject.task),
    Place.DEAD: lambda subject: layout.dead_path(subject.task),
    Place.CANCEL: lambda subject: layout.cancel_path(subject.task),
    Place.KEYS: lambda subject: layout.key_path(subject.key_hash or ""),
    Place.WORKERS: lambda subject: layout.worker_path(subject.worker),
}


def _steps(row: Transition) -> tuple[tuple[Verb, Place], ...]:
    """A row as its operations, in the order of the transaction, keys included."""
    return (
        *((Verb.CHECK, place) for place in row.checks),
        *((Verb.SET, place) for place in row.sets),
        *((Verb.DELETE, place) for place in row.consumes),
        *((Verb.CREATE, place) for place in row.produces),
    )


_STEPS: Final = {name: _steps(row) for name, row in TABLE.items()}
_PLANS: Final[dict[TransitionName, tuple[tuple[Verb, Callable[[_Subject], str], bool], ...]]] = {
    name: tuple((verb, _PATHS[place], place is Place.KEYS) for verb, place in steps)
    for name, steps in _STEPS.items()
    if name not in (TransitionName.SUBMIT, TransitionName.SUBMIT_LATER)
}
_GUARDS: Final = {name: len(row.checks) + (len(row.sets) if row.consumes else 0) for name, row in TABLE.items()}


def _move(name: TransitionName, subject: _Subject, *contents: bytes) -> Move:
    """The row's operations; `contents` are the data of what it sets and produces, in its order."""
    operations: list[Operation] = []
    data = iter(contents)
    for verb, path, is_key in _PLANS[name]:
        if is_key and subject.key_hash is None:
            continue
        if verb is Verb.CREATE:
            operations.append(CreateNode(path(subject), next(data)))
        elif verb is Verb.DELETE:
            operations.append(DeleteNode(path(subject)))
        elif verb is Verb.CHECK:
            operations.append(CheckNode(path(subject)))
        else:
            operations.append(SetNode(path(subject), next(data)))
    return Move(name, subject.task, tuple(operations), _GUARDS[name])


def submit(client: str, session_id: int, version: int, tasks: Iterable[NewTask]) -> Submission:
    """A batch by the client's session; `version` is what the journal has before it, and it has one more after it."""
    batch = tuple(tasks)
    operations: list[Operation] = [
        CheckNode(layout.alive_path(client, session_id)),
        SetNode(layout.client_path(client), b"", version),
    ]
    owners = [-1, -1]
    for owner, task in enumerate(batch):
        subject = _Subject(task.name, due_ms=task.due_ms or 0, key_hash=task.key_hash)
        for place in TABLE[TransitionName.SUBMIT if task.due_ms is None else TransitionName.SUBMIT_LATER].produces:
            if place is Place.KEYS and task.key_hash is None:
                continue
            data = task.name.encode() if place is Place.KEYS else task.data
            operations.append(CreateNode(_PATHS[place](subject), data))
            owners.append(owner)
    return Submission(tuple(task.name for task in batch), tuple(operations), tuple(owners))


def promote(due_ms: int, task: str, data: bytes) -> Move:
    return _move(TransitionName.PROMOTE, _Subject(task, due_ms=due_ms), data)


def assign(task: str, worker: str, data: bytes) -> Move:
    return _move(TransitionName.ASSIGN, _Subject(task, worker), data)


def mark_start(worker: str, task: str, data: bytes) -> Move:
    """`data` is the payload with the start marked (`payload.with_start`)."""
    return _move(TransitionName.MARK_START, _Subject(task, worker), data)


def complete(worker: str, task: str, outcome: bytes | None, key_hash: str | None = None) -> Move:
    """With None no outcome is wanted, and nothing is left of the task: its key, if it holds one, goes with it. Where
    there is an outcome the key stays as long as that does.
    """
    if outcome is None:
        return _move(TransitionName.COMPLETE_SILENTLY, _Subject(task, worker, key_hash=key_hash))
    return _move(TransitionName.COMPLETE, _Subject(task, worker), outcome)


def retry_now(worker: str, task: str, data: bytes) -> Move:
    """`data` is the payload with its next attempt (`payload.with_attempt`); so for the other two retries."""
    return _move(TransitionName.RETRY_NOW, _Subject(task, worker), data)


def retry_later(worker: str, task: str, due_ms: int, data: bytes) -> Move:
    return _move(TransitionName.RETRY_LATER, _Subject(task, worker, due_ms), data)


def retry_in_place(worker: str, task: str, data: bytes) -> Move:
    return _move(TransitionName.RETRY_IN_PLACE, _Subject(task, worker), data)


def forward(worker: str, task: str, due_ms: int, data: bytes) -> Move:
    """`data` is the payload that names the worker as asked (`payload.with_asked`)."""
    return _move(TransitionName.FORWARD, _Subject(task, worker, due_ms), data)


def hand_back(worker: str, task: str, data: bytes) -> Move:
    return _move(TransitionName.HAND_BACK, _Subject(task, worker), data)


def recover(worker: str, task: str, data: bytes) -> Move:
    """`data` is the payload with the loss counted (`payload.after_loss`)."""
    return _move(TransitionName.RECOVER, _Subject(task, worker), data)


def bury(worker: str, task: str, payload: bytes, failure: bytes) -> Move:
    return _move(TransitionName.BURY, _Subject(task, worker), payload, failure)


def refuse(task: str, failure: bytes) -> Move:
    return _move(TransitionName.REFUSE, _Subject(task), failure)


def refuse_assigned(worker: str, task: str, failure: bytes) -> Move:
    return _move(TransitionName.REFUSE_ASSIGNED, _Subject(task, worker), failure)


def refuse_delayed(due_ms: int, task: str, failure: bytes) -> Move:
    return _move(TransitionName.REFUSE_DELAYED, _Subject(task, due_ms=due_ms), failure)


def cancel_waiting(task: str, outcome: bytes) -> Move:
    return _move(TransitionName.CANCEL_WAITING, _Subject(task), outcome)


def cancel_delayed(due_ms: int, task: str, outcome: bytes) -> Move:
    return _move(TransitionName.CANCEL_DELAYED, _Subject(task, due_ms=due_ms), outcome)


def cancel_assigned(worker: str, task: str, outcome: bytes) -> Move:
    return _move(TransitionName.CANCEL_ASSIGNED, _Subject(task, worker), outcome)


def drop_cancel(task: str) -> Move:
    return _move(TransitionName.DROP_CANCEL, _Subject(task))


def collect(task: str, key_hash: str | None = None) -> Move:
    """With the key that the task holds, if any: only its holder may delete it."""
    return _move(TransitionName.COLLECT, _Subject(task, key_hash=key_hash))


def expire(task: str, key_hash: str | None = None) -> Move:
    """With the key that the task holds, if any: only its holder may delete it."""
    return _move(TransitionName.EXPIRE, _Subject(task, key_hash=key_hash))


def replay(task: str, new_task: str, data: bytes) -> Move:
    return _move(TransitionName.REPLAY, _Subject(task, new_task=new_task), data)


def drop_assignment_because_status(worker: str, task: str) -> Move:
    return _move(TransitionName.DROP_ASSIGNMENT_BECAUSE_STATUS, _Subject(task, worker))


def drop_assignment_because_task(worker: str, task: str) -> Move:
    return _move(TransitionName.DROP_ASSIGNMENT_BECAUSE_TASK, _Subject(task, worker))


def drop_task_because_status(task: str) -> Move:
    return _move(TransitionName.DROP_TASK_BECAUSE_STATUS, _Subject(task))


def drop_task_because_assigned(worker: str, task: str) -> Move:
    return _move(TransitionName.DROP_TASK_BECAUSE_ASSIGNED, _Subject(task, worker))


def drop_delayed_because_status(due_ms: int, task: str) -> Move:
    return _move(TransitionName.DROP_DELAYED_BECAUSE_STATUS, _Subject(task, due_ms=due_ms))


def drop_delayed_because_task(due_ms: int, task: str) -> Move:
    return _move(TransitionName.DROP_DELAYED_BECAUSE_TASK, _Subject(task, due_ms=due_ms))


def verdict(move: Move | Submission, failed_index: int, error: Failure) -> Verdict:
    """What it means that the move's transaction was refused at its operation `failed_index`. Raises `IndexError` for an
    index outside the move, which would be another move's failure.
    """
    operation = move.operations[failed_index]
    if isinstance(move, Submission):
        row, guard = TABLE[TransitionName.SUBMIT], _GUARDS[TransitionName.SUBMIT]
    else:
        row, guard = TABLE[move.transition], move.guard
    return judge(row, _verb(operation), _place(row, operation), failed_index == guard, error)


def _verb(operation: Operation) -> Verb:
    match operation:
        case CheckNode():
            return Verb.CHECK
        case SetNode():
            return Verb.SET
        case DeleteNode():
            return Verb.DELETE
    return Verb.CREATE


_PLACE_OF_FOLDER: Final = {
    "tasks": Place.TASKS,
    "delayed": Place.DELAYED,
    "assign": Place.ASSIGN,
    "status": Place.STATUS,
    "dead": Place.DEAD,
    "cancel": Place.CANCEL,
    "keys": Place.KEYS,
    "workers": Place.WORKERS,
}


def _place(row: Transition, operation: Operation) -> Place:
    segments = operation.path.split("/")
    if segments[1] == "clients":
        return Place.JOURNAL if len(segments) == 3 else Place.ALIVE
    place = _PLACE_OF_FOLDER[segments[1]]
    return Place.RENAMED if place is Place.TASKS and Place.RENAMED in row.produces else place
