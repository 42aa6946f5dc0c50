"""Uniqueness keys: their hashes, and the records of the tasks that hold them.

A key is held by two znodes that come and go together: `/keys/HASH`, whose data is the holder's name, and the hold
`/keys/HASH-TASK`, whose data names the key in words. The first makes the key unique. The second is the guard of every
transaction that frees the key: a task that has lost its key has no hold, so it cannot free a key that another task got
meanwhile.

Older versions made no hold, and every key was unique in the whole namespace. A task that they submitted keeps its key
until its outcome goes, as they promised.
"""

from __future__ import annotations

import enum
import hashlib
import re
from typing import Final

import msgspec

from herdmaster.core.failure import cut_text
from herdmaster.core.names import parse_task_name
from herdmaster.core.values import UNREADABLE

_DIGITS: Final = 32
_MAX_SHOWN: Final = 500
"""Bytes of a key that are kept in words."""
_APART: Final = b"\xff"
"""A byte that no UTF-8 contains: so no two of a global key and the keys of several calls have the same hash."""

_hash = re.compile(rf"[0-9a-f]{{{_DIGITS}}}").fullmatch


class KeyScope(enum.StrEnum):
    """Among which tasks a key is unique."""

    CALL = "call"
    GLOBAL = "global"


class KeyHolds(enum.StrEnum):
    """How long a task holds its key.

    `DONE`: until it ends otherwise than done, or until its outcome goes. `ALWAYS`: until its outcome goes.
    """

    DONE = "done"
    ALWAYS = "always"


class Unique(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a payload says of its key, beside the hash. Values that this version does not know are kept."""

    key: str
    scope: str = KeyScope.CALL
    holds: str = KeyHolds.DONE


class KeyRecord(msgspec.Struct, frozen=True):
    """The data of a hold: the key (cut where it is long), its scope, and the call that the task runs."""

    key: str
    scope: str
    call: str


class HeldKey(msgspec.Struct, frozen=True, gc=False):
    """A key to free. One without a hold was taken by an older version."""

    hash: str
    has_hold: bool = True


class NewKey(msgspec.Struct, frozen=True, gc=False):
    """A key to take. `record` is the data of its hold; None makes no hold."""

    hash: str
    record: bytes | None = None


_encoder = msgspec.json.Encoder()
_record_decoder = msgspec.json.Decoder(KeyRecord)


def hash_key(key: str, call: str | None = None) -> str:
    """Return the hash of a key of a call or, without one, of the whole namespace: 32 hex digits of a SHA-256."""
    data = key.encode("utf-8", "surrogatepass")
    if call is not None:
        data = _APART.join((b"", call.encode("utf-8", "surrogatepass"), data))
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def is_key_hash(name: str) -> bool:
    """Whether the name has the form of a hash of `hash_key`."""
    return _hash(name) is not None


def parse_hold_name(name: str) -> tuple[str, str] | None:
    """Return the hash and the task of `HASH-TASK`; None for any other name."""
    found, apart, task = name[:_DIGITS], name[_DIGITS : _DIGITS + 1], name[_DIGITS + 1 :]
    if apart != "-" or not is_key_hash(found) or parse_task_name(task) is None:
        return None
    return found, task


def shown_key(key: str) -> str:
    """Return a key as payloads and holds have it: for people, so it may be cut."""
    return cut_text(key, _MAX_SHOWN)


def encode_record(record: KeyRecord) -> bytes:
    return _encoder.encode(record)


def decode_record(data: bytes | None) -> KeyRecord | None:
    """Return the record; None for data that is not one."""
    try:
        return _record_decoder.decode(data or b"")
    except UNREADABLE:
        return None
