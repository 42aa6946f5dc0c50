"""A pytest plugin that lets coverage note, for each line, the tests that reach it, and writes how long each test took.

A process that a test starts takes the test's name from the environment.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Final
from uuid import uuid4

import coverage
import pytest

CONTEXT: Final = "HERD_MUTATION_TEST"
FOLDER: Final = "HERD_MUTATION_RECORDS"
_MOST_SECONDS: Final = 25.0

_file: Final = f"{uuid4().hex}.jsonl"
_is_long: dict[str, bool] = {}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    os.environ[CONTEXT] = item.nodeid
    _is_long[item.nodeid] = item.get_closest_marker("long") is not None
    measurement = coverage.Coverage.current()
    if measurement is not None:
        measurement.switch_context(item.nodeid)
    watch = threading.Timer(_MOST_SECONDS, _abandon, (item.nodeid, measurement))
    watch.daemon = True
    watch.start()
    try:
        return (yield)
    finally:
        watch.cancel()
        os.environ[CONTEXT] = ""


def _abandon(test: str, measurement: coverage.Coverage | None) -> None:
    """End this process, which xdist replaces. Coverage swallows exceptions that are raised in another thread, also
    those of pytest-timeout and of soft time limits, and then a test may spin for ever."""
    _write(test, _MOST_SECONDS, failed=True, skipped=False)
    if measurement is not None:
        saving = threading.Thread(target=measurement.save, daemon=True)
        saving.start()
        saving.join(5.0)  # what spins may hold a lock of coverage
    os._exit(1)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.nodeid in _is_long:  # in a process of xdist, not in the one that gathers
        _write(report.nodeid, report.duration, failed=report.failed, skipped=report.skipped)


def _write(test: str, seconds: float, *, failed: bool, skipped: bool) -> None:
    record = {"test": test, "seconds": seconds, "failed": failed, "skipped": skipped, "long": _is_long[test]}
    with (Path(os.environ[FOLDER]) / _file).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
