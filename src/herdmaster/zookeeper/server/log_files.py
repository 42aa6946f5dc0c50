"""The journal's files in the file system: opened, written, cut and made durable."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Final

_OUT_OF_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)

_log = logging.getLogger(__name__)


def is_out_of_descriptors(error: OSError) -> bool:
    """Return whether the error says that no file can be opened at this moment, and nothing about the disk."""
    return error.errno in _OUT_OF_DESCRIPTORS


def begin(path: Path, head: bytes) -> int:
    """Create a file that begins with `head`, durable with its name. Return its descriptor, to append. Raises OSError;
    if that `is_out_of_descriptors`, nothing has changed."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            write_all(opened, head)
            os.fsync(opened)
            os.fsync(folder)
        except BaseException:
            os.close(opened)
            raise
        return opened
    finally:
        os.close(folder)


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def cut(path: Path, offset: int) -> None:
    """Cut off an incomplete block, and log that."""
    size = path.stat().st_size - offset
    if size:
        _log.warning(
            "%s ends with %d bytes at offset %d that are no whole block: they are cut off. After a crash that is what "
            "was being written and was never acknowledged, unless the line before this one says otherwise; after "
            "anything else, look for what damaged the file.",
            path,
            size,
            offset,
        )
    with path.open("r+b") as file:
        file.truncate(offset)
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
