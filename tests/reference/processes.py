"""A role that runs as a separate command, ours or the reference's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

REPOSITORY = Path(__file__).resolve().parents[2]


class ProcessRole:
    """Starts a command and stops it with SIGTERM, or SIGKILL if it is still there `stop_within` seconds later.

    What it prints goes to a file, so a full pipe cannot hold it up; `output()` gives it for a failure's message. It is
    up when its znodes are there, for which its starter must wait.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path = REPOSITORY,
        environment: Mapping[str, str] | None = None,
        stop_within: float = 30.0,
    ) -> None:
        self.command = list(command)
        self._folder = folder
        self._environment = environment
        self._stop_within = stop_within
        self._printed: IO[bytes] | None = None
        self._tail = b""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it."""
        return self._running().poll()

    def start(self) -> None:
        # Appending, because the command shares the file's position with the reader here.
        self._printed = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed with the role
        self._process = subprocess.Popen(
            self.command,
            cwd=self._folder,
            env=None if self._environment is None else dict(self._environment),
            stdin=subprocess.DEVNULL,
            stdout=self._printed,
            stderr=subprocess.STDOUT,
        )

    def kill(self) -> None:
        """SIGKILL: the session stays open until it expires."""
        self._running().send_signal(signal.SIGKILL)
        self._running().wait()

    def close(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(self._stop_within)
        except subprocess.TimeoutExpired:
            self.kill()
        self.output()
        if self._printed is not None:
            self._printed.close()
            self._printed = None

    def output(self) -> str:
        """The last 4,000 bytes that it printed; also after `close`."""
        if self._printed is not None:
            self._printed.seek(max(0, self._printed.seek(0, os.SEEK_END) - 4000))
            self._tail = self._printed.read()
        return self._tail.decode(errors="replace")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"not started: {' '.join(self.command)}")
        return self._process


def reference_process(role: str, session_timeout: float = 2.0) -> Callable[[str], ProcessRole]:
    """A maker of the reference `master` or `worker` as a process."""

    def make(hosts: str) -> ProcessRole:
        return ProcessRole(
            [sys.executable, "-m", "tests.reference", "--session-timeout", str(session_timeout), role, hosts]
        )

    return make
