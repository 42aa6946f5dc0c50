"""The payload of a call: an envelope of JSON around arguments that only client and worker read.

    {"herd":1,"call":"shop.tasks:resize","args":["a.png"],"kwargs":{"width":640},"attempt":1,"deliveries":0}

`"started":"worker-..."` is added when a worker marks its start, `"asked":["worker-..."]` when a worker has no such
function, `"alone":true` when it was with several lost workers, `"saved":{"charge":...}` when the task's code saves
results with `once`, and `"error":{"type":...,"message":...,"traceback":...}` when the task is buried; other fields say
what the submitter wants (see `Call`). Fields that this version does not know are kept: the functions that change a
stored payload (`with_attempt`, `with_start`, `with_asked`, `with_saved`, `with_error`, `with_isolation`, `after_loss`)
edit the envelope's fields one by one as raw JSON and never rebuild it from what they understood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, NoReturn

import msgspec

from herdmaster.core.bounds import Count, Number, Seconds, UnixMs
from herdmaster.core.failure import MAX_TYPE, ErrorInfo, cut_text
from herdmaster.core.flows import FlowStep
from herdmaster.core.inputs import Input
from herdmaster.core.keys import Unique
from herdmaster.core.names import is_call
from herdmaster.core.options import Overrides
from herdmaster.core.values import UNREADABLE, from_json, to_json
from herdmaster.errors import BadPayload, NotSerializable, PayloadTooLarge, SavedTooLarge

ENVELOPE_VERSION: Final = 1
MAX_FRAME: Final = 1_048_575
"""ZooKeeper's default for the largest frame it accepts (jute.maxbuffer)."""
MAX_PAYLOAD: Final = 512 * 1024
"""What a client may submit."""
BIG: Final = 4 * 1024
"""A call with a larger payload says so in its name (`.b`), so that few are read at a time."""
MAX_SAVED: Final = 16 * 1024
"""The largest `saved` field: all results of one task that `once` saves, with their names."""
ENVELOPE_GROWTH: Final = 8 * 1024 + MAX_SAVED
"""How much a payload may grow by counts, the mark of a start, who was asked, saved results and its error after it was
accepted."""
_MAX_MESSAGE: Final = 1024
_MAX_TRACEBACK: Final = 4 * 1024
_OF_THE_PAST: Final = ("started", "asked", "due", "expires", "error", "alone")
"""The fields that a replay leaves out."""


class Scheduled(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which tick of which schedule a task is. `due` is the time of the tick, `previous` that of the tick before that
    made a task (unix ms)."""

    schedule: str
    due: UnixMs
    previous: UnixMs | None = None


class Call(msgspec.Struct, frozen=True, omit_defaults=True):
    """A call. `attempt` counts tries of its code from 1, `deliveries` the workers lost while it ran, `started` is the
    name of the worker that last marked its start, and `outcome` says whether an outcome is wanted.

    `due` (unix ms) is when this attempt could begin, if that is later than the time in the task's name. `expires` (unix
    ms) is when a task that has not started ends as expired; `ttl` (seconds) how long its outcome is kept, and `keep`
    that readers leave it for that time; `key` the hash of the uniqueness key that it holds, and `unique` what else
    there is to say of it; `asked` the workers that had no such function; `alone` that nothing else may run beside it,
    because workers were lost with it; `options` what the submitter wants otherwise than the function's registration
    says. With `chunk` the arguments are a list of argument lists, one for each item, and the result is a list of
    `ItemResult`. `codec` names what turned arguments into JSON, and is to turn the result, where that is not
    Herdmaster's own. `error` is what a dead task died of. `scheduled` names the schedule that made the task.
    `flow` says which step of which flow it is, `run` how often the step was retried in it, and `missing` which of its
    parents are not done although it starts; `expanded` counts the steps that an `each` has made, of `expanded_chunk`
    items each if they are chunks. `saved` are the
    results of `once`, as JSON by their names, which a replay keeps. `traceparent` and `tracestate` are of the W3C's
    Trace Context: the span that submitted the task. `inputs` are never stored: the worker adds what it has read for the
    references of a step.
    """

    herd: Literal[1]
    call: Annotated[str, msgspec.Meta(min_length=1)]
    args: msgspec.Raw
    kwargs: msgspec.Raw
    # A default from a factory is written where a plain one is left out: readers of the payload always find both counts.
    attempt: Count = msgspec.field(default_factory=lambda: 1)
    deliveries: Number = msgspec.field(default_factory=lambda: 0)
    started: str | None = None
    outcome: bool = True
    due: UnixMs | None = None
    expires: UnixMs | None = None
    max_deliveries: Count | None = None
    ttl: Seconds | None = None
    keep: bool = False
    key: str | None = None
    unique: Unique | None = None
    asked: tuple[str, ...] = ()
    alone: bool = False
    options: Overrides | None = None
    chunk: bool = False
    codec: str | None = None
    error: ErrorInfo | None = None
    scheduled: Scheduled | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    saved: dict[str, msgspec.Raw] | None = None
    flow: FlowStep | None = None
    run: Number = 0
    missing: tuple[str, ...] = ()
    expanded: Number = 0
    expanded_chunk: Number = 0
    inputs: tuple[Input, ...] = ()


_encoder = msgspec.json.Encoder()
_call_decoder = msgspec.json.Decoder(Call)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])

_NO_ARGS: Final = msgspec.Raw(b"[]")
_NO_KWARGS: Final = msgspec.Raw(b"{}")


def encode_arguments(args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[msgspec.Raw, msgspec.Raw]:
    """Arguments as JSON, by the rules of `herdmaster.core.values`. Raises `NotSerializable`, naming the argument."""
    try:
        return (
            msgspec.Raw(to_json(list(args), "the arguments")) if args else _NO_ARGS,
            msgspec.Raw(to_json(dict(kwargs), "the keyword arguments")) if kwargs else _NO_KWARGS,
        )
    except NotSerializable:
        for position, value in enumerate(args, 1):
            to_json(value, f"argument {position} (a {type(value).__qualname__})")
        for keyword, value in kwargs.items():
            to_json(value, f"argument {keyword}= (a {type(value).__qualname__})")
        raise  # only together are they too deep


def decode_arguments(call: Call) -> tuple[list[object], dict[str, object]]:
    """The arguments of a call. Raises `BadPayload`."""
    try:
        args = from_json(call.args)
        kwargs = from_json(call.kwargs)
    except UNREADABLE as error:
        raise BadPayload(f"the arguments are not JSON that can be read: {error}") from None
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise BadPayload("`args` has to be a list and `kwargs` an object")
    return args, kwargs


def encode_call(call: Call) -> bytes:
    """The payload. Raises `PayloadTooLarge`."""
    data = _encoder.encode(call)
    if len(data) > MAX_PAYLOAD:
        raise PayloadTooLarge(len(data), MAX_PAYLOAD)
    return data


def decode_call(data: bytes) -> Call:
    """The call in a payload, its arguments unread. Raises `BadPayload`, one sentence, for everything else."""
    if len(data) > MAX_PAYLOAD + ENVELOPE_GROWTH:
        raise BadPayload(f"the payload has {len(data)} bytes, a call has at most {MAX_PAYLOAD}")
    try:
        call = _call_decoder.decode(data)
        if not data.isascii():
            data.decode()  # the decoder skips fields that it does not know, and the payload is rewritten with them
    except UNREADABLE as error:
        _explain(data, error)
    if memoryview(call.args)[0] != ord("["):
        raise BadPayload("`args` of the call has to be a list")
    if memoryview(call.kwargs)[0] != ord("{"):
        raise BadPayload("`kwargs` of the call has to be an object")
    return call


def with_attempt(data: bytes, due_ms: int | None = None) -> bytes:
    """The payload for the next attempt: `attempt` + 1, no start marked. Raises `BadPayload`, as all of these do."""
    return _rewrite(data, attempt=decode_call(data).attempt + 1, started=None, due=due_ms)


def with_due(data: bytes, due_ms: int) -> bytes:
    """The payload of a task that may begin at that time (unix milliseconds)."""
    decode_call(data)
    return _rewrite(data, due=due_ms)


def with_start(data: bytes, worker: str) -> bytes:
    """The payload with the mark that `worker` is about to run it."""
    decode_call(data)
    return _rewrite(data, started=worker)


def with_asked(data: bytes, worker: str) -> bytes:
    """The payload after `worker` was found to have no such function; no start marked."""
    return _rewrite(data, asked=(*decode_call(data).asked, worker), started=None)


def check_saved(saved: Mapping[str, msgspec.Raw]) -> None:
    """Raises `SavedTooLarge` for saved results that have no room in a payload."""
    size = len(_encoder.encode(saved))
    if size > MAX_SAVED:
        raise SavedTooLarge(
            f"the results of once() and the children of this task have {size} bytes together, at most {MAX_SAVED} are "
            "allowed: store the data elsewhere and return its address"
        )


def with_saved(data: bytes, saved: Mapping[str, msgspec.Raw]) -> bytes:
    """The payload with these saved results, in place of those that it has. Raises `SavedTooLarge`."""
    decode_call(data)
    check_saved(saved)
    return _rewrite(data, saved=dict(saved))


def with_expanded(data: bytes, count: int, chunk: int = 0) -> bytes:
    """The payload of an `each` that has made so many steps, of `chunk` items each if they are chunks."""
    return _rewrite(data, expanded=count, expanded_chunk=chunk or None)


def with_expiry(data: bytes, expires_ms: int) -> bytes:
    """The payload of a task that ends as expired if it has not started by then (unix milliseconds)."""
    decode_call(data)
    return _rewrite(data, expires=expires_ms)


def with_schedule(data: bytes, scheduled: Scheduled, due_ms: int, expires_ms: int | None = None) -> bytes:
    """The payload of the task that a schedule makes for one tick. It may begin at `due_ms`, when it is made, and may
    expire (unix milliseconds)."""
    if expires_ms is None:
        return _rewrite(data, scheduled=scheduled, due=due_ms)
    return _rewrite(data, scheduled=scheduled, due=due_ms, expires=expires_ms)


def with_start_of_step(data: bytes, due_ms: int, missing: tuple[str, ...] = ()) -> bytes:
    """The payload of a step that starts now, at `due_ms`, without these parents."""
    decode_call(data)
    return _rewrite(data, due=due_ms, missing=missing or None)


def for_next_run(data: bytes) -> bytes:
    """The payload of a step that failed, for its next run: a first attempt. What `once` saved stays, and
    so do the parents without which it started. Raises `BadPayload`."""
    run = decode_call(data).run + 1
    return _rewrite(data, run=run, attempt=1, deliveries=0, started=None, asked=None, due=None, error=None, alone=None)


def with_error(data: bytes, info: ErrorInfo) -> bytes:
    """The payload of a task that is buried for this error, of which the essence is kept. Never raises: what is no call
    stays as it is, and of an error that does not fit the traceback is left out, or all of it.
    """
    brief = ErrorInfo(cut_text(info.type, MAX_TYPE), cut_text(info.message, _MAX_MESSAGE))
    full = msgspec.structs.replace(brief, traceback=cut_text(info.traceback, _MAX_TRACEBACK))
    try:
        decode_call(data)
        for error in (full, brief):
            changed = _rewrite(data, error=error)
            if len(changed) <= MAX_PAYLOAD + ENVELOPE_GROWTH:
                return changed
    except (BadPayload, *UNREADABLE):
        pass
    return data


def call_of(data: bytes) -> str:
    """The name of the call; empty for what is no call."""
    if b'"call"' not in data:
        return ""
    try:
        return decode_call(data).call
    except BadPayload:
        return ""


def asked_of(data: bytes) -> tuple[str, ...]:
    """The workers that had no such function; none for what is no call."""
    if b'"asked"' not in data:
        return ()
    try:
        return decode_call(data).asked
    except BadPayload:
        return ()


def with_isolation(data: bytes) -> bytes:
    """The payload of a task that is to run alone on its worker from now on."""
    decode_call(data)
    return _rewrite(data, alone=True)


def is_alone(data: bytes) -> bool:
    """Whether nothing else may run beside it; False for what is no call."""
    if b'"alone"' not in data:
        return False
    try:
        return decode_call(data).alone
    except BadPayload:
        return False


def for_replay(task: str, data: bytes, *, with_key: bool = False) -> bytes:
    """The payload of a dead task for its new name: a first attempt without deliveries, error or time limit, and without
    a key unless the new task takes it. A raw task's is what it was. Raises `BadPayload`.
    """
    if not is_call(task):
        return data
    decode_call(data)
    fresh = _rewrite(
        data, attempt=1, deliveries=0, started=None, asked=None, due=None, expires=None, error=None, alone=None
    )
    return fresh if with_key else _rewrite(fresh, key=None, unique=None)


def after_loss(data: bytes, worker: str) -> bytes:
    """The payload of a task whose worker was lost. A task that was lost before is charged a delivery only if that
    worker had marked its start, since such a task is never prefetched; at its first loss that is unknown, and it is
    charged.
    """
    call = decode_call(data)
    if call.deliveries > 0 and call.started != worker:
        return data
    return _rewrite(data, deliveries=call.deliveries + 1, started=None)


def with_fields(data: bytes, **changes: object) -> bytes:
    """The payload with other fields, for a task that is not made yet. None takes a field out."""
    decode_call(data)
    return _rewrite(data, **changes)


def _rewrite(data: bytes, **changes: object) -> bytes:
    fields = _fields_decoder.decode(data)
    for name, value in changes.items():
        if value is None:
            fields.pop(name, None)
        else:
            fields[name] = msgspec.Raw(_encoder.encode(value))
    return _encoder.encode(fields)


class _Version(msgspec.Struct):
    herd: int


def _explain(data: bytes, error: Exception) -> NoReturn:
    if not data:
        raise BadPayload("the payload is empty, where a call has an envelope of JSON") from None
    if isinstance(error, msgspec.ValidationError):
        try:
            version = msgspec.json.decode(data, type=_Version).herd
        except UNREADABLE:
            raise BadPayload(f'the payload is not a call, it has no `"herd":{ENVELOPE_VERSION}`: {error}') from None
        if version != ENVELOPE_VERSION:
            raise BadPayload(
                f"the payload is of version {version}, this Herdmaster reads version {ENVELOPE_VERSION}: upgrade it"
            ) from None
        raise BadPayload(f"the envelope of the call is wrong: {error}") from None
    raise BadPayload(f"the payload is not JSON that can be read: {error}") from None
