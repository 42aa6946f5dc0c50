"""Recovery of the tasks of lost workers, and the move that follows a refused transaction."""

from __future__ import annotations

from typing import Final

from herdmaster.core import layout, transitions
from herdmaster.core.ending_moves import bury, drop_step, refuse
from herdmaster.core.endings import failed, too_large
from herdmaster.core.names import is_call
from herdmaster.core.payload import (
    ENVELOPE_GROWTH,
    MAX_PAYLOAD,
    after_loss,
    decode_call,
    is_alone,
    with_isolation,
)
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.transitions import CreateNode, Move
from herdmaster.core.values import UNREADABLE
from herdmaster.core.whereabouts import Assigned
from herdmaster.errors import BadPayload

MAX_DELIVERIES: Final = 5
MAX_MOVABLE: Final = MAX_PAYLOAD + ENVELOPE_GROWTH
"""Bytes of a payload. A larger one could be assigned, but not buried together with its failure."""

ALONE_AFTER: Final = 2
"""A task that was with so many lost workers may have ended them: it is a suspect."""
_MAX_COUNTED: Final = 100_000
_WORKER_LOST: Final = "WorkerLost"


class Recovery:
    """Decides what becomes of the tasks of lost workers, for one term of a primary.

    Raw tasks carry no count of deliveries. So theirs is kept here, and begins anew with the next primary.
    """

    def __init__(self, max_deliveries: int = MAX_DELIVERIES) -> None:
        self._max_deliveries = max_deliveries
        self._losses: dict[str, tuple[int, str]] = {}  # raw task: how many workers were lost with it, and the last one

    def move(self, worker: str, task: str, payload: bytes, *, has_status: bool) -> Move:
        """Return the move for one task of the lost worker; called again about the same loss, the same.

        A payload that is not a call goes back as it is: the worker that gets the task reports what is wrong with it.
        """
        if has_status:
            return transitions.drop_assignment_because_status(worker, task)
        if len(payload) > MAX_MOVABLE:
            return refuse(Assigned(task, worker), payload, too_large(len(payload)))
        allowed = self._max_deliveries
        try:
            if not is_call(task):
                deliveries = self._count_raw(worker, task)
            else:
                payload = after_loss(payload, worker)
                call = decode_call(payload)
                deliveries = call.deliveries
                allowed = call.max_deliveries or allowed
                if _is_suspect(deliveries, allowed) and not call.alone:
                    payload = with_isolation(payload)
        except (BadPayload, *UNREADABLE):  # also a count of thousands of digits, to which nothing can be added
            deliveries = self._count_raw(worker, task)
        if deliveries > allowed:
            message = f"{deliveries} workers were lost while they held it; at most {allowed} are allowed"
            return bury(worker, task, payload, failed(_WORKER_LOST, message))
        return transitions.recover(worker, task, payload)

    def runs_alone(self, task: str, payload: bytes) -> bool:
        """Whether the task is a suspect that has to run alone on its worker."""
        if is_call(task):
            return is_alone(payload)
        return _is_suspect(self._losses.get(task, (0, ""))[0], self._max_deliveries)

    def forget(self, task: str) -> None:
        """Forget the count of a task that was buried."""
        self._losses.pop(task, None)

    def _count_raw(self, worker: str, task: str) -> int:
        count, last = self._losses.pop(task, (0, ""))
        count += worker != last
        self._losses[task] = count, worker
        if len(self._losses) > _MAX_COUNTED:  # the oldest was most likely run long ago
            del self._losses[next(iter(self._losses))]
        return count


def _is_suspect(losses: int, allowed: int) -> bool:
    return losses >= min(ALONE_AFTER, allowed)


def follow_up(move: Move, verdict: Verdict, *, stands_in: bool = False) -> Move | None:
    """Return the move that a primary sends at once when one of its moves was refused; None if the picture decides.

    `stands_in`: the move is of a master that stands in. It drops no copy of a delayed task that waits in `/tasks`: the
    reference primary, which saw the task assigned when it took over, may be about to delete that copy.
    """
    task = move.task
    match verdict:
        case Verdict.DROP_TASK_ENDED:
            return transitions.drop_task_because_status(task)
        case Verdict.DROP_TASK_ASSIGNED:
            return transitions.drop_task_because_assigned(worker_of(move), task)
        case Verdict.DROP_DELAYED_ENDED:
            return transitions.drop_delayed_because_status(_due_ms_of(move), task)
        case Verdict.DROP_DELAYED_WAITING if not stands_in:
            return transitions.drop_delayed_because_task(_due_ms_of(move), task)
        case Verdict.DROP_ASSIGNMENT:
            return transitions.drop_assignment_because_status(worker_of(move), task)
        case Verdict.ALREADY_BURIED:
            failure = move.operations[-1]
            assert isinstance(failure, CreateNode)
            return transitions.refuse_assigned(worker_of(move), task, failure.data, transitions.freed_by(move))
        case Verdict.STEP_ENDED if move.transition is not TransitionName.LOSE_STEP:  # of which there is no copy
            return drop_step(move)
        case Verdict.WITHOUT_KEY:
            return transitions.without_key(move)
        case Verdict.DECIDE_AGAIN if move.transition is TransitionName.DROP_TASK_BECAUSE_ASSIGNED:
            # The worker has ended it meanwhile, most likely: then a status says so, and it must not run again.
            return transitions.drop_task_because_status(task)
    return None


def worker_of(move: Move) -> str:
    """Return the worker whose inbox a move touches. Raises ValueError if it touches none."""
    for operation in move.operations:
        found = layout.split_assignment(operation.path)
        if found is not None:
            return found[0]
    raise ValueError(f"{move.transition} touches no inbox")


def _due_ms_of(move: Move) -> int:
    for operation in move.operations:
        folder, _, name = operation.path.rpartition("/")
        delayed = layout.parse_delayed_name(name) if folder == layout.DELAYED else None
        if delayed is not None:
            return delayed[0]
    raise ValueError(f"{move.transition} touches no delayed task")
