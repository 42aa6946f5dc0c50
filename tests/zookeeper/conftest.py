"""What all tests below need."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            # kazoo's threads, which the fixtures keep, use `random` while hypothesis draws, and it blames the strategy.
            item.add_marker(pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies"))
