"""Outcomes: what stands in `/status/TASK`.

Of a call: `{"herd":1,"state":"done","result":5,"worker":"worker-...","started":...,"ended":...,"attempt":1}`, or
`failed` with `"error":{"type":...,"message":...,"traceback":...}`, or `cancelled`, or `expired`.

Of a raw task: exactly `done`, or `failed: TYPE`, or `failed: BadPayload: MESSAGE` where it was refused for its payload.
A reference client takes any data that contains `done` as success, so the failure of a raw task never contains it: a
MESSAGE or TYPE that does is left out. The JSON of a failed call may contain `done` in a message: only our clients
submit calls, and they read the state. A reference client that looked at the status of such a call would take it for a
success.
"""

from __future__ import annotations

import enum
from typing import Final, Literal

import msgspec

from herdmaster.core.bounds import Number, Seconds, UnixMs
from herdmaster.core.failure import ErrorInfo, rebuild_exception
from herdmaster.core.flows import StepNote
from herdmaster.core.kept import NONE_KNOWN, Known
from herdmaster.core.names import is_raw
from herdmaster.core.payload import MAX_FRAME, MAX_PAYLOAD
from herdmaster.core.values import UNREADABLE, from_json, to_json
from herdmaster.errors import BadOutcome, BadPayload, ResultTooLarge, TaskCancelled, TaskExpired

MAX_OUTCOME: Final = MAX_FRAME - MAX_PAYLOAD - 16 * 1024
"""In bytes. Burying writes payload and failure in one frame, and no failure is half as large as this."""

RAW_DONE: Final = b"done"

KEPT_SECONDS: Final = 24 * 3600.0
"""How long an outcome is kept whose task names no time to live."""


class OutcomeState(enum.StrEnum):
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Outcome(msgspec.Struct, frozen=True):
    """What a task ended with. `result` is JSON, and None unless a call is done; `error` is there if it failed.
    `started` and `ended` are unix milliseconds of the worker's clock. Of a raw task only the state and the error's type
    are known. `key` is the hash of the uniqueness key that goes when the outcome goes, `ttl` (seconds) how long it is
    kept where the task wants it otherwise than the masters' settings, `keep` that clients which have read it leave it
    for that time, `codec` what turned the result into JSON. `step` is what the outcome of a step of a flow says of it.
    """

    state: OutcomeState
    result: msgspec.Raw | None = None
    error: ErrorInfo | None = None
    worker: str | None = None
    started: int | None = None
    ended: int | None = None
    attempt: int = 1
    key: str | None = None
    ttl: float | None = None
    codec: str | None = None
    keep: bool = False
    step: StepNote | None = None


_ABSENT: Final = msgspec.Raw()


class _Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    herd: Literal[1]
    state: OutcomeState
    # An empty Raw stands for an absent field; `Raw | None` would not do, as null is a result. It is this very object
    # that the encoder leaves out.
    result: msgspec.Raw = _ABSENT
    error: ErrorInfo | None = None
    worker: str | None = None
    started: UnixMs | None = None
    ended: UnixMs | None = None
    attempt: Number = msgspec.field(default_factory=lambda: 1)
    key: str | None = None
    ttl: Seconds | None = None
    codec: str | None = None
    keep: bool = False
    step: StepNote | None = None


class ItemResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one item of a chunk: `result` is JSON, unless there is an `error`."""

    result: msgspec.Raw = _ABSENT
    error: ErrorInfo | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Envelope)
_NULL: Final = msgspec.Raw(b"null")
_RAW_TYPE: Final = {OutcomeState.CANCELLED: "TaskCancelled", OutcomeState.EXPIRED: "TaskExpired"}
_RAW_STATE: Final = {name: state for state, name in _RAW_TYPE.items()}
_UNKNOWN_TYPE: Final = "TaskFailed"
_MAX_RAW: Final = 300
"""Bytes of a raw failure: its TYPE is that of an `ErrorInfo`."""


def encode_result(value: object) -> msgspec.Raw:
    """A call's result as JSON, by the rules of `herdmaster.core.values`. Raises `NotSerializable`."""
    return msgspec.Raw(to_json(value, f"the result (a {type(value).__qualname__})"))


def decode_result(outcome: Outcome) -> object:
    """The result of a task that is done; None for a raw one. Raises `BadOutcome`."""
    if outcome.result is None:
        return None
    try:
        return from_json(outcome.result)
    except UNREADABLE as error:
        raise BadOutcome(f"the result is not JSON that can be read: {error}") from None


def exception_of(outcome: Outcome, known: Known = NONE_KNOWN) -> Exception | None:
    """What waiting for the outcome raises where these classes are known; None if the task is done."""
    if outcome.state is OutcomeState.DONE:
        return None
    if outcome.state is OutcomeState.CANCELLED:
        return TaskCancelled("the task was cancelled")
    if outcome.state is OutcomeState.EXPIRED:
        return TaskExpired("the task was not run in the time that it had")
    return rebuild_exception(outcome.error or ErrorInfo(_UNKNOWN_TYPE), known)


def encode_outcome(task: str, outcome: Outcome) -> bytes:
    """The outcome of the task of that name, as a call's or raw; that of a flow, and of a step as `FLOW/STEP`, is as a
    call's. Raises `ResultTooLarge`; a failure always fits."""
    if is_raw(task):
        return _encode_raw(outcome)
    result = _ABSENT
    if outcome.state is OutcomeState.DONE:
        result = _NULL if outcome.result is None else outcome.result
    data = _encoder.encode(
        _Envelope(
            1,
            outcome.state,
            result,
            outcome.error,
            outcome.worker,
            outcome.started,
            outcome.ended,
            outcome.attempt,
            outcome.key,
            outcome.ttl,
            outcome.codec,
            outcome.keep,
            outcome.step,
        )
    )
    if len(data) > MAX_OUTCOME:
        raise ResultTooLarge(len(data), MAX_OUTCOME)
    return data


def decode_outcome(task: str, data: bytes) -> Outcome:
    """The outcome in the status of the task of that name. Raises `BadOutcome`, one sentence, for everything else."""
    if is_raw(task):
        return _decode_raw(data)
    if data == RAW_DONE:
        raise BadOutcome(f"{task} was answered by a worker that does not run calls: it wrote `done` and no result")
    try:
        found = _decoder.decode(data)
    except UNREADABLE as error:
        raise BadOutcome(f"the status of {task} is not an outcome that this Herdmaster reads: {error}") from None
    if found.state is OutcomeState.FAILED and found.error is None:
        raise BadOutcome(f"the status of {task} says that it failed, but not how")
    result = None
    if found.state is OutcomeState.DONE:
        result = found.result if memoryview(found.result) else _NULL
    return Outcome(
        found.state,
        result,
        found.error,
        found.worker,
        found.started,
        found.ended,
        found.attempt,
        found.key,
        found.ttl,
        found.codec,
        found.keep,
        found.step,
    )


def _encode_raw(outcome: Outcome) -> bytes:
    if outcome.state is OutcomeState.DONE:
        return RAW_DONE
    error = outcome.error or ErrorInfo("")
    name = _RAW_TYPE.get(outcome.state) or error.type
    if not name or "done" in name:
        return b"failed"
    if name == BadPayload.__name__ and error.message and "done" not in error.message:
        name = f"{name}: {error.message}"
    return f"failed: {name}".encode("utf-8", "backslashreplace")[:_MAX_RAW]


def _decode_raw(data: bytes) -> Outcome:
    # The reference's rule: any data that contains `done` is a success.
    if RAW_DONE in data:
        return Outcome(OutcomeState.DONE)
    head, _, name = data.decode("utf-8", "replace").partition(": ")
    if head != "failed":
        raise BadOutcome(f"the status {data[:80]!r} of a raw task is neither `done` nor `failed`")
    if name in _RAW_STATE:
        return Outcome(_RAW_STATE[name])
    kind, _, message = name.partition(": ")
    return Outcome(OutcomeState.FAILED, error=ErrorInfo(kind or _UNKNOWN_TYPE, message))
