"""Hooks of an app: around its tasks, and around the life of its workers."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from herdmaster import ConfigurationError, Future, Herd
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.worker.worker import Worker, WorkerSettings
from herdmaster.running.current import CurrentTask
from herdmaster.testing.running import RunningRoles
from tests.api import tasks
from tests.api.conftest import SESSION_TIMEOUT

pytestmark = pytest.mark.long


def _serving(herd: Herd) -> RunningRoles:
    settings = WorkerSettings(SESSION_TIMEOUT, slots=2, drain_timeout=5.0)
    worker = Worker(herd.hosts, herd._core.registry.functions, settings, hooks=herd._core.registry.hooks)
    return RunningRoles(worker, Master(herd.hosts, MasterSettings(SESSION_TIMEOUT)))


def test_hooks_are_called_around_each_task_and_around_the_worker(
    namespace: str, make_herd: Callable[..., Herd]
) -> None:
    herd = make_herd(namespace)
    add, fail = herd.task(tasks.add), herd.task(tasks.fail)
    seen: list[object] = []
    herd.on_worker_start(lambda: seen.append("start"))
    herd.on_worker_stop(lambda: seen.append("stop"))

    @herd.before_task
    def before(task: CurrentTask) -> None:
        seen.append(("before", task.name))

    herd.before_task(lambda task: seen.append("before, too"))
    herd.after_task(lambda task, result: seen.append(("after", task.name, result)))
    herd.on_error(lambda task, error: seen.append((task.name, repr(error))))

    with _serving(herd):
        done = add.submit(2, 3)
        assert done.result(30) == 5
        failed = fail.submit("ValueError", "wrong")
        with pytest.raises(ValueError, match="wrong"):
            failed.result(30)

    assert seen == [
        "start",
        ("before", done.name),
        "before, too",
        ("after", done.name, 5),
        ("before", failed.name),
        "before, too",
        (failed.name, "ValueError('wrong')"),
        "stop",
    ]
    assert before.__name__ == "before"


def test_the_hooks_of_a_workers_life_may_submit(namespace: str, make_herd: Callable[..., Herd]) -> None:
    herd = make_herd(namespace)
    add, double = herd.task(tasks.add), herd.task(tasks.echo)
    futures: list[Future[int] | Future[object]] = []

    @herd.on_worker_start
    def plain() -> None:
        futures.append(add.submit(2, 3))

    @herd.on_worker_start
    async def coroutine() -> None:
        futures.append(await double.submit_async("started"))

    @herd.on_worker_stop
    async def stop() -> None:
        futures.append(await add.submit_async(1, 2))

    with _serving(herd):
        while len(futures) < 2:
            time.sleep(0.01)
        assert [future.result(30) for future in futures] == [5, "started"]
    assert [future.name for future in futures[2:]] == [futures[-1].name]
    assert len(futures) == 3


def test_a_hook_that_raises_keeps_no_other_hook_and_no_task_from_going_on(
    namespace: str, make_herd: Callable[..., Herd], caplog: pytest.LogCaptureFixture
) -> None:
    herd = make_herd(namespace)
    add = herd.task(tasks.add)
    seen: list[str] = []

    @herd.before_task
    def broken(task: CurrentTask) -> None:
        raise LookupError("of the hook")

    herd.before_task(lambda task: seen.append(task.name))
    with _serving(herd):
        future = add.submit(2, 3)
        assert future.result(30) == 5

    assert seen == [future.name]
    assert "before_task failed" in caplog.text
    assert "of the hook" in caplog.text


async def _coroutine(task: object) -> None: ...


@pytest.mark.parametrize(
    ("kind", "hook", "says"),
    [
        ("before_task", lambda: None, r"the before_task hook is called as hook\(task\), which it does not take"),
        ("after_task", lambda task: None, r"called as hook\(task, result\)"),
        ("on_error", lambda: None, r"called as hook\(task, error\)"),
        ("on_worker_start", lambda worker: None, r"called as hook\(\)"),
        ("on_worker_stop", "stop", r"takes a function that is called as hook\(\), not 'stop'"),
        ("before_task", _coroutine, "not awaited: make it a plain `def`"),
    ],
)
def test_a_hook_that_could_not_be_called_is_refused_where_it_is_registered(kind: str, hook: object, says: str) -> None:
    herd = Herd("localhost:1")

    with pytest.raises(ConfigurationError, match=says):
        getattr(herd, kind)(hook)


def test_an_app_without_hooks_has_none() -> None:
    hooks = Herd("localhost:1")._core.registry.hooks

    assert [getattr(hooks, name) for name in hooks.__struct_fields__] == [None, None, None, None, (), ()]
