"""One process of the cast, which can be killed, stopped, cut off and started again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chaos.links import Route
from herdmaster.testing.child import WatchedChild

_LOG_TAIL: Final = 3000  # bytes
_TRACEBACK: Final = "Traceback (most recent call last)"


class Actor:
    """`command` follows `python -m`. Each start writes a new log into the folder."""

    def __init__(self, name: str, route: Route, command: Sequence[str], folder: Path) -> None:
        self.name = name
        self.route = route
        self._command = [sys.executable, "-m", *command]
        self._folder = folder
        self._child: WatchedChild | None = None
        self._starts = 0
        self._lines_read: dict[int, int] = {}  # of the log of that start
        self.was_killed = False
        self.is_stopped = False

    @property
    def log(self) -> Path:
        """Of the latest start."""
        return self._folder / f"{self.name.replace(' ', '-')}.{self._starts}.log"

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.is_running

    @property
    def ended_by_itself(self) -> bool:
        return self._child is not None and not self.was_killed and not self._child.is_running

    def start(self) -> None:
        self._starts += 1
        self.was_killed = self.is_stopped = False
        self._child = WatchedChild(self._command, log=self.log)

    def kill(self) -> None:
        """SIGKILL. Idempotent."""
        self.was_killed = True
        if self._child is not None:
            self._child.kill()

    def send(self, number: signal.Signals) -> None:
        """SIGTERM or SIGKILL, if it runs; returns at once."""
        self.was_killed = True
        if self.is_running:
            os.kill(self.pid, number)

    def stop(self) -> None:
        """SIGSTOP, until `go_on`."""
        self._running.pause()
        self.is_stopped = True

    def go_on(self) -> None:
        self._running.resume()
        self.is_stopped = False

    def new_tracebacks(self) -> list[str]:
        """The last line of each that it has written since it was last asked. No fault out there may cause any."""
        if not self.log.exists():
            return []
        lines = self.log.read_text("utf-8", "replace").splitlines()
        begun, self._lines_read = self._lines_read.get(self._starts, 0), {self._starts: len(lines)}
        return [_end_of(lines[number:]) for number in range(begun, len(lines)) if _TRACEBACK in lines[number]]

    def log_tail(self) -> str:
        text = self.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace") if self.log.exists() else ""
        return f"--- {self.name} ---\n{text}"

    @property
    def _running(self) -> WatchedChild:
        if self._child is None or not self._child.is_running:
            raise RuntimeError(f"{self.name} does not run")
        return self._child


def _end_of(lines: list[str]) -> str:
    """What a traceback at the head of these lines ends with: the first line that is not indented."""
    return next((line for line in lines[1:] if line and not line.startswith(" ")), "a traceback without an end")
