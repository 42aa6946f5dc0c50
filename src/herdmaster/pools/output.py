"""Reads the lines that processes print, a few in each turn of the loop. A process that prints faster waits for its full
pipe, and the loop is not held up."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import os
import re
import termios
import time
from collections.abc import Callable
from typing import IO, Final

_READ_BYTES: Final = 2048
_TURN_SECONDS: Final = 0.005
"""The time for the lines of all processes in one turn of the loop."""
_PAUSE_SECONDS: Final = 0.05
"""The pause before the next look whether there is room for lines."""

MAX_LINE: Final = 16 * 1024
"""In bytes. A longer line is handed on in pieces."""


_line_end: Final = re.compile(rb"\r\n?|\n")


class LineReader:
    """Splits a stream of bytes into lines, without their ends. A carriage return ends a line as well: after it a
    terminal would write over what precedes it."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        data = self._rest + data
        held = data[-1:] if data.endswith(b"\r") else b""  # perhaps the first half of \r\n
        *lines, rest = _line_end.split(data.removesuffix(b"\r"))
        self._rest = rest + held
        pieces = [piece for line in lines for piece in _cut(line)]
        if len(self._rest) > MAX_LINE:
            *more, self._rest = _cut(self._rest)
            pieces += more
        return [piece.decode("utf-8", "replace") for piece in pieces]

    def flush(self) -> list[str]:
        """Return the rest: a line that was not ended."""
        rest, self._rest = self._rest.removesuffix(b"\r"), b""
        return [rest.decode("utf-8", "replace")] if rest else []


def _cut(line: bytes) -> list[bytes]:
    return [line[start : start + MAX_LINE] for start in range(0, max(len(line), 1), MAX_LINE)]


class Turns:
    """The time that reading may take in one turn of the loop, for all processes together. `has_room` says whether lines
    should be read at all."""

    def __init__(self, loop: asyncio.AbstractEventLoop, has_room: Callable[[], bool]) -> None:
        self._loop = loop
        self._ends: float | None = None  # None: nothing was read in this turn
        self.has_room = has_room

    def take(self) -> bool:
        """Return whether there is time for another read."""
        now = time.monotonic()
        if self._ends is None:
            self._ends = now + _TURN_SECONDS
            self._loop.call_soon(self._end)
        return now < self._ends

    def _end(self) -> None:
        self._ends = None


class Output:
    """One output stream of one process. `printed` is called with each line, `settled` when everything that was there at
    the last `measure` has been handed on."""

    def __init__(
        self, stream: IO[bytes], turns: Turns, printed: Callable[[str], None], settled: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        self._turns = turns
        self._printed = printed
        self._settled = settled
        self._lines = LineReader()
        self._owed = 0
        self._is_open = True
        self._pause: asyncio.TimerHandle | None = None
        os.set_blocking(stream.fileno(), False)
        self._listen()

    def measure(self) -> bool:
        """Note how much is in the pipe now, to be handed on first. Return False if it is empty."""
        self._owed = self._waiting() if self._is_open else 0
        return self._owed > 0

    @property
    def is_owing(self) -> bool:
        return self._owed > 0

    def read_owed(self) -> None:
        """Read at once what was measured. A pipe holds 64 KiB."""
        while self._owed > 0:
            self._read()

    def flush(self) -> None:
        """Hand on a line that has not been ended."""
        for line in self._lines.flush():
            self._printed(line)

    def close(self) -> None:
        """Stop reading, and drop what is in the pipe."""
        self._end()
        self._stream.close()

    def _waiting(self) -> int:
        count = array.array("i", [0])
        fcntl.ioctl(self._stream.fileno(), termios.FIONREAD, count)
        return count[0]

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._stream, self._readable)

    def _readable(self) -> None:
        if not self._turns.has_room():
            self._loop.remove_reader(self._stream)
            self._pause = self._loop.call_later(_PAUSE_SECONDS, self._listen)
        elif self._turns.take():
            was_owing = self.is_owing
            self._read()
            if was_owing and not self.is_owing:
                self._settled()

    def _read(self) -> None:
        data = b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._stream.fileno(), _READ_BYTES)
            if not data:
                self._end()
        if data:
            self._owed = max(self._owed - len(data), 0)
        else:
            self._owed = 0
        for line in self._lines.feed(data):
            self._printed(line)

    def _end(self) -> None:
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._stream)
            if self._pause is not None:
                self._pause.cancel()
