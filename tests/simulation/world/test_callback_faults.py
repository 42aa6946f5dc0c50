"""A callback that fails costs its role a session, and no world a task."""

from __future__ import annotations

import pytest

from herdmaster.roles.shared.role import Role
from tests.simulation.world.callback_faults import Injector

pytestmark = pytest.mark.long

SEEDS = range(200, 212)


def test_worlds_in_which_callbacks_fail_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    injector = Injector(monkeypatch)
    failures = {seed: result.failure for seed in SEEDS if (result := injector.run(seed)).failure is not None}
    assert failures == {}
    assert len(injector.injected) > len(SEEDS)
    assert len(set(injector.injected)) > 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hundreds_of_worlds_in_which_callbacks_fail_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    injector = Injector(monkeypatch)
    failures = {seed: found for seed in range(600_000, 600_500) if (found := injector.run(seed).failure) is not None}
    assert failures == {}


def test_roles_that_go_on_after_it_do_lose_something(monkeypatch: pytest.MonkeyPatch) -> None:
    injector = Injector(monkeypatch)
    monkeypatch.setattr(Role, "_callback_failed", lambda _role, _error: False)
    assert any(injector.run(seed).failure is not None for seed in SEEDS)
