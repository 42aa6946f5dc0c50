"""A pytest plugin that writes, after each test, how long it took and which blocks it has reached."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

from mutation import blocks

RECORDS: Final = "HERD_MUTATION_RECORDS"  # in the environment: the file that is written

_reports: list[pytest.TestReport] = []


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    reached = Path(os.environ[blocks.PATH])
    _reports.clear()
    clear(reached)
    result = yield
    record = {
        "test": item.nodeid,
        "seconds": sum(report.duration for report in _reports),
        "is_long": item.get_closest_marker("long") is not None,
        "failed": any(report.failed for report in _reports),
        "skipped": any(report.skipped for report in _reports),
        "reached": read(reached),
    }
    with Path(os.environ[RECORDS]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    return result


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _reports.append(report)


def clear(reached: Path) -> None:
    with reached.open("r+b") as file, mmap.mmap(file.fileno(), 0) as notes:
        notes[:] = bytes(len(notes))


def read(reached: Path) -> list[int]:
    """Return the numbers of the blocks that have been reached since the file was cleared."""
    return [number for number, byte in enumerate(reached.read_bytes()) if byte]
