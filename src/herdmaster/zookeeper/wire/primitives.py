"""jute, ZooKeeper's encoding: big-endian integers, strings and buffers with a length, vectors with a count.

A codec writes a value to a bytearray and reads it back from a `Reader`; records are tuples of codecs (`records.py`).
"""

from __future__ import annotations

import functools
import struct
from typing import Generic, Protocol, TypeVar

import msgspec

from herdmaster.zookeeper.errors import WireError
from herdmaster.zookeeper.model import Acl, Id, Stat

T = TypeVar("T")

pack_int = struct.Struct(">i").pack
_INT = struct.Struct(">i")
_LONG = struct.Struct(">q")
_STAT = struct.Struct(">qqqqiiiqiiq")
_NULL = b"\xff\xff\xff\xff"


class Reader:
    """A cursor over received bytes. Every read raises WireError if the bytes end too early."""

    __slots__ = ("data", "offset")

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self.data = data
        self.offset = offset

    def read_struct(self, layout: struct.Struct) -> tuple[int, ...]:
        try:
            values = layout.unpack_from(self.data, self.offset)
        except struct.error:
            raise WireError("the message ends too early") from None
        self.offset += layout.size
        return values

    def read_int(self) -> int:
        try:
            (value,) = _INT.unpack_from(self.data, self.offset)
        except struct.error:
            raise WireError("the message ends too early") from None
        self.offset += 4
        return int(value)

    def read_long(self) -> int:
        return self.read_struct(_LONG)[0]

    def read_bytes(self, length: int) -> bytes:
        start = self.offset
        end = start + length
        if length < 0 or end > len(self.data):
            raise WireError(f"a length of {length} bytes runs past the end of the message")
        self.offset = end
        return self.data[start:end]

    def read_buffer(self) -> bytes | None:
        """Read a length and that many bytes; a length of -1 stands for null."""
        data = self.data
        try:
            (length,) = _INT.unpack_from(data, self.offset)
        except struct.error:
            raise WireError("the message ends too early") from None
        start = self.offset + 4
        end = start + length
        if not start <= end <= len(data):
            if length != -1:
                raise WireError(f"a length of {length} bytes runs past the end of the message")
            self.offset = start
            return None
        self.offset = end
        return data[start:end]

    @property
    def remaining(self) -> int:
        return len(self.data) - self.offset


class Codec(Protocol[T]):
    """How one type of value is written and read."""

    def write(self, out: bytearray, value: T, /) -> None: ...

    def read(self, reader: Reader, /) -> T: ...


class _Bool:
    def write(self, out: bytearray, value: bool, /) -> None:
        out.append(1 if value else 0)

    def read(self, reader: Reader, /) -> bool:
        return reader.read_bytes(1) != b"\x00"


class _Int:
    def write(self, out: bytearray, value: int, /) -> None:
        out += _INT.pack(value)

    def read(self, reader: Reader, /) -> int:
        return reader.read_int()


class _Long:
    def write(self, out: bytearray, value: int, /) -> None:
        out += _LONG.pack(value)

    def read(self, reader: Reader, /) -> int:
        return reader.read_long()


def packed_string(value: str) -> bytes:
    try:
        data = value.encode()
    except UnicodeEncodeError:  # surrogates, which no server accepts in a path
        data = value.encode("utf-8", "surrogatepass")
    return _INT.pack(len(data)) + data


def packed_buffer(value: bytes | None) -> bytes:
    return _NULL if value is None else _INT.pack(len(value)) + value


def _string(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    try:
        # Java writes a character outside the first 65,536 as two surrogates of three bytes each.
        return data.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


class _Ustring:
    """A string that must be there. Invalid UTF-8 is replaced, as by the server."""

    def write(self, out: bytearray, value: str, /) -> None:
        out += packed_string(value)

    def read(self, reader: Reader, /) -> str:
        data = reader.read_buffer()
        if data is None:
            raise WireError("a string that must be there is null")
        return _string(data)


class _NullableUstring:
    def write(self, out: bytearray, value: str | None, /) -> None:
        out += _NULL if value is None else packed_string(value)

    def read(self, reader: Reader, /) -> str | None:
        data = reader.read_buffer()
        return None if data is None else _string(data)


class _Buffer:
    """Bytes or null; ZooKeeper distinguishes the two."""

    def write(self, out: bytearray, value: bytes | None, /) -> None:
        out += packed_buffer(value)

    def read(self, reader: Reader, /) -> bytes | None:
        return reader.read_buffer()


class _Stat:
    def write(self, out: bytearray, value: Stat, /) -> None:
        out += _STAT.pack(*msgspec.structs.astuple(value))

    def read(self, reader: Reader, /) -> Stat:
        return Stat(*reader.read_struct(_STAT))


class _Id:
    def write(self, out: bytearray, value: Id, /) -> None:
        USTRING.write(out, value.scheme)
        USTRING.write(out, value.id)

    def read(self, reader: Reader, /) -> Id:
        return Id(NULLABLE_USTRING.read(reader) or "", NULLABLE_USTRING.read(reader) or "")


class _Acl:
    def write(self, out: bytearray, value: Acl, /) -> None:
        INT.write(out, value.permissions)
        ID.write(out, value.id)

    def read(self, reader: Reader, /) -> Acl:
        return Acl(reader.read_int(), ID.read(reader))


class Vector(Generic[T]):
    """A counted list, read as a tuple. A null vector is an error, unless `null_is_empty`."""

    def __init__(self, item: Codec[T], *, null_is_empty: bool = False) -> None:
        self._item = item
        self._null_is_empty = null_is_empty

    def write(self, out: bytearray, value: tuple[T, ...], /) -> None:
        out += _INT.pack(len(value))
        write = self._item.write
        for item in value:
            write(out, item)

    def read(self, reader: Reader, /) -> tuple[T, ...]:
        count = reader.read_int()
        if count == -1 and self._null_is_empty:
            return ()
        # Every item takes at least one byte: a larger count is wrong, and is found before memory is spent on it.
        if not 0 <= count <= reader.remaining:
            raise WireError(f"a vector of {count} items runs past the end of the message")
        read = self._item.read
        return tuple([read(reader) for _ in range(count)])


@functools.lru_cache(maxsize=64)
def packed_acls(value: tuple[Acl, ...]) -> bytes:
    """Return encoded ACLs. Cached, because a program writes the same few again and again."""
    out = bytearray()
    _PLAIN_ACLS.write(out, value)
    return bytes(out)


class _Acls:
    """A vector of ACLs, null read as empty."""

    def write(self, out: bytearray, value: tuple[Acl, ...], /) -> None:
        out += packed_acls(value)

    def read(self, reader: Reader, /) -> tuple[Acl, ...]:
        return _PLAIN_ACLS.read(reader)


BOOL = _Bool()
INT = _Int()
LONG = _Long()
USTRING = _Ustring()
NULLABLE_USTRING = _NullableUstring()
BUFFER = _Buffer()
STAT = _Stat()
ID = _Id()
ACL = _Acl()
STRINGS = Vector(USTRING)
_PLAIN_ACLS = Vector(ACL, null_is_empty=True)
ACLS = _Acls()
