"""Decides what a worker does about a task whose transaction ZooKeeper refused."""

from __future__ import annotations

import enum

from herdmaster.core import transitions
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.transitions import CreateNode, Move


class Remedy(enum.Enum):
    """What to do with a task for which there is no other move."""

    LET_GO = "let go"  # another role has it now
    FAIL = "fail"  # end it without running it
    TRY_LATER = "try later"  # the cause passes: a reference master acts, or a missing folder is made again
    SET_ASIDE = "set aside"  # nothing in the protocol explains the refusal


def remedy(worker: str, move: Move, verdict: Verdict | None) -> Move | Remedy:
    """Return the move that replaces the refused one, or what else to do. The task is still held."""
    name = move.task
    match verdict:
        case Verdict.RACE_LOST:
            return Remedy.LET_GO
        case Verdict.DROP_ASSIGNMENT:
            return transitions.drop_assignment_because_status(worker, name)
        case Verdict.DECIDE_AGAIN:
            # The status that the move above relied on was collected meanwhile, so the task has ended.
            return transitions.complete(worker, name, None)
        case Verdict.WITHOUT_KEY:
            return transitions.without_key(move)
        case Verdict.ALREADY_BURIED:
            return transitions.complete(worker, name, _failure(move), transitions.freed_by(move))
    if move.transition is TransitionName.MARK_START:
        return Remedy.FAIL
    is_passing = verdict in (Verdict.KEEP_AND_TRY_LATER, Verdict.FOLDER_MISSING)
    return Remedy.TRY_LATER if is_passing else Remedy.SET_ASIDE


def _failure(burial: Move) -> bytes | None:
    """Return the outcome that a burial would have left: the data of the last znode that it creates."""
    created = [operation for operation in burial.operations if isinstance(operation, CreateNode)]
    return created[-1].data if created else None
