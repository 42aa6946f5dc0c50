"""`Order`: a task to submit, and what its submitter wants besides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from herdmaster.api.callee import Callee
from herdmaster.api.options import Key, OnDuplicate, OnFull, TaskOptions
from herdmaster.api.results import ChunkReader, Reader
from herdmaster.core.chunk import join_items
from herdmaster.core.codec import write_arguments
from herdmaster.core.keys import KeyRecord, KeyScope, Unique, encode_record, hash_key, shown_key
from herdmaster.core.names import call_name, raw_name
from herdmaster.core.options import Overrides
from herdmaster.core.payload import BIG, MAX_PAYLOAD, Call, encode_call
from herdmaster.core.transitions import NewTask
from herdmaster.errors import ConfigurationError, PayloadTooLarge

_NOTHING: Final = Overrides()
_NO_KWARGS: Final = msgspec.Raw(b"{}")
_WIDEST_MS: Final = 10**13 - 1
"""Takes the place of a time that is known only when the task is sent, so that the payload has its final size."""


class Order(msgspec.Struct, frozen=True):
    """A task to submit. Without a `reader` its result is plain JSON; the other fields are as in `TaskOptions`."""

    task: NewTask
    reader: Reader | None = None
    on_duplicate: OnDuplicate = OnDuplicate.RETURN
    ignore_result: bool = False
    max_backlog: int | None = None
    on_full: OnFull = OnFull.ERROR

    @property
    def waits(self) -> bool:
        """Whether the submission may wait without a limit of time."""
        return self.max_backlog is not None and self.on_full is OnFull.WAIT


def order_call(
    ulid: str, callee: Callee, args: Sequence[object], kwargs: Mapping[str, object], options: TaskOptions
) -> Order:
    """Return the order of a call. `ulid` is the unique part of its name. Raises NotSerializable, WrongArguments,
    PayloadTooLarge; ConfigurationError for what the function given as `key=` returned."""
    written = write_arguments(args, kwargs, callee.signature, callee.codec)
    key = None if options.key is None else _key(options.key, args, kwargs)
    return _order(ulid, callee, written, options, key)


def order_chunk(ulid: str, callee: Callee, items: Sequence[msgspec.Raw], options: TaskOptions) -> Order:
    """Return the order of a chunk; `items` as `Callee.write_item` returns them. Raises PayloadTooLarge."""
    reader = ChunkReader(callee.reader, len(items))
    return _order(ulid, callee, (join_items(items), _NO_KWARGS), options, chunk_reader=reader)


def order_raw(ulid: str, data: bytes | bytearray | memoryview) -> Order:
    """Return the order of a raw task. Raises TypeError for data that is not bytes, PayloadTooLarge."""
    try:
        payload = bytes(memoryview(data))  # bytes() alone takes a number, too
    except TypeError:
        raise TypeError(
            f"a raw task is bytes, not {type(data).__qualname__}: encode text, as in text.encode()"
        ) from None
    if len(payload) > MAX_PAYLOAD:
        raise PayloadTooLarge(len(payload), MAX_PAYLOAD)
    return Order(NewTask(raw_name(ulid), payload))


def _order(
    ulid: str,
    callee: Callee,
    written: tuple[msgspec.Raw, msgspec.Raw],
    options: TaskOptions,
    key: str | None = None,
    *,
    chunk_reader: Reader | None = None,
) -> Order:
    expires = options.expires_at if options.expires is None else _WIDEST_MS
    claim = None if key is None else _claim(key, callee.call, options)
    payload = encode_call(
        Call(
            1,
            callee.call,
            *written,
            outcome=not options.ignore_result,
            expires=expires,
            max_deliveries=options.max_deliveries,
            ttl=options.outcome_ttl,
            keep=options.keep_outcome,
            key=None if claim is None else claim.hash,
            unique=None if claim is None else claim.unique,
            options=None if options.overrides == _NOTHING else options.overrides,
            chunk=chunk_reader is not None,
            codec=None if callee.codec is None else callee.codec.name,
        )
    )
    name = call_name(ulid, options.queue, options.priority, big=len(payload) > BIG, conditional=expires is not None)
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
    )


class _Claim(NamedTuple):
    """The fields of a task that concern its key. `old_hash` is the hash of the key in older versions, if it differs."""

    hash: str
    unique: Unique
    record: bytes
    old_hash: str | None


def _claim(key: str, call: str, options: TaskOptions) -> _Claim:
    everywhere = hash_key(key)
    own = hash_key(key, call) if options.key_scope is KeyScope.CALL else everywhere
    unique = Unique(shown_key(key), options.key_scope, options.key_holds)
    record = encode_record(KeyRecord(unique.key, unique.scope, call))
    return _Claim(own, unique, record, None if own == everywhere else everywhere)


def _key(key: Key, args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    found: object = key if isinstance(key, str) else key(*args, **kwargs)
    if not isinstance(found, str) or not found:
        raise ConfigurationError(f"the function given as key= returned {found!r}: it returns text that is not empty")
    return found
