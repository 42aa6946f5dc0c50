"""The trial of one mutant: its tests run in a copy of the tree until one fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from mutation import selecting, tree
from mutation.reach import Recorded

_MARK: Final = "HERD_MUTATION_TRIAL"
_MEMORY_KIB: Final = 8 * 1024 * 1024
_PASSED: Final = (0, 5)  # pytest's exit codes; 5: there was nothing to run
_TEST_FAILED: Final = 1
_MOST_DOUBTS: Final = 5  # so many tests of a stage may fail by themselves


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a mutant's tests may take, in seconds as they were recorded, and the simulation's seeds after them."""

    fast: float = 45.0
    long: float = 60.0
    seeds: int = 0


@dataclass(frozen=True, slots=True)
class Ending:
    state: str  # killed, timeout or survived
    by: str = ""
    tests: int = 0


def in_stages(tests: list[Recorded], path: str, limits: Limits) -> Iterator[list[Recorded]]:
    """Return the tests in the order in which they are worth running: those of the same folder first, the fast first."""
    folder = str(Path(path).relative_to(tree.PACKAGE).parent)
    near = f"tests/{folder}/"
    nearest = f"{near}test_{Path(path).stem}.py"
    fast = sorted(
        (test for test in tests if not test.is_long),
        key=lambda test: (test.path != nearest, not test.path.startswith(near), test.seconds),
    )
    fast = _within(fast, limits.fast)
    long = sorted((test for test in tests if test.is_long), key=lambda test: (test.path != nearest, test.seconds))
    first = sum(test.path.startswith(near) for test in fast[:40]) or 10
    yield from (stage for stage in (fast[:first], fast[first:], _within(long, limits.long)) if stage)


def _within(tests: list[Recorded], seconds: float) -> list[Recorded]:
    chosen: list[Recorded] = []
    for test in tests:
        seconds -= test.seconds
        if seconds < 0 and chosen:
            break
        chosen.append(test)
    return chosen


@dataclass(frozen=True, slots=True)
class _Change:
    module: Path
    original: str
    code: str

    def do(self) -> None:
        self.module.write_text(self.code, encoding="utf-8")

    def undo(self) -> None:
        self.module.write_text(self.original, encoding="utf-8")


class Trial:
    """Runs tests in one copy of the tree."""

    def __init__(self, copy: Path) -> None:
        self.copy = copy
        self._list = copy.with_suffix(".tests.json")
        self._mark = uuid4().hex  # in the environment of all that this trial starts

    def end(self) -> None:
        """Kill what runs for this trial."""
        end_marked(self._mark)

    def judge(self, path: str, code: str, stages: Iterable[list[Recorded]], limits: Limits) -> Ending:
        """Return what became of this code at this path. The copy is as it was afterwards."""
        module = self.copy / path
        change = _Change(module, module.read_text("utf-8"), code)
        change.do()
        try:
            return self._judge(change, stages, limits)
        finally:
            change.undo()

    def _judge(self, change: _Change, stages: Iterable[list[Recorded]], limits: Limits) -> Ending:
        count = 0
        for stage in stages:
            count += len(stage)
            left = {test.name: test for test in stage}
            for _ in range(_MOST_DOUBTS):
                status, output = self._run(list(left.values()))
                failed = self._failed()
                if status is None:
                    return Ending("timeout", failed, count)
                if status in _PASSED:
                    break
                test = left.pop(failed, None) or Recorded(failed, 1.0, is_long=False, failed=True)
                if status != _TEST_FAILED or not failed or self._proves(test, change):
                    return Ending("killed", failed or last_line(output), count)
        if limits.seeds and not self._holds_in_worlds(limits.seeds):
            return Ending("killed", f"herd simulate --seeds {limits.seeds} --start 1", count)
        return Ending("survived", "", count)

    def _proves(self, test: Recorded, change: _Change) -> bool:
        """Say whether a test that failed once has failed because of the change, and not by itself."""
        if not self._fails(test):
            return False
        if not test.failed:
            return True
        change.undo()
        try:
            return not self._fails(test)
        finally:
            change.do()

    def _fails(self, test: Recorded) -> bool:
        status, _ = self._run([test])
        return status not in _PASSED

    def _run(self, tests: list[Recorded]) -> tuple[int | None, str]:
        if not tests:
            return 0, ""
        chosen = self._list
        self._list.with_name(self._list.name + selecting.FAILED).unlink(missing_ok=True)
        chosen.write_text(json.dumps([test.name for test in tests]), encoding="utf-8")
        options = ["-q", "-x", "-p", "mutation.selecting", "-p", "no:cacheprovider", "--server", "embedded", "--tb=no"]
        command = [sys.executable, "-m", "pytest", *options, "--timeout", "30"]
        files = list(dict.fromkeys(test.path for test in tests))
        return self._call([*command, *files], 30 + 4 * sum(test.seconds for test in tests), str(chosen))

    def _failed(self) -> str:
        """Return the name of the test that failed in the last run, or nothing."""
        path = self._list.with_name(self._list.name + selecting.FAILED)
        return path.read_text("utf-8") if path.exists() else ""

    def _holds_in_worlds(self, seeds: int) -> bool:
        command = [sys.executable, "-m", "herdmaster", "simulate", "--seeds", str(seeds), "--start", "1"]
        status, _ = self._call(command, 30 + seeds)
        return status == 0

    def _call(self, command: list[str], seconds: float, chosen: str = "") -> tuple[int | None, str]:
        environment = tree.environment(self.copy, **{selecting.LIST: chosen, _MARK: self._mark})
        limited = ["/bin/sh", "-c", f'ulimit -v {_MEMORY_KIB}; exec "$@"', "sh", *command]
        with subprocess.Popen(
            limited,
            cwd=self.copy,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                self.end()
                output, _ = process.communicate()
                return None, output
        self.end()
        return process.returncode, output


def last_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def end_marked(mark: str) -> None:
    """Kill every process that has this mark in its environment: what a test started and left behind."""
    wanted = f"{_MARK}={mark}".encode()
    for _ in range(3):  # one could be forking just now
        found = [process for process in _processes() if wanted in _environment(process)]
        for process in found:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not found:
            return
        time.sleep(0.05)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _environment(process: int) -> list[bytes]:
    try:
        return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
