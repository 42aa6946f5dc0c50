"""`Order`: a task to submit, and what its submitter wants besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import msgspec

from herdmaster.api.callee import Callee
from herdmaster.api.future import Future
from herdmaster.api.options import Key, OnDuplicate, OnFull, TaskOptions
from herdmaster.api.results import ChunkReader, Reader
from herdmaster.core.chunk import join_items
from herdmaster.core.codec import write_arguments
from herdmaster.core.flow_creation import NewFlow
from herdmaster.core.keys import KeyRecord, KeyScope, Unique, encode_record, hash_key, shown_key
from herdmaster.core.names import DEFAULT_QUEUE, call_name, raw_name
from herdmaster.core.options import Overrides
from herdmaster.core.payload import BIG, MAX_PAYLOAD, Call, encode_call
from herdmaster.core.signing import Keyring
from herdmaster.core.transitions import NewTask
from herdmaster.errors import ConfigurationError, PayloadTooLarge

if TYPE_CHECKING:
    from herdmaster.spans import Sending

Begin = Callable[[str], "Sending"]
"""Begins the span of a task that is submitted to a queue."""

_NOTHING: Final = Overrides()
_NO_KWARGS: Final = msgspec.Raw(b"{}")
_WIDEST_MS: Final = 10**13 - 1
"""Takes the place of a time that is known only when the task is sent, so that the payload has its final size."""


class Order(msgspec.Struct, frozen=True):
    """A task, or a flow, to submit. Without a `reader` its result is plain JSON; `sending` is its span; `future` makes
    its future; the other fields are as in `TaskOptions`."""

    task: NewTask | NewFlow
    reader: Reader | None = None
    on_duplicate: OnDuplicate = OnDuplicate.RETURN
    ignore_result: bool = False
    max_backlog: int | None = None
    on_full: OnFull = OnFull.ERROR
    sending: Sending | None = None
    future: type[Future[object]] = Future
    child: bool = False

    @property
    def new_task(self) -> NewTask:
        """The task. Only for an order that is no flow."""
        assert isinstance(self.task, NewTask)
        return self.task

    def of_parent(self, parent: str | None) -> Self:
        """Return the order of a child; `parent` is as in `NewTask`."""
        return msgspec.structs.replace(self, task=msgspec.structs.replace(self.task, parent=parent))

    @property
    def waits(self) -> bool:
        """Whether the submission may wait without a limit of time."""
        return self.max_backlog is not None and self.on_full is OnFull.WAIT


def order_call(
    ulid: str,
    callee: Callee,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    options: TaskOptions,
    *,
    begin: Begin | None = None,
    keyring: Keyring | None = None,
) -> Order:
    """Return the order of a call. `ulid` is the unique part of its name, `begin` makes its span, `keyring` signs it.
    Raises NotSerializable, WrongArguments, PayloadTooLarge; ConfigurationError for what the function given as `key=`
    returned."""
    written = write_arguments(args, kwargs, callee.signature, callee.codec)
    key = None if options.key is None else _key(options.key, args, kwargs)
    return _order(ulid, callee, written, options, key, begin=begin, keyring=keyring)


def order_chunk(
    ulid: str,
    callee: Callee,
    items: Sequence[msgspec.Raw],
    options: TaskOptions,
    *,
    begin: Begin | None = None,
    keyring: Keyring | None = None,
) -> Order:
    """Return the order of a chunk; `items` as `Callee.write_item` returns them. Raises PayloadTooLarge."""
    reader = ChunkReader(callee.reader, len(items))
    written = join_items(items), _NO_KWARGS
    return _order(ulid, callee, written, options, chunk_reader=reader, begin=begin, keyring=keyring)


def order_raw(ulid: str, data: bytes | bytearray | memoryview, begin: Begin | None = None) -> Order:
    """Return the order of a raw task. Raises TypeError for data that is not bytes, PayloadTooLarge."""
    try:
        payload = bytes(memoryview(data))  # bytes() alone takes a number, too
    except TypeError:
        raise TypeError(
            f"a raw task is bytes, not {type(data).__qualname__}: encode text, as in text.encode()"
        ) from None
    if len(payload) > MAX_PAYLOAD:
        raise PayloadTooLarge(len(payload), MAX_PAYLOAD)
    name = raw_name(ulid)
    sending = None if begin is None else begin(DEFAULT_QUEUE)
    if sending is not None:
        sending.named(name)
    return Order(NewTask(name, payload), sending=sending)


def _order(
    ulid: str,
    callee: Callee,
    written: tuple[msgspec.Raw, msgspec.Raw],
    options: TaskOptions,
    key: str | None = None,
    *,
    chunk_reader: Reader | None = None,
    begin: Begin | None = None,
    keyring: Keyring | None = None,
) -> Order:
    claim = None if key is None else claim_key(key, callee.call, options)
    call = _call(callee, written, options, claim, is_chunk=chunk_reader is not None)
    sending = None if begin is None else begin(options.queue)
    payload = encode_call(call) if sending is None else _encode(call, sending)
    size = len(payload) if keyring is None else len(payload) + keyring.size
    name = call_name(ulid, options.queue, options.priority, big=size > BIG, conditional=call.expires is not None)
    if sending is not None:
        sending.named(name)
    if keyring is not None:
        payload = keyring.sign_task(name, payload)
    task = NewTask(name, payload, options.due_at, None, options.delay, options.expires)
    if claim is not None:
        task = msgspec.structs.replace(task, key_hash=claim.hash, key_record=claim.record, old_key_hash=claim.old_hash)
    return Order(
        task,
        chunk_reader or callee.reader,
        on_duplicate=options.on_duplicate,
        ignore_result=options.ignore_result,
        max_backlog=options.max_backlog,
        on_full=options.on_full,
        sending=sending,
        child=options.child,
    )


def _encode(call: Call, sending: Sending) -> bytes:
    """Return the payload, with the context of the span that submits it. Raises PayloadTooLarge."""
    try:
        return encode_call(
            msgspec.structs.replace(call, traceparent=sending.traceparent, tracestate=sending.tracestate)
        )
    except PayloadTooLarge as error:
        sending.settled(error)
        raise


def _call(
    callee: Callee,
    written: tuple[msgspec.Raw, msgspec.Raw],
    options: TaskOptions,
    claim: Claim | None,
    *,
    is_chunk: bool,
) -> Call:
    return Call(
        1,
        callee.call,
        *written,
        outcome=not options.ignore_result,
        expires=options.expires_at if options.expires is None else _WIDEST_MS,
        max_deliveries=options.max_deliveries,
        ttl=options.outcome_ttl,
        keep=options.keep_outcome,
        key=None if claim is None else claim.hash,
        unique=None if claim is None else claim.unique,
        options=None if options.overrides == _NOTHING else options.overrides,
        chunk=is_chunk,
        codec=None if callee.codec is None else callee.codec.name,
    )


class Claim(NamedTuple):
    """The fields of a task that concern its key. `old_hash` is the hash of the key in older versions, if it differs."""

    hash: str
    unique: Unique
    record: bytes
    old_hash: str | None


def claim_key(key: str, call: str, options: TaskOptions) -> Claim:
    """Return what a task of the call stores of its key."""
    everywhere = hash_key(key)
    own = hash_key(key, call) if options.key_scope is KeyScope.CALL else everywhere
    unique = Unique(shown_key(key), options.key_scope, options.key_holds)
    record = encode_record(KeyRecord(unique.key, unique.scope, call))
    return Claim(own, unique, record, None if own == everywhere else everywhere)


def _key(key: Key, args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    found: object = key if isinstance(key, str) else key(*args, **kwargs)
    if not isinstance(found, str) or not found:
        raise ConfigurationError(f"the function given as key= returned {found!r}: it returns text that is not empty")
    return found
