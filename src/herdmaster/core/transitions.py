"""The transactions of the transition table, one function per row, and what it means when one is refused.

A `Move` is one task's row as operations. Moves of several tasks are committed as one transaction by putting their
operations one after the other; `verdict` takes the index within the task's own move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.flow_rows import OF_WHOLE_FLOWS, place_in_flow
from herdmaster.core.keys import HeldKey, NewKey, parse_hold_name
from herdmaster.core.operations import (
    CheckNode,
    CreateNode,
    DeleteNode,
    FlowPart,
    Move,
    NewTask,
    Operation,
    SetNode,
    Submission,
)
from herdmaster.core.table import (
    OF_KEYS,
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
    "TABLE", "CheckNode", "CreateNode", "DeleteNode", "Failure", "FlowPart", "Move", "NewTask", "Operation", "Place",
    "Role", "SetNode", "Submission", "Transition", "TransitionName", "Verb", "Verdict", "as_markdown", "assign", "bury",
    "cancel_assigned", "cancel_delayed", "cancel_waiting", "collect", "complete", "drop_assignment_because_status",
    "drop_assignment_because_task", "drop_cancel", "drop_delayed_because_status", "drop_delayed_because_task",
    "drop_task_because_assigned", "drop_task_because_status", "expire", "forward", "freed_by", "hand_back",
    "mark_start", "promote", "recover", "refuse", "refuse_assigned", "refuse_delayed", "release", "replay",
    "retry_in_place", "retry_later", "retry_now", "save", "submit", "verdict", "without_key",
]  # fmt: skip


class _Subject(msgspec.Struct, frozen=True, gc=False):
    """Everything that the paths of one move are made of."""

    task: str
    worker: str = ""
    due_ms: int = 0
    held: HeldKey | None = None
    new_task: str = ""
    new_key: NewKey | None = None


_PATHS: Final[dict[Place, Callable[[_Subject], str]]] = {
    Place.TASKS: lambda subject: layout.task_path(subject.task),
    Place.RENAMED: lambda subject: layout.task_path(subject.new_task),
    Place.DELAYED: lambda subject: layout.delayed_path(subject.due_ms, subject.task),
    Place.ASSIGN: lambda subject: layout.assignment_path(subject.worker, subject.task),
    Place.STATUS: lambda subject: layout.status_path(subject.task),
    Place.DEAD: lambda subject: layout.dead_path(subject.task),
    Place.CANCEL: lambda subject: layout.cancel_path(subject.task),
    Place.KEYS: lambda subject: layout.key_path(_hash_of(subject)),
    Place.HOLDS: lambda subject: layout.hold_path(_hash_of(subject), subject.task),
    Place.HOLDS_RENAMED: lambda subject: layout.hold_path(_hash_of(subject), subject.new_task),
    Place.WORKERS: lambda subject: layout.worker_path(subject.worker),
}


def _hash_of(subject: _Subject) -> str:
    key = subject.held or subject.new_key
    assert key is not None
    return key.hash


def _steps(row: Transition) -> tuple[tuple[Verb, Place], ...]:
    """A row as its operations, in the order of the transaction, keys included."""
    return (
        *((Verb.CHECK, place) for place in row.checks),
        *((Verb.SET, place) for place in row.sets),
        *((Verb.DELETE, place) for place in row.consumes),
        *((Verb.CREATE, place) for place in row.produces),
    )


_STEPS: Final = {name: _steps(row) for name, row in TABLE.items()}
_Plan = tuple[tuple[Verb, Place, Callable[[_Subject], str]], ...]
_PLANS: Final[dict[TransitionName, _Plan]] = {
    name: tuple((verb, place, _PATHS[place]) for verb, place in steps)
    for name, steps in _STEPS.items()
    if all(place in _PATHS for _, place in steps)
}
"""Of the rows of one task. Submissions come in batches, and schedules have `core/schedule_moves.py`."""
_PLAIN_PLANS: Final[dict[TransitionName, _Plan]] = {
    name: tuple(step for step in plan if step[1] not in OF_KEYS) for name, plan in _PLANS.items()
}
"""Of tasks without a key."""
_GUARDS: Final = {
    name: len(set(row.checks) - {Place.PARENT}) + (len(row.sets) if row.consumes else 0) for name, row in TABLE.items()
}


def _move(name: TransitionName, subject: _Subject, *contents: bytes) -> Move:
    """The row's operations; `contents` are the data of what it sets and produces, in its order."""
    operations: list[Operation] = []
    data = iter(contents)
    is_keyed = subject.held is not None or subject.new_key is not None
    for verb, place, path in _PLANS[name] if is_keyed else _PLAIN_PLANS[name]:
        if place in OF_KEYS:
            operations += _of_key(verb, place, subject)
        elif verb is Verb.CREATE:
            operations.append(CreateNode(path(subject), next(data)))
        elif verb is Verb.DELETE:
            operations.append(DeleteNode(path(subject)))
        elif verb is Verb.CHECK:
            operations.append(CheckNode(path(subject)))
        else:
            operations.append(SetNode(path(subject), next(data)))
    return Move(name, subject.task, tuple(operations), _GUARDS[name])


def _of_key(verb: Verb, place: Place, subject: _Subject) -> tuple[Operation, ...]:
    """What a move does to a key, if it does anything."""
    path, is_hold = _PATHS[place], place is not Place.KEYS
    held, new = subject.held, subject.new_key
    if verb is Verb.DELETE:
        return () if held is None or (is_hold and not held.has_hold) else (DeleteNode(path(subject)),)
    if new is None or (is_hold and new.record is None):
        return ()
    holder = (subject.new_task or subject.task).encode()
    return (CreateNode(path(subject), new.record if is_hold and new.record is not None else holder),)


def submit(client: str, session_id: int, version: int, entries: Iterable[NewTask | FlowPart]) -> Submission:
    """A batch by the client's session; `version` is what the journal has before it, and it has one more after it."""
    batch = tuple(entries)
    of_flows: dict[int, TransitionName] = {}
    operations: list[Operation] = [
        CheckNode(layout.alive_path(client, session_id)),
        SetNode(layout.client_path(client), b"", version),
    ]
    owners = [-1, -1]
    for owner, task in enumerate(batch):
        if isinstance(task, FlowPart):
            of_flows[owner] = task.transition
            operations += task.operations
            owners += [owner] * len(task.operations)
            continue
        if task.parent is not None:
            operations.append(CheckNode(task.parent))
            owners.append(owner)
        new_key = None if task.key_hash is None else NewKey(task.key_hash, task.key_record)
        subject = _Subject(task.name, due_ms=task.due_ms or 0, new_key=new_key)
        for place in TABLE[TransitionName.SUBMIT if task.due_ms is None else TransitionName.SUBMIT_LATER].produces:
            made = (
                _of_key(Verb.CREATE, place, subject)
                if place in OF_KEYS
                else (CreateNode(_PATHS[place](subject), task.data),)
            )
            operations += made
            owners += [owner] * len(made)
    return Submission(tuple(task.name for task in batch), tuple(operations), tuple(owners), of_flows)


def promote(due_ms: int, task: str, data: bytes) -> Move:
    return _move(TransitionName.PROMOTE, _Subject(task, due_ms=due_ms), data)


def assign(task: str, worker: str, data: bytes) -> Move:
    return _move(TransitionName.ASSIGN, _Subject(task, worker), data)


def mark_start(worker: str, task: str, data: bytes) -> Move:
    """`data` is the payload with the start marked (`payload.with_start`)."""
    return _move(TransitionName.MARK_START, _Subject(task, worker), data)


def save(worker: str, task: str, data: bytes) -> Move:
    """`data` is the payload with the results that the task's code has saved (`payload.with_saved`)."""
    return _move(TransitionName.SAVE, _Subject(task, worker), data)


# What ends a task frees its key, if one is given: the caller knows whether the outcome is to hold it.


def complete(worker: str, task: str, outcome: bytes | None, key: HeldKey | None = None) -> Move:
    """With None no outcome is wanted, and nothing is left of the task."""
    if outcome is None:
        return _move(TransitionName.COMPLETE_SILENTLY, _Subject(task, worker, held=key))
    return _move(TransitionName.COMPLETE, _Subject(task, worker, held=key), outcome)


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


def bury(worker: str, task: str, payload: bytes, failure: bytes, key: HeldKey | None = None) -> Move:
    return _move(TransitionName.BURY, _Subject(task, worker, held=key), payload, failure)


def refuse(task: str, failure: bytes, key: HeldKey | None = None) -> Move:
    return _move(TransitionName.REFUSE, _Subject(task, held=key), failure)


def refuse_assigned(worker: str, task: str, failure: bytes, key: HeldKey | None = None) -> Move:
    return _move(TransitionName.REFUSE_ASSIGNED, _Subject(task, worker, held=key), failure)


def refuse_delayed(due_ms: int, task: str, failure: bytes, key: HeldKey | None = None) -> Move:
    return _move(TransitionName.REFUSE_DELAYED, _Subject(task, due_ms=due_ms, held=key), failure)


def cancel_waiting(task: str, outcome: bytes, key: HeldKey | None = None) -> Move:
    return _move(TransitionName.CANCEL_WAITING, _Subject(task, held=key), outcome)


def cancel_delayed(due_ms: int, task: str, outcome: bytes, key: HeldKey | None = None) -> Move:
    return _move(TransitionName.CANCEL_DELAYED, _Subject(task, due_ms=due_ms, held=key), outcome)


def cancel_assigned(worker: str, task: str, outcome: bytes, key: HeldKey | None = None) -> Move:
    return _move(TransitionName.CANCEL_ASSIGNED, _Subject(task, worker, held=key), outcome)


def drop_cancel(task: str) -> Move:
    return _move(TransitionName.DROP_CANCEL, _Subject(task))


def collect(task: str, key: HeldKey | None = None) -> Move:
    """With the key that the task holds, if any."""
    return _move(TransitionName.COLLECT, _Subject(task, held=key))


def expire(task: str, key: HeldKey | None = None) -> Move:
    """With the key that the task holds, if any."""
    return _move(TransitionName.EXPIRE, _Subject(task, held=key))


def replay(task: str, new_task: str, data: bytes, held: HeldKey | None = None, new_key: NewKey | None = None) -> Move:
    """The new task takes `new_key`; `held` is the same where the old one still holds it."""
    return _move(TransitionName.REPLAY, _Subject(task, new_task=new_task, held=held, new_key=new_key), data)


def release(task: str, key_hash: str) -> Move:
    """Of a task with a hold. That the hold is gone means that it holds the key no more."""
    return _move(TransitionName.RELEASE, _Subject(task, held=HeldKey(key_hash)))


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


def freed_by(move: Move) -> HeldKey | None:
    """The key that a move frees."""
    paths = [operation.path for operation in move.operations if isinstance(operation, DeleteNode)]
    names = [layout.name_of(path) for path in paths if path.startswith(f"{layout.KEYS}/")]
    if not names:
        return None
    return HeldKey(names[-1], has_hold=parse_hold_name(names[0]) is not None)


def without_key(move: Move) -> Move:
    """The same move, which leaves the key alone because the task does not hold it."""
    kept = (
        operation
        for operation in move.operations
        if not (isinstance(operation, DeleteNode) and operation.path.startswith(f"{layout.KEYS}/"))
    )
    return Move(move.transition, move.task, tuple(kept), move.guard)


def verdict(move: Move | Submission, failed_index: int, error: Failure) -> Verdict:
    """What it means that the move's transaction was refused at its operation `failed_index`. Raises `IndexError` for an
    index outside the move, which would be another move's failure.
    """
    operation = move.operations[failed_index]
    if isinstance(move, Submission):
        row, guard = TABLE[move.transition(failed_index)], _GUARDS[TransitionName.SUBMIT]
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
    "schedules": Place.SCHEDULES,
}


def _place(row: Transition, operation: Operation) -> Place:
    segments = operation.path.split("/")
    if segments[1] == "flows":
        return place_in_flow(segments, row, is_create=isinstance(operation, CreateNode))
    if segments[1] == "status" and segments[2].startswith("flow-") and row.name in OF_WHOLE_FLOWS:
        return Place.FLOW_STATUS
    if segments[1] == "clients":
        return Place.JOURNAL if len(segments) == 3 else Place.ALIVE
    if segments[1] == "ticks":
        return Place.NEXT_TICKS if isinstance(operation, CreateNode) else Place.TICKS
    place = _PLACE_OF_FOLDER[segments[1]]
    if place is Place.ASSIGN and Place.PARENT in row.checks:
        return Place.PARENT
    if place is Place.KEYS and parse_hold_name(segments[2]) is not None:
        is_new = isinstance(operation, CreateNode) and Place.HOLDS_RENAMED in row.produces
        return Place.HOLDS_RENAMED if is_new else Place.HOLDS
    return Place.RENAMED if place is Place.TASKS and Place.RENAMED in row.produces else place
