"""What becomes of a task that stood in the inbox of a worker that is gone."""

from __future__ import annotations

from typing import Final

from herdmaster.core import transitions
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.names import is_call
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome
from herdmaster.core.payload import ENVELOPE_GROWTH, MAX_PAYLOAD, after_loss, decode_call
from herdmaster.core.transitions import Move
from herdmaster.errors import BadPayload, PayloadTooLarge

MAX_DELIVERIES: Final = 5
MAX_MOVABLE: Final = MAX_PAYLOAD + ENVELOPE_GROWTH
"""In bytes. More could be assigned, but not be buried together with its failure."""

_MAX_COUNTED: Final = 100_000


def failure_outcome(task: str, kind: str, message: str) -> bytes:
    """The outcome of a task that ended without its code having ended."""
    return encode_outcome(task, Outcome(OutcomeState.FAILED, error=ErrorInfo(kind, message)))


def too_large(task: str, size: int) -> bytes:
    """The outcome of a task whose payload cannot be moved."""
    return failure_outcome(task, PayloadTooLarge.__name__, str(PayloadTooLarge(size, MAX_PAYLOAD)))


class Recovery:
    """Decides for one primary's time. Raw tasks carry no count, so theirs is kept here, and starts afresh with the
    next primary."""

    def __init__(self, max_deliveries: int = MAX_DELIVERIES) -> None:
        self._max_deliveries = max_deliveries
        self._raw_deliveries: dict[str, int] = {}

    def move(self, worker: str, task: str, payload: bytes, *, has_status: bool) -> Move:
        """The transaction for one task of the lost worker. A payload that is no call goes back as it is: the worker
        that gets it will say what is wrong with it."""
        if has_status:
            return transitions.drop_assignment_because_status(worker, task)
        if len(payload) > MAX_MOVABLE:
            return transitions.refuse_assigned(worker, task, too_large(task, len(payload)))
        deliveries = 0
        if is_call(task):
            try:
                payload = after_loss(payload, worker)
                deliveries = decode_call(payload).deliveries
            except BadPayload:
                deliveries = self._count_raw(task)
        else:
            deliveries = self._count_raw(task)
        if deliveries > self._max_deliveries:
            self._raw_deliveries.pop(task, None)
            message = f"{deliveries} workers were lost while they held it; at most {self._max_deliveries} are allowed"
            return transitions.bury(worker, task, payload, failure_outcome(task, "WorkerLost", message))
        return transitions.recover(worker, task, payload)

    def _count_raw(self, task: str) -> int:
        count = self._raw_deliveries.pop(task, 0) + 1
        self._raw_deliveries[task] = count
        if len(self._raw_deliveries) > _MAX_COUNTED:  # the oldest was most likely run long ago
            del self._raw_deliveries[next(iter(self._raw_deliveries))]
        return count
