"""How far the journal was acknowledged, in a small file beside its logs.

It is written whenever an fsync of the log has ended, and is not made durable itself: after a kill it is exact, after a
loss of power it may be behind, and it is never ahead of what is on disk. So a log that ends before it has lost
something, which would otherwise look like a crash before the block was whole.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

_NAME: Final = "acknowledged"
_RECORD: Final = struct.Struct(">8sqq")
_CHECKSUM: Final = struct.Struct(">I")
_MAGIC: Final = b"HERDACK1"


_log = logging.getLogger(__name__)


class End(NamedTuple):
    """The newest transaction that was acknowledged, and the first of the log that it is in, by their zxids."""

    first: int
    last: int


class Acknowledged:
    """The file of one data directory. For one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._file = -1

    def open(self) -> None:
        """Raises OSError."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)

    def read(self) -> End | None:
        """None where nothing is known, as before the first transaction. Raises OSError."""
        data = os.pread(self._file, _RECORD.size + _CHECKSUM.size, 0)
        if len(data) < _RECORD.size + _CHECKSUM.size:
            return None
        record, checksum = data[: _RECORD.size], _CHECKSUM.unpack_from(data, _RECORD.size)[0]
        magic, first, last = _RECORD.unpack(record)
        return End(first, last) if magic == _MAGIC and checksum == zlib.crc32(record) else None

    def write(self, end: End) -> None:
        record = _RECORD.pack(_MAGIC, *end)
        # It only helps to explain a loss: what it cannot take is no reason to refuse a transaction.
        with contextlib.suppress(OSError):
            os.pwrite(self._file, record + _CHECKSUM.pack(zlib.crc32(record)), 0)

    def warn_of_loss(self, zxid: int, log_of: Callable[[int], Path]) -> None:
        """Says what is missing where the logs end at `zxid`, once. `log_of` gives the log that begins with a
        transaction. Raises OSError."""
        end = self.read()
        if end is None or end.last <= zxid:
            return
        path = log_of(end.first)
        if not path.exists():
            fault = "is missing"
        elif not path.stat().st_size:
            fault = "is empty"
        else:
            fault = "ends before them"
        _log.warning(
            "acknowledged transactions are missing: those from 0x%x to 0x%x. The newest log, %s, %s. The server starts "
            "without them: if there is a backup of the data directory, stop the server and restore that.",
            zxid + 1 if zxid else end.first,
            end.last,
            path,
            fault,
        )
        os.truncate(self._file, 0)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
