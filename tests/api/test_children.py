"""Children of tasks: they are cancelled when their parent is, or when it exceeds a time limit."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from herdmaster import AsyncTask, ConfigurationError, Future, HerdExecutor, NoCurrentTask, Task, TaskCancelled
from herdmaster.errors import SoftTimeLimitExceeded, TimeLimitExceeded
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.testing import task_context
from herdmaster.testing.child_server import ChildServer
from herdmaster.testing.running import RunningRoles, make_namespace_of, make_workers
from tests.api import child_app
from tests.api.conftest import SESSION_TIMEOUT
from tests.api.znodes import wait_until

PATIENCE = 30.0
POOLS = ["thread", "process", "asyncio"]


@pytest.fixture(scope="module")
def running(shared_zookeeper: ChildServer) -> Iterator[None]:
    hosts = f"{shared_zookeeper.hosts}/children-{uuid.uuid4().hex}"
    make_namespace_of(hosts)
    with child_app.herd.directed_to(hosts):
        workers = make_workers(child_app.herd, hosts, 1, 8, SESSION_TIMEOUT)
        with RunningRoles(*workers, Master(hosts, MasterSettings(SESSION_TIMEOUT))):
            yield


def submit(pool: str, folder: Path, then: str, **options: Any) -> Future[str]:
    task: Task[[Path, str], str] | AsyncTask[[Path, str], str] = child_app.have_children_async
    if pool != "asyncio":
        task = child_app.have_children.options(pool="process" if pool == "process" else "thread")
    return task.options(**options).submit(folder, then)


def children(folder: Path) -> list[Future[object]]:
    wait_until((folder / "children").exists, "children", PATIENCE)
    return [child_app.herd.future(name) for name in (folder / "children").read_text().split()]


def assert_cancelled(futures: list[Future[object]]) -> None:
    assert len(futures) == 3
    for future in futures:
        with pytest.raises(TaskCancelled):
            future.result(PATIENCE)


@pytest.mark.long
@pytest.mark.parametrize("pool", POOLS)
def test_who_cancels_a_task_cancels_its_children(running: None, tmp_path: Path, pool: str) -> None:
    parent = submit(pool, tmp_path, "wait")
    found = children(tmp_path)
    assert parent.cancel(PATIENCE)
    assert_cancelled(found)


@pytest.mark.long
@pytest.mark.parametrize("timeout", [None, 2.0])
def test_a_flow_is_cancelled_with_its_parent(running: None, tmp_path: Path, timeout: float | None) -> None:
    parent = child_app.have_a_flow.options(timeout=timeout).submit(tmp_path)
    wait_until((tmp_path / "children").exists, "the flow", PATIENCE)
    flow = child_app.herd.flow_run((tmp_path / "children").read_text())
    if timeout is None:
        assert parent.cancel(PATIENCE)
    with pytest.raises(TaskCancelled):
        flow.result(PATIENCE)


@pytest.mark.long
@pytest.mark.parametrize("pool", POOLS)
def test_a_time_limit_of_a_task_cancels_its_children(running: None, tmp_path: Path, pool: str) -> None:
    parent = submit(pool, tmp_path, "wait", timeout=2.0)
    with pytest.raises(TimeLimitExceeded):
        parent.result(PATIENCE)
    assert_cancelled(children(tmp_path))


@pytest.mark.long
def test_a_soft_limit_that_ends_the_code_cancels_too(running: None, tmp_path: Path) -> None:
    parent = submit("asyncio", tmp_path, "wait", soft_timeout=2.0)
    with pytest.raises(SoftTimeLimitExceeded):
        parent.result(PATIENCE)
    assert_cancelled(children(tmp_path))


@pytest.mark.long
@pytest.mark.parametrize("then", ["return", "fail"])
def test_children_of_a_task_that_returned_or_failed_go_on(running: None, tmp_path: Path, then: str) -> None:
    parent = submit("thread", tmp_path, then)
    assert isinstance(parent.exception(PATIENCE), LookupError if then == "fail" else type(None))
    found = children(tmp_path)
    assert not any(future.done() for future in found)
    assert all(future.cancel(PATIENCE) for future in found)


def test_a_child_needs_a_parent() -> None:
    with pytest.raises(NoCurrentTask, match="child=True is for a task that submits"):
        _ = child_app.child.submit()


def test_what_cannot_have_children_says_so() -> None:
    with pytest.raises(ConfigurationError, match="map submits no children"):
        child_app.child.map([])
    with pytest.raises(ConfigurationError, match="an executor submits no children"):
        HerdExecutor(child_app.herd, child=True).submit(child_app.never).cancel()
    with pytest.raises(ConfigurationError, match="a schedule submits no children"):
        child_app.herd.schedule("children", child_app.child, every=60)
    with pytest.raises(ConfigurationError, match="child=5"):
        child_app.never.options(child=5)  # type: ignore[arg-type]  # as a caller without types may


@pytest.mark.long
def test_a_task_context_has_children_and_does_not_show_them_as_saved(running: None) -> None:
    with task_context() as task:
        future = child_app.child.submit()
    assert task.saved == {}
    assert future.cancel(PATIENCE)
