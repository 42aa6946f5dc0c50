"""Results of an `each` in a temporary file: the worker writes it before the step starts, and its code reads from it.

The file has the result of each step of the `each` as it stands in ZooKeeper, then an index with the place and length of
each. Threads and processes read with positions of their own, so they can share the file.

The writer holds a lock on its file, which ends with its process. So a file that nothing has locked is left over from a
worker that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, overload

from herdmaster.core.each_items import EachItems, split_chunk_result
from herdmaster.core.inputs import Spooled, StepResult
from herdmaster.errors import BadOutcome

MAX_SPOOL: Final = 4 * 1024**3
"""Bytes of one file."""
_ENTRY: Final = struct.Struct("=QQ")
_PREFIX: Final = "herdmaster-results-"


def remove_left_over() -> None:
    """Delete the files of processes that were killed, as far as this process may."""
    try:
        found = list(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"))
    except OSError:
        return
    for path in found:
        with contextlib.suppress(OSError):
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(file)


def _new_file() -> IO[bytes]:
    """Return a file that this process has locked. Raises OSError."""
    while True:
        file = tempfile.NamedTemporaryFile(prefix=_PREFIX)  # noqa: SIM115 - lives with its step
        with contextlib.suppress(OSError):  # where there are no locks, left over files stay
            fcntl.flock(file, fcntl.LOCK_EX)
        if Path(file.name).exists():
            return file
        _close(file)  # `remove_left_over` of another process was faster than the lock


def _close(file: IO[bytes]) -> None:
    """Close a file and delete it, if it was not deleted before."""
    with contextlib.suppress(OSError):
        file.close()


class SpoolWriter:
    """A file that is being written. It is deleted when this object is, and can be read on where it is open."""

    def __init__(self, step: str, items: EachItems) -> None:
        """Raises BadOutcome."""
        self.step = step
        self.items = items
        self._codec: str | None = None
        self._index = array("Q", bytes(items.steps * _ENTRY.size))
        self._end = 0
        try:
            self._file = _new_file()
        except OSError as error:
            raise BadOutcome(f"the results of step {step} cannot be kept in a file: {error}") from None
        weakref.finalize(self, _close, self._file)

    def write(self, results: Iterable[tuple[int, StepResult]]) -> None:
        """Append results of steps, each with its number. Raises BadOutcome."""
        try:
            for number, result in results:
                if self._end + len(result.data) > MAX_SPOOL:
                    raise BadOutcome(f"the results of step {self.step} have more than {MAX_SPOOL // 1024**3} GiB")
                self._file.write(result.data)
                self._index[2 * number : 2 * number + 2] = array("Q", (self._end, len(result.data)))
                self._end += len(result.data)
                self._codec = result.codec
        except OSError as error:
            raise BadOutcome(f"the results of step {self.step} cannot be kept in {self._file.name}: {error}") from None

    def finish(self) -> Spooled:
        """Write the index. Raises BadOutcome."""
        try:
            self._file.write(self._index.tobytes())
            self._file.flush()
        except OSError as error:
            raise BadOutcome(f"the results of step {self.step} cannot be kept in {self._file.name}: {error}") from None
        items = self.items
        return Spooled(self._file.name, items.count, items.chunk, self._end, self._codec)


class SpoolReader(Sequence[StepResult | None]):
    """The results in a file, one for each item; None for those that are missing."""

    def __init__(self, step: str, spooled: Spooled) -> None:
        """Raises BadOutcome if the file is not there."""
        self._step = step
        self._items = EachItems(spooled.count, spooled.chunk)
        self._size = spooled.chunk or 1
        self._index_at = spooled.size
        self._codec = spooled.codec
        self._last: tuple[int, Sequence[StepResult | None]] = (-1, ())
        try:
            self._file = os.open(spooled.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise BadOutcome(f"the results of step {step} cannot be read: {error}") from None
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return self._items.count

    @overload
    def __getitem__(self, index: int, /) -> StepResult | None: ...

    @overload
    def __getitem__(self, index: slice, /) -> list[StepResult | None]: ...

    def __getitem__(self, index: int | slice, /) -> StepResult | list[StepResult | None] | None:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        found = range(len(self))[index]  # raises IndexError
        chunk, position = divmod(found, self._size)
        last = self._last
        if last[0] != chunk:
            last = self._last = (chunk, self._read(chunk))
        return last[1][position]

    def __iter__(self) -> Iterator[StepResult | None]:
        for chunk in range(self._items.steps):
            yield from self._read(chunk)

    def _read(self, chunk: int) -> Sequence[StepResult | None]:
        """Return the results of the items of one step. Raises BadOutcome."""
        start, length = _ENTRY.unpack(os.pread(self._file, _ENTRY.size, self._index_at + chunk * _ENTRY.size))
        size = min(self._size, len(self) - chunk * self._size)
        if not length:
            return (None,) * size
        data = os.pread(self._file, length, start)
        if not self._items.chunk:
            return (StepResult(data, self._codec),)
        results = split_chunk_result(f"{self._step}.{chunk}", data, size)
        return [StepResult(bytes(each), self._codec) for each in results]
