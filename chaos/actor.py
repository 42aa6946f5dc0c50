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


class Actor:
    """`command` is what follows `python -m`; each start writes a log of its own into the folder."""

    def __init__(self, name: str, route: Route, command: Sequence[str], folder: Path) -> None:
        self.name = name
        self.route = route
        self._command = [sys.executable, "-m", *command]
        self._folder = folder
        self._child: WatchedChild | None = None
        self._starts = 0
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

    def log_tail(self) -> str:
        text = self.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace") if self.log.exists() else ""
        return f"--- {self.name} ---\n{text}"

    @property
    def _running(self) -> WatchedChild:
        if self._child is None or not self._child.is_running:
            raise RuntimeError(f"{self.name} does not run")
        return self._child
