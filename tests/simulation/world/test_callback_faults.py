"""A callback that raises costs its role a session, and never a task."""

from __future__ import annotations

import pytest

from herdmaster.roles.shared.role import Role
from tests.simulation.world.callback_faults import Injector

pytestmark = pytest.mark.long

SEEDS = range(200, 212)


def test_no_task_is_lost_when_callbacks_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    injector = Injector(monkeypatch)
    failures = {seed: result.failure for seed in SEEDS if (result := injector.run(seed)).failure is not None}
    assert failures == {}
    assert len(injector.injected) > len(SEEDS)
    assert len(set(injector.injected)) > 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_task_is_lost_when_callbacks_fail_in_hundreds_of_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    injector = Injector(monkeypatch)
    failures = {seed: found for seed in range(600_000, 600_500) if (found := injector.run(seed).failure) is not None}
    assert failures == {}


def test_checks_fail_if_roles_go_on_after_a_failed_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    injector = Injector(monkeypatch)
    monkeypatch.setattr(Role, "_callback_failed", lambda _role, _error: False)
    assert any(injector.run(seed).failure is not None for seed in SEEDS)
