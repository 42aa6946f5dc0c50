"""A pytest plugin that runs the tests of a list, in its order. A file in the list stands for all of its tests.

A test that is not there any more is left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import pytest

LIST: Final = "HERD_MUTATION_TESTS"
_LATE: Final = "Timeout ("  # how pytest-timeout begins


@dataclass(frozen=True, slots=True)
class Note:
    """The test that failed, else the test that ran last."""

    test: str = ""
    is_late: bool = False


def note_path(tests: Path) -> Path:
    """Return the path of the note beside the list of tests."""
    return tests.with_name(tests.name + ".note")


def read(path: Path) -> Note:
    """Return the note, an empty one if no test has begun."""
    return Note(**json.loads(path.read_text("utf-8"))) if path.exists() else Note()


def choose(path: Path, tests: Iterable[str], without: Iterable[str]) -> None:
    """Write the list of tests. Tests in `without` do not run, although their file may be in the list."""
    path.write_text(json.dumps({"tests": list(tests), "without": list(without)}), encoding="utf-8")


def _write(note: Note) -> None:
    note_path(Path(os.environ[LIST])).write_text(json.dumps(asdict(note)), encoding="utf-8")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = json.loads(Path(os.environ[LIST]).read_text("utf-8"))
    place = {test: number for number, test in enumerate(chosen["tests"])}
    places = {item: None if item.nodeid in chosen["without"] else _place(item, place) for item in items}
    config.hook.pytest_deselected(items=[item for item in items if places[item] is None])
    items[:] = sorted((item for item in items if places[item] is not None), key=lambda item: places[item] or 0)


def _place(item: pytest.Item, place: dict[str, int]) -> int | None:
    return place.get(item.nodeid, place.get(item.nodeid.partition("::")[0]))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logstart(nodeid: str) -> None:
    """Note the test that runs: one that never ends reports nothing."""
    _write(Note(nodeid))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the test that failed. Pytest's summary does not give every name as it is."""
    if report.failed:
        _write(Note(report.nodeid, _LATE in str(report.longrepr)))
