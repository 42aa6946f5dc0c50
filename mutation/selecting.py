"""A pytest plugin that runs the tests of a list, in its order. A file in the list stands for all of its tests.

A test that is not there any more is left out.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import pytest

LIST: Final = "HERD_MUTATION_TESTS"
FAILED: Final = ".failed"
"""What is added to the path of the list for the file with the name of the test that failed."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = json.loads(Path(os.environ[LIST]).read_text("utf-8"))
    place = {test: number for number, test in enumerate(chosen)}
    places = {item: _place(item, place) for item in items}
    config.hook.pytest_deselected(items=[item for item in items if places[item] is None])
    items[:] = sorted((item for item in items if places[item] is not None), key=lambda item: places[item] or 0)


def _place(item: pytest.Item, place: dict[str, int]) -> int | None:
    return place.get(item.nodeid, place.get(item.nodeid.partition("::")[0]))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the test that failed. Pytest's summary does not give every name as it is."""
    if report.failed:
        Path(os.environ[LIST] + FAILED).write_text(report.nodeid, encoding="utf-8")
