"""The outcomes of tasks that end without their code having ended: refused, buried, cancelled or expired.

What the payload says of its outcome, its uniqueness key and its time to live, goes into the outcome, as far as it can
be read.
"""

from __future__ import annotations

from herdmaster.core.failure import ErrorInfo
from herdmaster.core.names import is_call
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome
from herdmaster.core.payload import MAX_PAYLOAD, decode_call
from herdmaster.core.values import UNREADABLE
from herdmaster.errors import BadPayload, PayloadTooLarge


def failed(task: str, payload: bytes, kind: str, message: str) -> bytes:
    """`kind` is the type of the error, `message` its text."""
    return _ending(task, payload, OutcomeState.FAILED, ErrorInfo(kind, message))


def too_large(task: str, size: int) -> bytes:
    """Of a task whose payload cannot be moved."""
    return failed(task, b"", PayloadTooLarge.__name__, str(PayloadTooLarge(size, MAX_PAYLOAD)))


def unreadable(task: str, error: Exception) -> bytes:
    """Of a task whose payload ZooKeeper does not give out."""
    return failed(task, b"", BadPayload.__name__, cannot_be_read(error))


def cannot_be_read(error: Exception) -> str:
    """For the error and the log: `NoAuth on PATH`, say, where the path is as ZooKeeper has it."""
    path: str = getattr(error, "path", "")
    return f"its payload cannot be read: {type(error).__name__} on {path}"


def cancelled(task: str, payload: bytes) -> bytes:
    return _ending(task, payload, OutcomeState.CANCELLED)


def expired(task: str, payload: bytes) -> bytes:
    return _ending(task, payload, OutcomeState.EXPIRED)


def _ending(task: str, payload: bytes, state: OutcomeState, error: ErrorInfo | None = None) -> bytes:
    if not is_call(task) or not payload:
        return encode_outcome(task, Outcome(state, error=error))
    try:
        call = decode_call(payload)
    except (BadPayload, *UNREADABLE):
        return encode_outcome(task, Outcome(state, error=error))
    return encode_outcome(task, Outcome(state, error=error, attempt=call.attempt, key=call.key, ttl=call.ttl))
