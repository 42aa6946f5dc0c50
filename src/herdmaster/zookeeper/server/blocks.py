"""Files of checked blocks: the format of the journal and its snapshots.

A file begins with a magic and a salt. A block is {marker, length, CRC32} and a payload. The salt seeds every CRC32, so
a piece of another journal (a client may store one as data) is never mistaken for a block of this file.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

SALT_LENGTH: Final = 16

_MAGIC: Final = b"HERDZK01"
_MARKER: Final = b"\xfbBLK"
_HEADER: Final = struct.Struct(f">8s{SALT_LENGTH}sI")
_BLOCK: Final = struct.Struct(">4sII")
_LENGTH: Final = struct.Struct(">I")

HEADER_LENGTH: Final = _HEADER.size
"""Bytes of a file without a block."""


class Fault(Exception):
    """A faulty block at `offset`, or a faulty header of the file, at 0. `is_tail` if no block follows: a write that was
    cut short."""

    def __init__(self, offset: int, *, is_tail: bool) -> None:
        super().__init__(f"no valid block at offset {offset}")
        self.offset = offset
        self.is_tail = is_tail

    @property
    def is_header(self) -> bool:
        return self.offset == 0


def header(salt: bytes) -> bytes:
    """Return the beginning of a file."""
    start = _MAGIC + salt
    return start + _LENGTH.pack(zlib.crc32(start))


def seed_of(head: bytes) -> int:
    return zlib.crc32(head)


def block(payload: bytes, seed: int) -> bytes:
    return _BLOCK.pack(_MARKER, len(payload), _checksum(payload, seed)) + payload


def read_blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield offset and payload of every block. Raises Fault at the first incomplete or damaged one."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size:
            raise Fault(0, is_tail=True)
        magic, salt, checksum = _HEADER.unpack(head)
        if magic != _MAGIC or zlib.crc32(magic + salt) != checksum:
            raise Fault(0, is_tail=False)
        seed = seed_of(head)
        offset = _HEADER.size
        while offset < size:
            payload = _read_block(file, size - offset, seed)
            if payload is None:
                raise Fault(offset, is_tail=not _any_block_after(file, offset, seed))
            yield offset, payload
            offset += _BLOCK.size + len(payload)


def _read_block(file: BinaryIO, available: int, seed: int) -> bytes | None:
    head = file.read(_BLOCK.size)
    if len(head) < _BLOCK.size:
        return None
    marker, length, checksum = _BLOCK.unpack(head)
    if marker != _MARKER or length > available - _BLOCK.size:
        return None
    payload = file.read(length)
    return payload if _checksum(payload, seed) == checksum else None


def _any_block_after(file: BinaryIO, offset: int, seed: int) -> bool:
    """Return whether a complete block stands anywhere after the faulty one: then that is damage and no torn tail."""
    file.seek(offset + 1)
    rest = file.read()
    start = rest.find(_MARKER)
    while start >= 0:
        if start + _BLOCK.size <= len(rest):
            _, length, checksum = _BLOCK.unpack_from(rest, start)
            end = start + _BLOCK.size + length
            if end <= len(rest) and _checksum(rest[start + _BLOCK.size : end], seed) == checksum:
                return True
        start = rest.find(_MARKER, start + 1)
    return False


def _checksum(payload: bytes, seed: int) -> int:
    return zlib.crc32(payload, zlib.crc32(_LENGTH.pack(len(payload)), seed))
