"""Which tests reach which lines: recorded file by file, and kept until the file of the tests changes.

Where a source has changed since it was recorded, its lines are matched by their text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Final

from mutation import blocks, tree

FOLDER: Final = tree.BUILD / "reach"
_SOURCES: Final = FOLDER / "sources"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A test as it was recorded."""

    name: str
    seconds: float
    is_long: bool
    failed: bool = False

    @property
    def path(self) -> str:
        return self.name.partition("::")[0]


@dataclass(frozen=True, slots=True)
class FileRecord:
    """The fast tests, or the long ones, of one file of tests."""

    path: str
    is_long: bool
    digest: str  # of the file of tests
    tests: list[Recorded]
    sources: dict[str, str]  # the digest of each module that was reached, by its path
    reached: dict[str, dict[int, int]]  # by the module's path and the number of the block: bit n is test n

    def reaching(self, path: str, source: str, lines: Iterable[int]) -> list[Recorded]:
        """Return the tests that reach one of these lines of this source."""
        digest = self.sources.get(path)
        if digest is None:
            return []
        then = _lines_then(digest, source)
        by_line = _blocks(digest).by_line
        of_blocks = self.reached[path]
        mask = 0
        for number in {block for line in lines if line in then for block in by_line.get(then[line], ())}:
            mask |= of_blocks.get(number, 0)
        return [test for bit, test in enumerate(self.tests) if mask >> bit & 1]


class Reach:
    """All records."""

    def __init__(self, records: Iterable[FileRecord]) -> None:
        self._records = list(records)

    def reaching(self, path: str, source: str, lines: Iterable[int]) -> list[Recorded]:
        """Return the tests that reach one of these lines, after the files of tests that are taken as a whole."""
        wanted = list(lines)
        found = [test for record in self._records for test in record.reaching(path, source, wanted)]
        return self._whole_files(path) + found

    def near(self, path: str) -> list[Recorded]:
        """Return all recorded tests of the module's folder."""
        folder = f"tests/{Path(path).relative_to(tree.PACKAGE).parent}/"
        return [test for record in self._records for test in record.tests if test.path.startswith(folder)]

    def _whole_files(self, path: str) -> list[Recorded]:
        """Return the files of the module's folder that were never recorded, and the module's own, because a record is
        out of date where the module has changed much."""
        known = {record.path for record in self._records}
        folder = tree.ROOT / "tests" / Path(path).relative_to(tree.PACKAGE).parent
        own = str((folder / f"test_{Path(path).stem}.py").relative_to(tree.ROOT))
        names = [str(file.relative_to(tree.ROOT)) for file in sorted(folder.glob("test_*.py"))]
        return [Recorded(name, 5.0, is_long=False, failed=True) for name in names if name not in known or name == own]


def load() -> Reach:
    return Reach(_read(path) for path in sorted(FOLDER.glob("*.json")))


def known(path: str, *, is_long: bool) -> str | None:
    """Return the digest that this file of tests had when it was recorded."""
    file = _place(path, is_long=is_long)
    return str(json.loads(file.read_text("utf-8"))["digest"]) if file.exists() else None


def keep(record: FileRecord) -> None:
    """Write the record in one step, so that a run that is killed leaves none that is incomplete."""
    place = _place(record.path, is_long=record.is_long)
    new = place.with_suffix(".new")
    new.write_text(json.dumps(asdict(record)), encoding="utf-8")
    new.replace(place)


def keep_source(source: str) -> str:
    """Keep a module as it is now, and return its digest."""
    name = digest(source)
    _SOURCES.mkdir(parents=True, exist_ok=True)
    (_SOURCES / name).write_text(source, encoding="utf-8")
    return name


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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


@cache
def _blocks(name: str) -> blocks.Blocks:
    return blocks.of_source((_SOURCES / name).read_text("utf-8"))


@cache
def _lines_then(name: str, source: str) -> dict[int, int]:
    return matching_lines((_SOURCES / name).read_text("utf-8"), source)


def _place(path: str, *, is_long: bool) -> Path:
    return FOLDER / f"{path.removesuffix('.py').replace('/', '.')}.{'long' if is_long else 'fast'}.json"


def _read(path: Path) -> FileRecord:
    values = json.loads(path.read_text("utf-8"))
    tests = [Recorded(**test) for test in values.pop("tests")]
    reached = {
        module: {int(number): mask for number, mask in masks.items()} for module, masks in values.pop("reached").items()
    }
    return FileRecord(tests=tests, reached=reached, **values)
