"""The progress bar of `map`: what is done, how fast, and how long the rest will take.

It is written to stderr, and only if that is a terminal.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sized
from typing import Final, TextIO

_INTERVAL: Final = 0.1
_WIDEST_BAR: Final = 30


class ProgressBar:
    """A progress bar. `total` is None if it is unknown. `advance` is cheap while there is nothing to draw."""

    def __init__(
        self,
        total: int | None,
        *,
        is_shown: bool = True,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._is_shown = is_shown and _is_terminal(self._stream)
        self._total = total
        self._clock = clock
        self._done = 0
        self._started = 0.0
        self._next = 0.0
        self._is_drawn = False

    def start(self) -> None:
        """Begin to count the time."""
        if self._is_shown:
            self._started = self._clock()
            self._next = self._started + _INTERVAL

    def advance(self) -> None:
        """Note that one more item has ended."""
        self._done += 1
        if self._is_shown and (now := self._clock()) >= self._next:
            self._next = now + _INTERVAL
            self._draw(now)

    def close(self) -> None:
        """Draw the bar a last time and end its line."""
        if self._is_shown and self._done:
            self._draw(self._clock())
        if self._is_drawn:
            self._write("\n")
        self._is_shown = self._is_drawn = False

    def _draw(self, now: float) -> None:
        width = shutil.get_terminal_size().columns - 1
        text = progress_text(self._done, self._total, now - self._started, width)
        self._write(f"\r{text:<{width}}")
        self._is_drawn = True

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # the terminal is gone
            self._is_shown = False


def total_of(iterables: Iterable[object]) -> int | None:
    """Return the number of items in a zip of iterables; None if one of them has no length."""
    lengths = [len(each) if isinstance(each, Sized) else None for each in iterables]
    known = [length for length in lengths if length is not None]
    return min(known) if known and len(known) == len(lengths) else None


def progress_text(done: int, total: int | None, seconds: float, width: int) -> str:
    """Return one line of at most `width` characters."""
    rate = done / seconds if seconds > 0 else 0.0
    speed = f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"
    if total is None:
        return f"{done:,} done, {speed}, {_duration(seconds)}"[:width]
    left = _duration((total - done) / rate) if rate > 0 else "?"
    ending = f"in {_duration(seconds)}" if done >= total else f"{left} left"
    text = f"{done:,} of {total:,}, {speed}, {ending}"
    room = min(width - len(text) - 3, _WIDEST_BAR)
    if room < 5:
        return text[:width]
    filled = room * min(done, total) // total if total else room
    return f"[{'#' * filled}{'.' * (room - filled)}] {text}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()  # None under pythonw
    except ValueError:  # closed
        return False
