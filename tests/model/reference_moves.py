"""The moves of the reference roles: each operation is a request of its own, and none is a check."""

from __future__ import annotations

from typing import Final

from herdmaster.core import layout
from herdmaster.core.transitions import CreateNode, DeleteNode, Move, TransitionName
from tests.model.vocabulary import ASSIGN, INBOXES, STATUS, TASKS, WORKERS, Znodes

_DONE: Final = b"done"


def assign(task: str, letter: str, payload: bytes) -> Move:
    path = layout.assignment_path(WORKERS[letter], task)
    return Move(TransitionName.ASSIGN, task, (CreateNode(path, payload), DeleteNode(layout.task_path(task))), 1)


def recover(task: str, letter: str, payload: bytes) -> Move:
    path = layout.assignment_path(WORKERS[letter], task)
    return Move(TransitionName.RECOVER, task, (CreateNode(layout.task_path(task), payload), DeleteNode(path)), 1)


def complete(task: str, letter: str) -> Move:
    path = layout.assignment_path(WORKERS[letter], task)
    return Move(TransitionName.COMPLETE, task, (CreateNode(layout.status_path(task), _DONE), DeleteNode(path)), 1)


def at_takeover(task: str, znodes: Znodes, alive: frozenset[str]) -> Move | None:
    """What its listings make it do: a task that has a status or stands in the inbox of a live worker goes from
    `/tasks`; an assignment to a lost worker goes if the task stands in `/tasks` as well."""
    if TASKS not in znodes.places:
        return None
    if STATUS in znodes.places or any(ASSIGN[letter] in znodes.places for letter in alive):
        return Move(TransitionName.DROP_TASK_BECAUSE_ASSIGNED, task, (DeleteNode(layout.task_path(task)),), 0)
    for letter in INBOXES:
        if ASSIGN[letter] in znodes.places:
            path = layout.assignment_path(WORKERS[letter], task)
            return Move(TransitionName.DROP_ASSIGNMENT_BECAUSE_TASK, task, (DeleteNode(path),), 0)
    return None
