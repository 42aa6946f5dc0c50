"""Records which tests reach which lines: runs files of tests in a copy of the tree whose code notes what is reached."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from mutation import blocks, leftovers, reach, recording, selecting, tree
from mutation.reach import FileRecord, Recorded

_FIT: Final = "not apache and not slow"
_SIMULATION: Final = "tests/simulation"  # its long tests reach almost everything, and take minutes
LEFT_OUT: Final = ("tests/docs", "tests/scripts", "tests/chaos", "tests/mutation", "tests/zookeeper/server")
_MOST_SECONDS: Final = 25.0  # of one test
_START: Final = 60.0  # until the first test begins, and after the last one
_FILES_OF_A_RUN: Final = 6
_ENDED: Final = (0, 1, 5)  # pytest's exit codes; 5: there was nothing to run


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    is_long: bool
    digest: str


def record(*, anew: bool, processes: int, seconds: float | None = None) -> int:
    """Record the files that have changed since they were recorded, the fast tests first, until the time is over. Return
    how many files are left."""
    reach.FOLDER.mkdir(parents=True, exist_ok=True)
    if anew:
        for path in reach.FOLDER.glob("*.json"):
            path.unlink()
    files = _changed()
    if files:
        _Recording(files, time.monotonic() + seconds if seconds else float("inf")).run(processes)
    return len(_changed())


def _changed() -> list[_File]:
    paths = sorted(str(path.relative_to(tree.ROOT)) for path in (tree.ROOT / "tests").rglob("test_*.py"))
    digests = {path: reach.digest((tree.ROOT / path).read_text("utf-8")) for path in paths}
    wanted = [(path, False) for path in paths] + [(path, True) for path in paths if not path.startswith(_SIMULATION)]
    return [
        _File(path, is_long, digests[path])
        for path, is_long in wanted
        if not path.startswith(LEFT_OUT) and reach.known(path, is_long=is_long) != digests[path]
    ]


class _Recording:
    """A few threads that each run some files at a time, in one copy of the tree."""

    def __init__(self, files: list[_File], end: float) -> None:
        self._copy = tree.BUILD / "recorded"
        tree.copy_to(self._copy)
        self._modules = _note_blocks(self._copy)
        self._end = end
        self._lock = threading.Lock()
        same = [[file for file in files if file.is_long == is_long] for is_long in (False, True)]
        self._runs = [
            part[first : first + _FILES_OF_A_RUN] for part in same for first in range(0, len(part), _FILES_OF_A_RUN)
        ]

    def run(self, processes: int) -> None:
        threads = [threading.Thread(target=self._work, args=(number,), daemon=True) for number in range(processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, number: int) -> None:
        while time.monotonic() < self._end:
            with self._lock:
                if not self._runs:
                    return
                files = self._runs.pop(0)
            began = time.monotonic()
            records = _Files(self._copy, files, tree.BUILD / f"recorded-{number}").run(self._modules[-1].end)
            for file in files:
                reach.keep(_file_record(file, records, self._modules))
            kind = "long" if files[0].is_long else "fast"
            took = time.monotonic() - began
            print(f"recorded {len(records)} {kind} tests of {files[0].path} ... ({took:.0f} s)", flush=True)


@dataclass(frozen=True, slots=True)
class _Module:
    path: str
    digest: str
    first: int  # the number of its first block among those of all modules
    end: int


def _note_blocks(copy: Path) -> list[_Module]:
    modules: list[_Module] = []
    end = 0
    for path in sorted((copy / tree.PACKAGE).rglob("*.py")):
        source = path.read_text("utf-8")
        found = blocks.of_source(source)
        path.write_text(found.note(source, end), encoding="utf-8")
        first, end = end, end + len(found.starts)
        modules.append(_Module(str(path.relative_to(copy)), reach.keep_source(source), first, end))
    (copy / "src" / f"{blocks.PROBES}.py").write_text(blocks.PROBES_SOURCE.format(size=end), encoding="utf-8")
    return modules


class _Files:
    """One run of a few files of tests, in processes of pytest: another one follows where a test did not end."""

    def __init__(self, copy: Path, files: list[_File], place: Path) -> None:
        self._copy = copy
        self._files = files
        self._list = place.with_suffix(".tests.json")
        self._records = place.with_suffix(".records")
        self._reached = place.with_suffix(".reached")
        self._mark = uuid4().hex

    def run(self, size: int) -> list[dict[str, object]]:
        """Return what was recorded of each test."""
        self._records.write_text("", encoding="utf-8")
        self._reached.write_bytes(bytes(size))
        while True:
            hung = self._once([str(record["test"]) for record in self._read()])
            if not hung:
                return self._read()
            # It counts as reached by what it reached so far. As a test that failed it proves nothing by itself.
            record = {"test": hung, "seconds": _MOST_SECONDS, "is_long": self._files[0].is_long, "failed": True}
            with self._records.open("a", encoding="utf-8") as file:
                record |= {"skipped": False, "reached": recording.read(self._reached)}
                file.write(json.dumps(record) + "\n")

    def _read(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self._records.read_text("utf-8").splitlines()]

    def _once(self, done: list[str]) -> str:
        """Run the tests that are not done; return the one that did not end, or that ended the process, if any."""
        note = selecting.note_path(self._list)
        note.unlink(missing_ok=True)
        selecting.choose(self._list, (file.path for file in self._files), without=done)
        marked = f"{_FIT} and {'long' if self._files[0].is_long else 'not long'}"
        options = ["-q", "-p", "mutation.selecting", "-p", "mutation.recording", "-p", "no:cacheprovider", "-m", marked]
        options += ["--server", "embedded", "--tb=no", "--timeout", "0", "--continue-on-collection-errors"]
        command = [sys.executable, "-m", "pytest", *options, *(file.path for file in self._files)]
        names = {
            selecting.LIST: str(self._list),
            recording.RECORDS: str(self._records),
            blocks.PATH: str(self._reached),
            leftovers.MARK: self._mark,
        }
        with subprocess.Popen(
            command,
            cwd=self._copy,
            env=tree.environment(self._copy, **names),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a pipe would be held open by what a test leaves behind
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                return self._watch(process, note)
            finally:
                leftovers.end_marked(self._mark)

    def _watch(self, process: subprocess.Popen[bytes], note: Path) -> str:
        """Wait for the end, from outside of the process: one that spins or waits for its threads cannot end itself."""
        changed = _Changes(lambda: (_modified(note), _modified(self._records)))
        while True:
            with suppress(subprocess.TimeoutExpired):
                return "" if process.wait(0.2) in _ENDED else self._under_way(note)
            if (age := changed.age()) > _MOST_SECONDS:
                test = self._under_way(note)
                if test or age > _START:
                    return test

    def _under_way(self, note: Path) -> str:
        test = selecting.read(note).test
        return "" if test in {record["test"] for record in self._read()} else test


class _Changes:
    """How long a value has been as it is."""

    def __init__(self, value: Callable[[], object]) -> None:
        self._value = value
        self._last = value()
        self._since = time.monotonic()

    def age(self) -> float:
        value = self._value()
        if value != self._last:
            self._last, self._since = value, time.monotonic()
        return time.monotonic() - self._since


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _file_record(file: _File, records: Iterable[dict[str, object]], modules: list[_Module]) -> FileRecord:
    tests: list[Recorded] = []
    masks: dict[str, dict[int, int]] = defaultdict(dict)
    paths = [(module, number) for module in modules for number in range(module.end - module.first)]
    for record in records:
        test = Recorded(str(record["test"]), float(str(record["seconds"])), file.is_long, bool(record["failed"]))
        if test.path != file.path or record["skipped"]:
            continue
        reached = record["reached"]
        assert isinstance(reached, list)
        for each in reached:
            module, number = paths[each]
            of_module = masks[module.path]
            of_module[number] = of_module.get(number, 0) | 1 << len(tests)
        tests.append(test)
    sources = {module.path: module.digest for module in modules if module.path in masks}
    return FileRecord(file.path, file.is_long, file.digest, tests, sources, dict(masks))
