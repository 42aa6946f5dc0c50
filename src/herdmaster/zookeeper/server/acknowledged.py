"""How far the journal was acknowledged, in a small file beside its logs.

The file is written after every fsync of the log, and is not made durable itself. After a kill it is exact; after a loss
of power it may be behind; it is never ahead of what is on disk. So a log that ends before it has lost something, which
otherwise would look like a crash before the block was complete.
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
    """The newest acknowledged transaction and the first one of its log, by their zxids."""

    first: int
    last: int


class Acknowledged:
    """The file of one data directory. Only one thread may use it at a time."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._file = -1

    def open(self) -> None:
        """Open the file. Raises OSError."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)

    def read(self) -> End | None:
        """Return what was acknowledged; None if that is unknown, as before the first transaction. Raises OSError."""
        data = os.pread(self._file, _RECORD.size + _CHECKSUM.size, 0)
        if len(data) < _RECORD.size + _CHECKSUM.size:
            return None
        record, checksum = data[: _RECORD.size], _CHECKSUM.unpack_from(data, _RECORD.size)[0]
        magic, first, last = _RECORD.unpack(record)
        return End(first, last) if magic == _MAGIC and checksum == zlib.crc32(record) else None

    def write(self, end: End) -> None:
        record = _RECORD.pack(_MAGIC, *end)
        # The file only helps to explain a loss: if it cannot be written, that is no reason to refuse a transaction.
        with contextlib.suppress(OSError):
            os.pwrite(self._file, record + _CHECKSUM.pack(zlib.crc32(record)), 0)

    def warn_of_loss(self, zxid: int, log_of: Callable[[int], Path]) -> None:
        """Log once what is missing if the logs end at `zxid`. `log_of` returns the log that begins with a transaction.
        Raises OSError."""
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
