"""No test here passes because the client looks again after a while, unless it says so by a shorter time."""

from __future__ import annotations

import pytest

from herdmaster.roles.client import outcomes


@pytest.fixture(autouse=True)
def _no_later_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_LOOK_SECONDS", "LOOK_AGAIN_SECONDS", "LOOK_AT_ALL_SECONDS"):
        assert hasattr(outcomes, name)
        monkeypatch.setattr(outcomes, name, 3600.0)
