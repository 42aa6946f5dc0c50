"""Decides what a worker does about a task whose transaction ZooKeeper refused."""

from __future__ import annotations

import enum

from herdmaster.core import flow_moves, transitions
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.transitions import CreateNode, Move
from herdmaster.zookeeper.paths import parent_of


class Remedy(enum.Enum):
    """What to do with a task for which there is no other move."""

    LET_GO = "let go"  # another role has it now
    READ_AGAIN = "read again"  # another worker that has a copy made items of it meanwhile
    FAIL = "fail"  # end it without running it
    TRY_LATER = "try later"  # the cause passes: a reference master acts, or a missing folder is made again
    SET_ASIDE = "set aside"  # nothing in the protocol explains the refusal


def remedy(worker: str, move: Move, verdict: Verdict | None, path: str = "") -> Move | Remedy:
    """Return the move that replaces the refused one, or what else to do. `path` is what ZooKeeper refused. The task is
    still held."""
    name = move.task
    match verdict:
        case Verdict.RACE_LOST:
            return Remedy.LET_GO
        case Verdict.STEP_ENDED:
            return flow_moves.drop_step_assigned(worker, name)
        case Verdict.EDGE_GONE:
            return _without_edges(move, path)
        case Verdict.DECIDE_AGAIN if move.transition is TransitionName.EXPAND_STEP:
            return Remedy.READ_AGAIN
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


def _without_edges(move: Move, path: str) -> Move:
    """Return the move without the edge at this path, or, where it creates edges, without all of the same join."""
    join = f"{parent_of(path)}/"
    kept = (
        operation
        for operation in move.operations
        if operation.path != path and not (isinstance(operation, CreateNode) and operation.path.startswith(join))
    )
    return Move(move.transition, move.task, tuple(kept), move.guard)


def _failure(burial: Move) -> bytes | None:
    """Return the outcome that a burial would have left: the data of the last znode that it creates."""
    created = [operation for operation in burial.operations if isinstance(operation, CreateNode)]
    return created[-1].data if created else None
