"""Delay, expiry and retries, end to end, and across the death of a primary."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from herdmaster import ConfigurationError, Herd, Retry, TaskExpired, TaskFailed
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.testing.running import RunningRoles
from tests.api import tasks
from tests.api.conftest import SESSION_TIMEOUT, run_roles
from tests.api.tasks import App
from tests.api.znodes import Znodes, wait_until

pytestmark = pytest.mark.long

PATIENCE = 40.0

attempts: Counter[str] = Counter()


def fail_twice(key: str) -> int:
    attempts[key] += 1
    if attempts[key] < 3:
        raise ConnectionError(f"attempt {attempts[key]}")
    return attempts[key]


def ask_for_more(key: str) -> int:
    attempts[key] += 1
    if attempts[key] < 2:
        raise Retry("not yet", after=0.1)
    return attempts[key]


def fail_for_good(key: str) -> None:
    attempts[key] += 1
    raise LookupError("for good")


def test_a_delayed_task_runs_when_its_time_has_come_and_not_before(app: App) -> None:
    started = time.monotonic()
    later = app.add.options(delay=1.5).submit(2, 3)
    at = app.add.options(at=datetime.now(UTC) + timedelta(seconds=1.5)).submit(3, 4)
    assert app.add.submit(1, 1).result(PATIENCE) == 2

    assert later.result(PATIENCE) == 5
    assert at.result(PATIENCE) == 7
    assert time.monotonic() - started >= 1.4


def test_delayed_tasks_outlive_every_role(quiet: App, namespace: str, znodes: Callable[[str], Znodes]) -> None:
    with run_roles(namespace):
        futures = [quiet.count.options(delay=2.0).submit(f"{namespace}-{number}") for number in range(20)]
        assert quiet.add.submit(1, 1).result(PATIENCE) == 2
    assert len(znodes(namespace).children("delayed")) + sum(future.done() for future in futures) <= 20
    with run_roles(namespace):
        assert [future.result(PATIENCE) for future in futures] == [f"{namespace}-{number}" for number in range(20)]
    assert [tasks.executions[f"{namespace}-{number}"] for number in range(20)] == [1] * 20


def test_what_has_not_started_in_time_ends_as_expired(quiet: App, namespace: str) -> None:
    waiting = quiet.add.options(expires=0.5).submit(2, 3)
    delayed = quiet.add.options(delay=0.3, expires=0.5).submit(2, 3)
    with RunningRoles(Master(namespace, MasterSettings(SESSION_TIMEOUT))):  # and no worker
        for future in (waiting, delayed):
            with pytest.raises(TaskExpired):
                future.result(PATIENCE)


def test_what_starts_in_time_does_not_expire(app: App) -> None:
    assert app.add.options(expires=60).submit(2, 3).result(PATIENCE) == 5


def test_a_task_is_tried_again_until_it_succeeds(namespace: str, make_herd: Callable[..., Herd], gate: str) -> None:
    herd = make_herd(namespace)
    retried = herd.task(max_attempts=5, backoff=0.05, retry_on=OSError)(fail_twice)
    asking = herd.task(max_attempts=2)(ask_for_more)
    with run_roles(namespace, herd._core.registry.functions):
        assert retried.submit(gate).result(PATIENCE) == 3
        assert asking.submit(f"{gate}-asking").result(PATIENCE) == 2


def test_options_of_one_task_change_how_it_is_tried(
    namespace: str, make_herd: Callable[..., Herd], gate: str, znodes: Callable[[str], Znodes]
) -> None:
    herd = make_herd(namespace)
    task = herd.task(max_attempts=5, backoff=0)(fail_for_good)
    with run_roles(namespace, herd._core.registry.functions):
        often = task.options(max_attempts=3).submit(f"{gate}-often")
        once = task.options(give_up_on=LookupError).submit(f"{gate}-once")
        for future in (often, once):
            with pytest.raises(LookupError, match="for good") as caught:
                future.result(PATIENCE)
            assert isinstance(caught.value.__cause__, TaskFailed)
    assert (attempts[f"{gate}-often"], attempts[f"{gate}-once"]) == (3, 1)


def test_an_ignored_result_is_not_kept(app: App, served: str, znodes: Callable[[str], Znodes], gate: str) -> None:
    future = app.count.options(ignore_result=True).submit(gate)
    wait_until(lambda: tasks.executions[gate] == 1, "it has run", PATIENCE)
    assert app.add.submit(1, 1).result(PATIENCE) == 2

    wait_until(lambda: not znodes(served).has(f"tasks/{future.name}"), "it has gone", PATIENCE)
    assert not znodes(served).has(f"status/{future.name}")


def test_a_map_with_ignored_results_is_refused(quiet: App) -> None:
    with pytest.raises(ConfigurationError, match="use submit_many"):
        quiet.add.options(ignore_result=True).map([1], [2])


def test_a_task_says_what_it_is_while_it_runs(namespace: str, make_herd: Callable[..., Herd]) -> None:
    herd = make_herd(namespace)
    task = herd.task(queue="mail", max_attempts=4)(tell)
    with run_roles(namespace, herd._core.registry.functions):
        future = task.submit()
        assert future.result(PATIENCE) == [future.name, 1, 4, "mail"]


def tell() -> list[object]:
    from herdmaster import current_task

    task = current_task()
    return [task.name, task.attempt, task.max_attempts, task.queue]
