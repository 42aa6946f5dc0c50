"""Standard output and standard error of a long-running process, each written by a separate thread.

A reader that does not read (a pager, a log driver, a full disk behind a pipe) blocks every writer: in a worker a task,
or the thread that keeps the session. Here they only put data into a bounded queue. What does not fit is dropped, and
the log says how much.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Final, TypeVar

from herdmaster.core.printable import escaped

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MOST_BYTES: Final = 4 * 1024 * 1024
"""The size of a queue."""
STALL_SECONDS: Final = 1.0
"""A reader that reads nothing for longer than this is not waited for."""
FAREWELL_SECONDS: Final = 1.0
"""How long the end of the process waits for both readers."""
QUOTE: Final = "> "
"""Begins a printed line that looks like a line of the log."""

_LOOK_SECONDS: Final = 0.01
_WRITE_BYTES: Final = 4096
"""PIPE_BUF: a write of up to this size to a pipe is not mixed with those of other processes."""

TextT = TypeVar("TextT", bound=io.TextIOWrapper)

_log = logging.getLogger("herdmaster")


class Outlet:
    """Writes what is `put` to a file descriptor, in order. `name` is for the log."""

    def __init__(self, name: str, descriptor: int, most: int = MOST_BYTES) -> None:
        self.name = name
        self._descriptor = descriptor
        self._most = most
        self._changed = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._size = 0  # in bytes, with what is being written
        self._writing_since: float | None = None
        self._is_full = False  # from the first byte that is dropped until half of the queue is free
        self._dropped = 0
        self._is_direct = False
        self._thread = threading.Thread(target=self._work, name=f"herdmaster-{name}", daemon=True)
        os.register_at_fork(after_in_child=self._after_fork)
        self._thread.start()

    def put(self, data: bytes) -> None:
        """Queue data, from any thread. Never waits, because the caller may hold the lock of a stream or a log handler,
        which the thread of the session needs as well."""
        if self._is_direct:
            self._write(data)
            return
        with self._changed:
            if self._fits(data):
                self._chunks.append(data)
                self._size += len(data)
                self._changed.notify_all()
            else:
                self._is_full = True
                self._dropped += max(data.count(b"\n"), 1)

    @property
    def is_stalled(self) -> bool:
        """Whether the reader has read nothing for a while."""
        since = self._writing_since
        return since is not None and time.monotonic() - since > STALL_SECONDS

    @property
    def has_room(self) -> bool:
        """Whether callers that can wait should put more. True for a stalled reader, whose lines are dropped."""
        return self._size <= self._most // 2 or self.is_stalled

    def flush(self, seconds: float) -> None:
        """Wait until everything is written, at most so many seconds."""
        limit = time.monotonic() + seconds
        with self._changed:
            while self._size and (left := limit - time.monotonic()) > 0:
                self._changed.wait(left)

    def _fits(self, data: bytes) -> bool:
        return not self._size or (not self._is_full and self._size + len(data) <= self._most)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._chunks:
                    self._changed.wait()
                batch = self._take()
                self._writing_since = time.monotonic()
            self._write(batch)
            dropped = 0
            with self._changed:
                self._writing_since = None
                self._size -= len(batch)
                if self._size <= self._most // 2:
                    self._is_full = False
                    dropped, self._dropped = self._dropped, 0
                self._changed.notify_all()
            if dropped:
                _log.warning("%d lines to %s were dropped: its reader did not keep up", dropped, self.name)

    def _take(self) -> bytes:
        batch = self._chunks.popleft()
        while self._chunks and len(batch) + len(self._chunks[0]) <= _WRITE_BYTES:
            batch += self._chunks.popleft()
        return batch

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest[:_WRITE_BYTES]) :]
                if self._writing_since is not None:
                    self._writing_since = time.monotonic()
            except BlockingIOError:  # another process that shares the terminal has made it so
                writable = select.poll()
                writable.register(self._descriptor, select.POLLOUT)
                writable.poll()
            except OSError:
                return  # the reader has gone

    def _after_fork(self) -> None:
        """In a forked child there is no thread, and another thread may hold the lock forever: write without them."""
        self._is_direct = True


class PrintedText(io.TextIOWrapper):
    """A standard stream for what code prints, text from outside with it: what would steer a terminal is escaped, and a
    line that `looks_like` one of the log begins with `QUOTE`. A carriage return ends a line.

    Bytes that go into its `buffer` stay as they are.
    """

    looks_like: Callable[[str], object] = staticmethod(lambda _line: None)
    _is_at_start = True

    def write(self, text: str, /) -> int:
        shown = text
        if not text.isprintable():
            shown = escaped(text.replace("\r\n", "\n").replace("\r", "\n"), keeps_colours=True)
        lines = shown.split("\n")
        for number, line in enumerate(lines):
            if (number or self._is_at_start) and self.looks_like(line):
                lines[number] = QUOTE + line
        self._is_at_start = not lines[-1]
        super().write("\n".join(lines))
        return len(text)


class OutletFile(io.RawIOBase):
    """An outlet as a file, for Python's own streams."""

    def __init__(self, outlet: Outlet, descriptor: int) -> None:
        super().__init__()
        self._outlet = outlet
        self._number = descriptor
        self.name = f"<{outlet.name}>"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: ReadableBuffer, /) -> int:
        copied = bytes(data)
        self._outlet.put(copied)
        return len(copied)


_outlets: Final[dict[str, Outlet]] = {}
_rooms: Final[list[Callable[[], bool]]] = []


def free_standard_streams(looks_like: Callable[[str], object]) -> None:
    """Let nothing that writes to `sys.stdout` and `sys.stderr` wait for a reader any more, nor steer a terminal.

    `looks_like` says whether a line could be one of the log. Streams that are closed, or are no files, stay as they
    are.
    """
    if not _outlets:
        atexit.register(flush_standard_streams)
    for name in ("stdout", "stderr"):
        stream: IO[str] | None = getattr(sys, name)
        if name not in _outlets and isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
                # A copy: if code closes the descriptors of the streams, sockets may get their numbers.
                _outlets[name] = Outlet(name, os.dup(stream.fileno()))
                printed = _open(name, stream, PrintedText)
                printed.looks_like = looks_like
                setattr(sys, name, printed)


def own_stderr() -> IO[str] | None:
    """Return a stream to the same reader as `sys.stderr` that is not closed with it. None if that is closed."""
    stream: IO[str] | None = sys.stderr
    if "stderr" in _outlets and isinstance(stream, io.TextIOWrapper):
        return _open("stderr", stream, io.TextIOWrapper)
    return stream


def add_room(has_room: Callable[[], bool]) -> None:
    """Ask this function as well whether there is room: for another queue that printed lines go through."""
    _rooms.append(has_room)


def have_room() -> bool:
    """Whether what task processes print should be read now."""
    return all(outlet.has_room for outlet in _outlets.values()) and all(has_room() for has_room in _rooms)


def wait_for_room() -> None:
    """Wait until the readers keep up, except for a reader that is stalled. The caller must not hold a lock."""
    while not have_room():
        time.sleep(_LOOK_SECONDS)


def flush_standard_streams() -> None:
    """Wait for the readers for a short time, at the end of the process."""
    for name in ("stdout", "stderr"):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, before it began or since
            getattr(sys, name).flush()
        if name in _outlets:
            _outlets[name].flush(FAREWELL_SECONDS)


def _open(name: str, like: io.TextIOWrapper, kind: type[TextT]) -> TextT:
    raw = OutletFile(_outlets[name], like.fileno())
    by_lines = like.line_buffering or like.write_through  # as stderr is, and with -u stdout as well
    return kind(io.BufferedWriter(raw), like.encoding, like.errors, line_buffering=by_lines)
