"""What the demo tells while it runs: events as lines that stay, progress as a line that lives on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections import deque
from typing import IO, Final

import click

from herdmaster.roles.observer import Overview

_CLEAR: Final = "\r\x1b[K"
_BAR: Final = 20
_PLAIN_INTERVAL: Final = 2.0
_RATE_SECONDS: Final = 1.5
_EVENT_COLOURS: Final = {"!": "red", "+": "green"}


class Display:
    """Two threads may tell it things. Without a terminal progress is a plain line every two seconds."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lives = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._colour = self._lives and not os.environ.get("NO_COLOR")
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._last_plain = self._started
        self._seen: deque[tuple[float, int]] = deque()
        self._total = 0
        self._done = 0
        self._live = ""

    def say(self, text: str, mark: str = " ") -> None:
        """A line that stays. `mark` is `!` for what was killed, `+` for what recovered."""
        with self._lock:
            head = f"{time.monotonic() - self._started:6.1f} s {mark} "
            if self._colour and mark in _EVENT_COLOURS:
                text = click.style(text, fg=_EVENT_COLOURS[mark])
            self._write(f"{_CLEAR if self._live else ''}{head}{text}\n{self._live}")

    def begin(self, total: int) -> None:
        """Progress is shown from here on."""
        with self._lock:
            self._total = total

    def end(self) -> None:
        """Progress is not shown any more."""
        with self._lock:
            self._total = 0
            if self._live:
                self._write(_CLEAR)
                self._live = ""

    def advance(self, done: int) -> None:
        self._done = done

    def refresh(self, overview: Overview | None) -> None:
        """Shows progress as it is now."""
        now = time.monotonic()
        with self._lock:
            if not self._total:
                return
            self._seen.append((now, self._done))
            while now - self._seen[0][0] > _RATE_SECONDS:
                self._seen.popleft()
            if self._lives:
                width = shutil.get_terminal_size().columns - 1
                self._live = self._progress(overview)[:width]
                self._write(f"{_CLEAR}{self._live}")
            elif now - self._last_plain >= _PLAIN_INTERVAL:
                self._last_plain = now
                self._write(f"{now - self._started:6.1f} s   {self._progress(overview)}\n")

    def _progress(self, overview: Overview | None) -> str:
        filled = _BAR * self._done // self._total
        (since, before), (now, done) = self._seen[0], self._seen[-1]
        rate = (done - before) / (now - since) if now > since else 0.0
        parts = [f"[{'#' * filled}{'.' * (_BAR - filled)}] {self._done:,} of {self._total:,}", f"{rate:,.0f} tasks/s"]
        if overview is not None:
            parts.append(f"primary {overview.primary.pid}" if overview.primary else "no primary")
            parts += [_count(len(overview.backups), "backup"), _count(len(overview.workers), "worker")]
        return "  ".join(parts)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
