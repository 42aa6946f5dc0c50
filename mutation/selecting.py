"""A pytest plugin that runs the tests of a list, in its order. A test that is not there any more is left out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import pytest

LIST: Final = "HERD_MUTATION_TESTS"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = json.loads(Path(os.environ[LIST]).read_text("utf-8"))
    place = {test: number for number, test in enumerate(chosen)}
    others = [item for item in items if item.nodeid not in place]
    config.hook.pytest_deselected(items=others)
    items[:] = sorted((item for item in items if item.nodeid in place), key=lambda item: place[item.nodeid])
