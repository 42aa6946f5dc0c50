"""The trial of one mutant: its tests run in a copy of the tree until one fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final
from uuid import uuid4

from mutation import leftovers, selecting, tree
from mutation.reach import Recorded

_MEMORY_KIB: Final = 8 * 1024 * 1024
_PASSED: Final = (0, 5)  # pytest's exit codes; 5: there was nothing to run
_MOST_DOUBTS: Final = 5  # so many tests of a stage may fail by themselves
_START: Final = 10.0  # seconds for pytest itself, on a machine that is busy
_SLOWER: Final = 5.0  # a mutant may take this many times as long as the original code


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
        _write(self.module, self.code)

    def undo(self) -> None:
        _write(self.module, self.original)


_times = count(int(time.time()))


def _write(module: Path, code: str) -> None:
    """Write the code with a time that the file never had: Python takes cached bytecode by time and size."""
    module.write_text(code, encoding="utf-8")
    moment = next(_times)
    os.utime(module, (moment, moment))


@dataclass(frozen=True, slots=True)
class _Ran:
    """How one run of tests ended. `test` is the test that failed or did not end, if one began."""

    status: int | None  # None: the time was over
    output: str
    seconds: float
    test: str
    is_late: bool

    @property
    def passed(self) -> bool:
        return self.status in _PASSED


class Trial:
    """Runs tests in one copy of the tree."""

    def __init__(self, copy: Path) -> None:
        self.copy = copy
        self._list = copy.with_suffix(".tests.json")
        self._note = selecting.note_path(self._list)
        self._mark = uuid4().hex  # in the environment of all that this trial starts

    def end(self) -> None:
        """Kill what runs for this trial."""
        leftovers.end_marked(self._mark)

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
        tests = 0
        for stage in stages:
            tests += len(stage)
            doubted: list[str] = []
            while len(doubted) < _MOST_DOUBTS:
                ran = self._run([test for test in stage if test.name not in doubted], without=doubted)
                if ran.passed:
                    break
                test = ran.test or stage[0].name  # without a test, none can even be imported
                state = self._confirmed(test, change)
                if state is not None:
                    return Ending(state, ran.test or last_line(ran.output), tests)
                doubted.append(test)
        if limits.seeds and not self._holds_in_worlds(limits.seeds):
            return Ending("killed", f"herd simulate --seeds {limits.seeds} --start 1", tests)
        return Ending("survived", "", tests)

    def _confirmed(self, test: str, change: _Change) -> str | None:
        """Return the mutant's state if it is the reason why the test failed or did not end, and not the test itself or
        a slow machine: the original passes now, and the mutant fails again, in a multiple of the original's time."""
        alone = [Recorded(test, _START, is_long=True)]
        change.undo()
        original = self._run(alone)
        change.do()
        if not original.passed:
            return None
        again = self._run(alone, _START + _SLOWER * original.seconds)
        if again.passed:
            return None
        return "timeout" if again.is_late else "killed"

    def _run(self, tests: list[Recorded], seconds: float = 0.0, *, without: Iterable[str] = ()) -> _Ran:
        # A test may have been deleted since it was recorded.
        files = [path for path in dict.fromkeys(test.path for test in tests) if (self.copy / path).exists()]
        if not files:
            return _Ran(0, "", 0.0, "", is_late=False)
        self._note.unlink(missing_ok=True)
        selecting.choose(self._list, (test.name for test in tests), without)
        of_one = seconds or _START + _SLOWER * max(test.seconds for test in tests)
        options = ["-q", "-x", "-p", "mutation.selecting", "-p", "no:cacheprovider", "--server", "embedded", "--tb=no"]
        command = [sys.executable, "-m", "pytest", *options, "--timeout", str(of_one)]
        limit = seconds + _START if seconds else _START + _SLOWER * sum(test.seconds for test in tests) + of_one
        began = time.monotonic()
        status, output = self._call([*command, *files], limit, str(self._list))
        took = time.monotonic() - began
        note = selecting.read(self._note)
        return _Ran(status, output, took, note.test, is_late=note.is_late or status is None)

    def _holds_in_worlds(self, seeds: int) -> bool:
        command = [sys.executable, "-m", "herdmaster", "simulate", "--seeds", str(seeds), "--start", "1"]
        status, _ = self._call(command, 30 + seeds)
        return status == 0

    def _call(self, command: list[str], seconds: float, chosen: str = "") -> tuple[int | None, str]:
        environment = tree.environment(self.copy, **{selecting.LIST: chosen, leftovers.MARK: self._mark})
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
