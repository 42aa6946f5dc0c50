"""The outcomes of tasks that end without their code having ended: refused, buried, cancelled or expired.

What the payload says of the outcome (the uniqueness key, the time to live, whether readers leave it) goes into the
outcome, if the payload can be read. The key
is freed by the move that ends the task (`freed_key`), unless the payload says that its outcome holds the key.
"""

from __future__ import annotations

from herdmaster.core.failure import ErrorInfo
from herdmaster.core.keys import HeldKey, KeyHolds, is_key_hash
from herdmaster.core.names import is_call
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome
from herdmaster.core.payload import MAX_PAYLOAD, Call, decode_call
from herdmaster.core.values import UNREADABLE
from herdmaster.errors import BadPayload, PayloadTooLarge


def failed(task: str, payload: bytes, kind: str, message: str) -> bytes:
    """Return the outcome of a task that failed. `kind` is the type of the error, `message` its text."""
    return _ending(task, payload, OutcomeState.FAILED, ErrorInfo(kind, message))


# What ends a task whose payload cannot be read does not know its key: the key stays until the key sweep finds that the
# task is nowhere.


def too_large(task: str, size: int) -> bytes:
    """Return the outcome of a task whose payload cannot be moved."""
    return failed(task, b"", PayloadTooLarge.__name__, str(PayloadTooLarge(size, MAX_PAYLOAD)))


def unreadable(task: str, error: Exception) -> bytes:
    """Return the outcome of a task whose payload ZooKeeper does not give out."""
    return failed(task, b"", BadPayload.__name__, cannot_be_read(error))


def cannot_be_read(error: Exception) -> str:
    """Return a text for the error and the log, with `NoAuth on PATH`, say; the path is as ZooKeeper has it."""
    path: str = getattr(error, "path", "")
    return f"its payload cannot be read: {type(error).__name__} on {path}"


def cancelled(task: str, payload: bytes) -> bytes:
    return _ending(task, payload, OutcomeState.CANCELLED)


def expired(task: str, payload: bytes) -> bytes:
    return _ending(task, payload, OutcomeState.EXPIRED)


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


def _ending(task: str, payload: bytes, state: OutcomeState, error: ErrorInfo | None = None) -> bytes:
    if not is_call(task) or not payload:
        return encode_outcome(task, Outcome(state, error=error))
    try:
        call = decode_call(payload)
    except (BadPayload, *UNREADABLE):
        return encode_outcome(task, Outcome(state, error=error))
    outcome = Outcome(state, error=error, attempt=call.attempt, key=call.key, ttl=call.ttl, keep=call.keep)
    return encode_outcome(task, outcome)
