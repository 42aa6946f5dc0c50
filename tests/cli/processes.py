"""`herd` as a process of its own, with its output in files that can be looked at while it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from kazoo.client import KazooClient

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]
HERD = (sys.executable, "-m", "herdmaster")
PATIENCE = 60.0
"""Seconds after which a test gives up waiting; only on a very busy machine does anything that works take that long."""


def _environment(changes: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("HERD_ZOOKEEPER", "NO_COLOR")}
    return {**kept, **changes}


def run_herd(
    *arguments: str,
    folder: Path = REPOSITORY,
    environment: Mapping[str, str] | None = None,
    timeout: float = PATIENCE,
    module: str = "herdmaster",
) -> subprocess.CompletedProcess[str]:
    """Runs the command, or another module, to its end."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=_environment(environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


class HerdProcess:
    """A command that runs beside the test; killed when the test leaves it."""

    def __init__(
        self,
        *arguments: str,
        folder: Path = REPOSITORY,
        environment: Mapping[str, str] | None = None,
        module: str = "herdmaster",
    ) -> None:
        self._output = tempfile.TemporaryDirectory(prefix="herd-test-")
        output = Path(self._output.name)
        self._stdout, self._stderr = output / "stdout", output / "stderr"
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=folder,
                env=_environment(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"--- {self._process.args!r}\n{self.stdout}{self.stderr}")
        self.kill()
        self._output.cleanup()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stdout(self) -> str:
        return self._stdout.read_text("utf-8", "replace")

    @property
    def stderr(self) -> str:
        return self._stderr.read_text("utf-8", "replace")

    def wait_for_log(self, text: str, timeout: float = PATIENCE) -> str:
        """The first line on stderr that holds the text."""

        def find() -> str | None:
            # Without what is only half written.
            over = self._process.poll() is not None
            lines = self.stderr.rpartition("\n")[0].splitlines()
            found = next((line for line in lines if text in line), None)
            assert found is not None or not over, f"it ended with {self._process.returncode} and never said {text!r}"
            return found

        return wait_until(find, f"no {text!r} on stderr", timeout)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit code; negative is the signal that ended it."""
        return self._process.wait(timeout)

    def wait_briefly(self, seconds: float) -> int | None:
        """The exit code, or None if it has not ended by then."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def connect(hosts: str) -> Iterator[KazooClient]:
    """Another program's eyes."""
    client = KazooClient(hosts, timeout=4.0)
    client.start(timeout=30)
    try:
        yield client
    finally:
        client.stop()
        client.close()


def wait_until(look: Callable[[], T | None], otherwise: str, timeout: float = PATIENCE) -> T:
    """What `look` gives, once it is neither None nor False."""
    limit = time.monotonic() + timeout
    while time.monotonic() < limit:
        found = look()
        if found is not None and found is not False:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{otherwise} within {timeout:.0f} s")
