"""How tasks end whose code has not ended, and their outcomes: refused, buried, cancelled or expired.

What the payload says of the outcome (the uniqueness key, the time to live, whether readers leave it) goes into the
outcome, if the payload can be read. The key is freed by the move that ends the task (`freed_key`), unless the payload
says that its outcome holds the key. `core/ending_moves.py` makes the moves.
"""

from __future__ import annotations

from typing import Final

import msgspec

from herdmaster.core.failure import ErrorInfo
from herdmaster.core.keys import HeldKey, KeyHolds, is_key_hash
from herdmaster.core.names import is_call
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome
from herdmaster.core.payload import MAX_PAYLOAD, Call, decode_call
from herdmaster.core.values import UNREADABLE
from herdmaster.errors import BadPayload, PayloadTooLarge, TaskCancelled, TaskExpired


class Ending(msgspec.Struct, frozen=True):
    """How a task ends. `error` says why it failed."""

    state: OutcomeState
    error: ErrorInfo | None = None

    @property
    def reason(self) -> ErrorInfo:
        """The error that waiting for such a task raises."""
        return self.error or _REASONS[self.state]


CANCELLED: Final = Ending(OutcomeState.CANCELLED)
EXPIRED: Final = Ending(OutcomeState.EXPIRED)
_REASONS: Final = {
    OutcomeState.CANCELLED: ErrorInfo(TaskCancelled.__name__, "the task was cancelled"),
    OutcomeState.EXPIRED: ErrorInfo(TaskExpired.__name__, "the task was not run in the time that it had"),
}


def failed(kind: str, message: str) -> Ending:
    """`kind` is the type of the error, `message` its text."""
    return Ending(OutcomeState.FAILED, ErrorInfo(kind, message))


# What ends a task whose payload cannot be read does not know its key: the key stays until the key sweep finds that the
# task is nowhere.


def too_large(size: int) -> Ending:
    """The payload, of so many bytes, cannot be moved."""
    return failed(PayloadTooLarge.__name__, str(PayloadTooLarge(size, MAX_PAYLOAD)))


def unreadable(error: Exception) -> Ending:
    """ZooKeeper does not give out the payload."""
    return failed(BadPayload.__name__, cannot_be_read(error))


def cannot_be_read(error: Exception) -> str:
    """Return a text for the error and the log, with `NoAuth on PATH`, say; the path is as ZooKeeper has it."""
    path: str = getattr(error, "path", "")
    return f"its payload cannot be read: {type(error).__name__} on {path}"


def held_key(call: Call) -> HeldKey | None:
    """Return the key that a call holds as long as it has not ended, or None."""
    if call.key is None or not is_key_hash(call.key):
        return None
    return HeldKey(call.key, has_hold=call.unique is not None)


def key_without_success(call: Call) -> HeldKey | None:
    """Return the key that a call frees when it fails, expires or is cancelled, or None."""
    return held_key(call) if call.unique is not None and call.unique.holds == KeyHolds.DONE else None


def freed_key(task: str, payload: bytes) -> HeldKey | None:
    """As `key_without_success`, for a payload. None also for one that is not a call or cannot be read."""
    if not is_call(task) or b'"unique"' not in payload:
        return None
    try:
        return key_without_success(decode_call(payload))
    except (BadPayload, *UNREADABLE):
        return None


def encode_ending(task: str, payload: bytes, ending: Ending) -> bytes:
    """Return the outcome of a task that ends like this. A payload that cannot be read counts as empty."""
    outcome = Outcome(ending.state, error=ending.error)
    if not is_call(task) or not payload:
        return encode_outcome(task, outcome)
    try:
        call = decode_call(payload)
    except (BadPayload, *UNREADABLE):
        return encode_outcome(task, outcome)
    changes = {"attempt": call.attempt, "key": call.key, "ttl": call.ttl, "keep": call.keep}
    return encode_outcome(task, msgspec.structs.replace(outcome, **changes))
