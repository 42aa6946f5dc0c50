"""Reads the transaction logs that ZooKeeper's servers write: every change that was ever committed, in its order.

This is what a watching session cannot give, as it misses what happens while its server is down. A log is a header of 16
bytes and entries of checksum, length, transaction and an end mark; zeros follow the last one, as a server enlarges its
file ahead of need (ZooKeeper's FileTxnLog). The records inside are those of zookeeper.jute, module `txn`.

What a minority has logged may never have been committed: a leader logs what it proposes at once, and when it is killed
the others may go on without that. It does not always take it out of its log, either; where it is given a snapshot
instead it just never looks at it again. Such transactions are read, and marked.
"""

from __future__ import annotations

import enum
import itertools
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from herdmaster.zookeeper.errors import WireError
from herdmaster.zookeeper.wire.opcodes import MULTI_ERROR, OpCode
from herdmaster.zookeeper.wire.primitives import ACL, BUFFER, USTRING, Reader, Vector

_HEADER: Final = struct.Struct(">4siq")  # magic, version, database
_MAGIC: Final = b"ZKLG"
_ENTRY: Final = struct.Struct(">qi")  # checksum, length
_TRANSACTION: Final = struct.Struct(">qiqqi")  # session, xid, zxid, unix ms, type
_END: Final = 0x42
_ACLS: Final = Vector(ACL, null_is_empty=True)
_START: Final = (0, _HEADER.size)
_CREATES: Final = (OpCode.CREATE, OpCode.CREATE2)


class Kind(enum.Enum):
    CREATED = "created"
    DELETED = "deleted"
    SET = "set"


class Change(msgspec.Struct, frozen=True):
    """One change to one znode."""

    kind: Kind
    path: str
    is_ephemeral: bool = False


class Transaction(msgspec.Struct, frozen=True):
    """What was committed as one. `session` is who did it, `at` is in unix milliseconds of the leader's clock.

    A doubtful one is in the logs of a minority: nearly always it was proposed and never committed.
    """

    zxid: int
    session: int
    at: int
    changes: tuple[Change, ...] = ()
    ends_session: bool = False
    is_doubtful: bool = False


class TransactionLogs:
    """The logs of several servers, by their data folders."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._folders = tuple(folders)
        self._known: dict[Path, tuple[int, int]] = {}  # where to go on: a zxid, and the offset of what follows it

    def read(self, after: int = 0) -> list[Transaction]:
        """Everything after that zxid that any of the servers has."""
        found: dict[int, bytes] = {}
        copies: Counter[int] = Counter()
        for folder in self._folders:
            own: dict[int, bytes] = {}
            for path in _files(folder / "version-2", after):
                own.update((zxid, body) for zxid, body in self._entries(path, after) if zxid > after)
            copies.update(own.keys())
            found.update(own)
        few = len(self._folders) // 2
        return [decode_transaction(found[zxid], is_doubtful=copies[zxid] <= few) for zxid in sorted(found)]

    def _entries(self, path: Path, after: int) -> Iterator[tuple[int, bytes]]:
        zxid, offset = self._known.get(path, _START)
        if zxid > after:
            zxid, offset = _START
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:  # it has just been made
                return
            file.seek(offset)
            data = file.read()
        for body in split_entries(data):
            previous, zxid = zxid, _TRANSACTION.unpack_from(body)[2]
            if previous <= after < zxid:
                self._known[path] = (previous, offset)
            offset += _ENTRY.size + len(body) + 1
            yield zxid, body


def split_entries(data: bytes) -> Iterator[bytes]:
    """Yield the transactions after a log's header, without one that is not completely written."""
    offset = 0
    while offset + _ENTRY.size <= len(data):
        _, length = _ENTRY.unpack_from(data, offset)
        start, end = offset + _ENTRY.size, offset + _ENTRY.size + length
        if length < _TRANSACTION.size or end >= len(data) or data[end] != _END:
            return
        yield data[start:end]
        offset = end + 1


def decode_transaction(body: bytes, *, is_doubtful: bool = False) -> Transaction:
    """Raises WireError."""
    session, _xid, zxid, at, kind = _TRANSACTION.unpack_from(body)
    reader = Reader(body, _TRANSACTION.size)
    changes: tuple[Change, ...] = ()
    if kind == OpCode.MULTI:
        changes = _decode_multi(reader)
    elif (change := _decode_change(kind, reader)) is not None:
        changes = (change,)
    return Transaction(zxid, session, at, changes, kind == OpCode.CLOSE_SESSION, is_doubtful)


def _decode_multi(reader: Reader) -> tuple[Change, ...]:
    """None, where it was refused: the log keeps it with an error in the place of what failed."""
    changes: list[Change] = []
    for _ in range(reader.read_int()):
        kind = reader.read_int()
        body = reader.read_buffer()
        if kind == MULTI_ERROR:
            return ()
        change = _decode_change(kind, Reader(body or b""))
        if change is not None:
            changes.append(change)
    return tuple(changes)


def _decode_change(kind: int, reader: Reader) -> Change | None:
    """None for what changes no znode's being or data: a check, the start of a session, an error."""
    if kind in _CREATES:
        path = USTRING.read(reader)
        BUFFER.read(reader)
        _ACLS.read(reader)
        return Change(Kind.CREATED, path, is_ephemeral=reader.read_bytes(1) != b"\x00")
    if kind == OpCode.DELETE:
        return Change(Kind.DELETED, USTRING.read(reader))
    if kind == OpCode.SET_DATA:
        return Change(Kind.SET, USTRING.read(reader))
    if kind in (OpCode.CREATE_CONTAINER, OpCode.CREATE_TTL):
        raise WireError(f"a transaction of type {kind}, which nothing here makes")
    return None


def _files(folder: Path, after: int) -> list[Path]:
    """Those that may hold anything after that zxid: a log's name tells its first one, in hexadecimal."""
    files = sorted((int(path.name.removeprefix("log."), 16), path) for path in folder.glob("log.*"))
    followers = [first for first, _ in files[1:]]
    return [
        path
        for (_, path), following in itertools.zip_longest(files, followers)
        if following is None or following > after + 1
    ]
