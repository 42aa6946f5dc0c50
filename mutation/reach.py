"""Which tests reach which lines: recorded by coverage, in one run of all tests, and kept until tests change.

A record is a layer: the tests that were run, what coverage saw, and the sources as they were then. Where a test file
has changed since, a newer layer has its tests; where a source has changed since, its lines are matched by their text.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Final
from uuid import uuid4

import coverage

from mutation import leftovers, recording, tree

FOLDER: Final = tree.BUILD / "reach"
_FIT: Final = "not apache and not slow"
_MOST_SECONDS: Final = 20.0
_PART_SECONDS: Final = 900.0  # a few tests hang under coverage, also past their time limit
_FILES_OF_A_LAYER: Final = 8
_SIMULATION: Final = "tests/simulation"  # its long tests reach almost everything, and take minutes
LEFT_OUT: Final = ("tests/docs", "tests/scripts", "tests/chaos", "tests/mutation", "tests/zookeeper/server")

# These raise exceptions in running threads. Coverage swallows some of them, and then their tests spin without an end.
# They run for every module of `pools`.
_UNFIT: Final = ("tests/order/test_pool_order.py", "tests/pools/test_seat.py", "tests/pools/test_thread_limits.py")

_COVERAGE: Final = """\
[run]
parallel = true
patch = subprocess
source_pkgs = herdmaster
data_file = {data}
context = ${{HERD_MUTATION_TEST-}}
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A test as it was recorded. Some fail while coverage looks on, because it swallows what is raised in a thread."""

    name: str
    seconds: float
    is_long: bool
    failed: bool = False

    @property
    def path(self) -> str:
        return self.name.partition("::")[0]


class Layer:
    """One record, read from its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, str] = json.loads((folder / "files.json").read_text("utf-8"))
        self.tests = {test.name: test for test in _read_tests(folder / "tests")}
        self._data = coverage.CoverageData(str(folder / "coverage"))
        self._data.read()
        self._measured = {_relative(path): path for path in self._data.measured_files()}

    def reaching(self, path: str, source: str, lines: Iterable[int]) -> set[str]:
        """Return the names of the tests that reach one of these lines of this source."""
        measured = self._measured.get(path)
        before = self.folder / "tree" / path
        if measured is None or not before.exists():
            return set()
        contexts = self._data.contexts_by_lineno(measured)
        then = matching_lines(before.read_text("utf-8"), source)
        return {name for line in lines if line in then for name in contexts.get(then[line], ())}


class Reach:
    """All layers, the newest last."""

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = layers

    def reaching(self, path: str, source: str, lines: Iterable[int]) -> list[Recorded]:
        """Return the tests that reach one of these lines; each as the newest layer that has its file knows it."""
        wanted = list(lines)
        newest = {name: layer for layer in self._layers for name in layer.files}
        return self._unrecorded(path) + [
            layer.tests[name]
            for layer in self._layers
            for name in sorted(layer.reaching(path, source, wanted))
            if name in layer.tests and newest.get(layer.tests[name].path) is layer
        ]

    def near(self, path: str) -> list[Recorded]:
        """Return all recorded tests of the module's folder."""
        folder = f"tests/{Path(path).relative_to(tree.PACKAGE).parent}/"
        found = {test.name: test for layer in self._layers for test in layer.tests.values()}
        return [test for test in found.values() if test.path.startswith(folder)]

    def _unrecorded(self, path: str) -> list[Recorded]:
        """Return whole test files: those of the module's folder that were never recorded, and the module's own, because
        a record is out of date where the module has changed much."""
        known = {name for layer in self._layers for name in layer.files}
        folder = tree.ROOT / "tests" / Path(path).relative_to(tree.PACKAGE).parent
        own = str((folder / f"test_{Path(path).stem}.py").relative_to(tree.ROOT))
        names = {str(file.relative_to(tree.ROOT)): None for file in sorted(folder.glob("test_*.py"))}
        if folder.name == "pools":
            names |= dict.fromkeys(_UNFIT)
        return [Recorded(name, 5.0, is_long=False, failed=True) for name in names if name not in known or name == own]


def load() -> Reach:
    """Return all records."""
    return Reach(_layers())


def record(*, anew: bool, only: list[str] | None = None, processes: int = 2) -> None:
    """Record the tests whose files have changed since they were recorded; of these only those below some paths."""
    if anew:
        shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    known: dict[str, str] = {}
    for layer in _layers():
        known |= layer.files
    changed = {path: digest for path, digest in _test_files(only).items() if known.get(path) != digest}
    simulated = {path for path in changed if path.startswith(_SIMULATION)}
    for paths, marked in ((simulated, f"{_FIT} and not long"), (changed.keys() - simulated, _FIT)):
        # In parts, so that a run that is interrupted has not been for nothing.
        for part in _batched(sorted(paths), _FILES_OF_A_LAYER):
            _record({path: changed[path] for path in part}, marked, processes)


def _batched(paths: list[str], size: int) -> Iterator[list[str]]:
    return (paths[start : start + size] for start in range(0, len(paths), size))


def matching_lines(before: str, now: str) -> dict[int, int]:
    """Return for each line of the present text that stood in the earlier one where it stood; both count from 1."""
    if before == now:
        return {line: line for line in range(1, now.count("\n") + 2)}
    matcher = SequenceMatcher(None, before.splitlines(), now.splitlines(), autojunk=False)
    return {
        block.b + offset + 1: block.a + offset + 1
        for block in matcher.get_matching_blocks()
        for offset in range(block.size)
    }


def _layers() -> list[Layer]:
    folders = (path for path in FOLDER.iterdir() if (path / "files.json").exists())
    return [Layer(path) for path in sorted(folders, key=lambda path: int(path.name))]


def _test_files(only: list[str] | None) -> dict[str, str]:
    paths = [str(path.relative_to(tree.ROOT)) for path in (tree.ROOT / "tests").rglob("test_*.py")]
    chosen = [
        path
        for path in paths
        if not path.startswith((*LEFT_OUT, *_UNFIT)) and (not only or path.startswith(tuple(only)))
    ]
    return {path: hashlib.sha256((tree.ROOT / path).read_bytes()).hexdigest() for path in sorted(chosen)}


def _record(files: dict[str, str], marked: str, processes: int) -> None:
    folder = FOLDER / str(1 + max((int(path.name) for path in FOLDER.iterdir()), default=0))
    copy = folder / "tree"
    tree.copy_to(copy)
    (folder / "tests").mkdir()
    settings = folder / "coveragerc"
    settings.write_text(_COVERAGE.format(data=folder / "coverage"), encoding="utf-8")
    command = [sys.executable, "-m", "coverage", "run", "--rcfile", str(settings), "-m", "pytest", "-q"]
    options = ["-n", str(processes), "-p", "mutation.recording", "-p", "no:cacheprovider", "--server", "embedded"]
    options += ["-m", marked, "--timeout", str(_MOST_SECONDS)]
    more = {recording.FOLDER: str(folder / "tests"), recording.CONTEXT: ""}
    mark = uuid4().hex
    environment = tree.environment(copy, **more, **{leftovers.MARK: mark})
    try:
        subprocess.run([*command, *options, *files], cwd=copy, env=environment, check=False, timeout=_PART_SECONDS)
    except subprocess.TimeoutExpired:
        print("not recorded, so they run for every module of their folder:", *files, flush=True)
        return
    finally:
        leftovers.end_marked(mark)
    combine = [sys.executable, "-m", "coverage", "combine", "--quiet", "--rcfile", str(settings)]
    subprocess.run(combine, cwd=copy, check=True)
    (folder / "files.json").write_text(json.dumps(files), encoding="utf-8")


def _read_tests(folder: Path) -> Iterator[Recorded]:
    """Return the tests that were not skipped. Setup and teardown count too."""
    tests: dict[str, Recorded] = {}
    skipped: set[str] = set()
    for path in folder.glob("*.jsonl"):
        for record in map(json.loads, path.read_text("utf-8").splitlines()):
            name = record["test"]
            known = tests.get(name, Recorded(name, 0.0, record["long"]))
            seconds = min(known.seconds + record["seconds"], _MOST_SECONDS)
            tests[name] = replace(known, seconds=seconds, failed=known.failed or record["failed"])
            if record["skipped"]:
                skipped.add(name)
    return (test for test in tests.values() if test.name not in skipped)


def _relative(path: str) -> str:
    return "src/" + path.rpartition("/src/")[2]
