"""What the demo tells while it runs: events as lines that stay, progress as a line that lives on a terminal."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from typing import IO, Final

import click

from herdmaster.inspection.overview import Overview

_CLEAR: Final = "\r\x1b[K"
_WIDEST_BAR: Final = 20
_NARROWEST_BAR: Final = 3
_FALLBACK_COLUMNS: Final = 80
_PLAIN_COLUMNS: Final = 100
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
            self._done = 0
            self._last_plain = time.monotonic()
            self._seen.clear()

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
                self._live = describe_progress(self._done, self._total, self._rate(), overview, self._columns() - 1)
                self._write(f"{_CLEAR}{self._live}")
            elif now - self._last_plain >= _PLAIN_INTERVAL:
                self._last_plain = now
                self._write(
                    f"{now - self._started:6.1f} s   "
                    f"{describe_progress(self._done, self._total, self._rate(), overview, _PLAIN_COLUMNS)}\n"
                )

    def _rate(self) -> float:
        (since, before), (now, done) = self._seen[0], self._seen[-1]
        return (done - before) / (now - since) if now > since else 0.0

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or _FALLBACK_COLUMNS
        except OSError:
            return _FALLBACK_COLUMNS

    def _write(self, text: str) -> None:
        click.echo(text, file=self._stream, nl=False, color=True)  # it clears its line also where $NO_COLOR is set


def describe_progress(done: int, total: int, rate: float, overview: Overview | None, width: int) -> str:
    """One line of at most `width` characters; `rate` is per second. Each part keeps its place while its value changes;
    the bar takes what is left, for it tells the least."""
    primary, backups, workers = "", "", ""
    if overview is not None:
        primary = f"primary {overview.primary.pid}" if overview.primary else "no primary"
        backups, workers = _count(len(overview.backups), "backup"), _count(len(overview.workers), "worker")
    counted = f"{done:>{len(f'{total:,}')},} of {total:,}"
    told = f"{counted}  {primary:<15}  {backups:<9}  {workers:<9}  {rate:>6,.0f}/s"
    bar = min(width - len(told) - len("[] "), _WIDEST_BAR)
    if bar >= _NARROWEST_BAR:
        filled = bar * done // total
        told = f"[{'#' * filled}{'.' * (bar - filled)}] {told}"
    return told[:width]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
