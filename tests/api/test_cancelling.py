"""Cancelling: True means that the task has ended as cancelled; everything else leaves the request standing."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from herdmaster import Future, Herd, TaskCancelled
from herdmaster.api.future import failure_of
from herdmaster.api.task import AsyncTask
from herdmaster.core.layout import parse_delayed_name
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.testing.child_server import ChildServer
from herdmaster.testing.running import RunningRoles
from tests.api import tasks
from tests.api.conftest import SESSION_TIMEOUT, run_roles
from tests.api.tasks import App
from tests.api.znodes import Znodes, expire, session_of, wait_until

pytestmark = [pytest.mark.long, pytest.mark.within(20)]  # after PATIENCE each `cancel` looks once more, and is right

PATIENCE = 30.0


@pytest.fixture
def idle(namespace: str, make_herd: Callable[..., Herd]) -> App:
    """Tasks in a namespace where masters are soon started, and no worker is."""
    return App(make_herd(namespace))


def test_a_running_task_ends_as_cancelled(app: App, served: str, znodes: Callable[[str], Znodes], gate: str) -> None:
    future = app.wait.submit(gate)
    assert tasks.reached[gate].wait(PATIENCE)

    assert future.cancel(PATIENCE) is True
    assert future.cancelled()
    assert future.done()
    assert not future.running()
    with pytest.raises(TaskCancelled, match=f"{future.name} was cancelled"):
        future.result()
    znodes(served).wait_gone(f"status/{future.name}")
    assert not znodes(served).has(f"cancel/{future.name}")


def test_a_delayed_task_can_be_cancelled(app: App, served: str, znodes: Callable[[str], Znodes]) -> None:
    future = app.add.options(delay=3600).submit(2, 3)

    assert future.cancel(PATIENCE) is True
    found = [parse_delayed_name(name) for name in znodes(served).children("delayed")]
    assert future.name not in [each[1] for each in found if each is not None]


async def test_cancelling_in_a_loop(app: App, gate: str) -> None:
    future = await app.wait.submit_async(gate)

    with pytest.raises(RuntimeError, match=r"use `await future\.cancel_async\(\)`"):
        future.cancel()
    assert await future.cancel_async(PATIENCE) is True
    with pytest.raises(TaskCancelled):
        await future
    assert await future.cancel_async() is True
    assert future.cancel() is True  # done: nothing blocks any more


def test_a_task_that_has_ended_is_not_cancelled(app: App) -> None:
    future = app.add.submit(2, 3)
    assert future.result(PATIENCE) == 5
    started = time.monotonic()

    assert future.cancel() is False
    assert not future.cancelled()
    assert time.monotonic() - started < 10
    assert future.result() == 5


def test_without_a_primary_nothing_is_decided_and_the_request_stands(
    quiet: App, namespace: str, znodes: Callable[[str], Znodes]
) -> None:
    future = quiet.add.submit(2, 3)

    assert future.cancel(0.2) is False
    assert not future.done()
    wait_until(lambda: znodes(namespace).children("cancel") == [future.name], "the request stands")
    with RunningRoles(Master(namespace, MasterSettings(SESSION_TIMEOUT))), pytest.raises(TaskCancelled):
        future.result(PATIENCE)


async def test_so_it_is_in_a_loop(quiet: App) -> None:
    future = await quiet.add.submit_async(2, 3)

    assert await future.cancel_async(0.2) is False
    assert not future.done()


def test_several_may_cancel_one_task(app: App, gate: str) -> None:
    future = app.wait.submit(gate)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        told = list(threads.map(lambda _: future.cancel(PATIENCE), range(4)))

    assert told == [True] * 4


def test_who_asks_when_the_outcome_has_just_been_collected_is_told_of_it(
    app: App, gate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    future = app.wait.submit(gate)
    assert future.cancel(PATIENCE) is True
    answers = iter([False])  # as it was a moment ago
    monkeypatch.setattr(future, "done", lambda: next(answers, True))

    assert future.cancel(PATIENCE) is True


def test_another_process_worth_of_herd_may_cancel_by_name(
    app: App, served: str, make_herd: Callable[..., Herd], gate: str
) -> None:
    name = app.wait.submit(gate).name
    gc.collect()  # without a future here, the outcome stays until the other side sees it
    other = make_herd(served).future(name)

    assert other.cancel(PATIENCE) is True
    assert other.cancelled()


CANCELLER = """\
import sys
from herdmaster import Herd

with Herd(sys.argv[1], session_timeout=2.0) as herd:
    print(herd.future(sys.argv[2]).cancel(90))
"""


@pytest.mark.within(80)  # the start of the process is part of it
@pytest.mark.timeout(180)
def test_another_process_may_cancel_by_name(app: App, served: str, gate: str) -> None:
    name = app.wait.submit(gate).name
    gc.collect()
    ended = subprocess.run(
        [sys.executable, "-c", CANCELLER, served, name], capture_output=True, text=True, check=False, timeout=120
    )

    assert (ended.stderr, ended.stdout, ended.returncode) == ("", "True\n", 0)


def test_who_waits_for_a_task_that_another_one_cancels_is_told(
    app: App, served: str, make_herd: Callable[..., Herd], gate: str
) -> None:
    future = app.wait.submit(gate)
    make_herd(served).future(future.name).cancel_nowait()

    with pytest.raises(TaskCancelled):
        future.result(PATIENCE)


def test_a_callback_may_cancel_others(app: App, gate: str) -> None:
    victim = app.wait.submit(gate)
    told: list[bool] = []
    ended = threading.Event()

    def cancel(_done: object) -> None:
        told.append(victim.cancel(PATIENCE))
        ended.set()

    app.add.submit(2, 3).add_done_callback(cancel)
    assert ended.wait(PATIENCE)
    assert told == [True]


def test_a_callback_of_a_cancelled_future_is_called(app: App, gate: str) -> None:
    future = app.wait.submit(gate)
    seen: list[bool] = []
    ended = threading.Event()

    def note(done: concurrent.futures.Future[str]) -> None:
        seen.append(done.cancelled())
        ended.set()

    future.add_done_callback(note)
    assert future.cancel(PATIENCE)
    assert ended.wait(PATIENCE)
    assert seen == [True]


def test_a_submission_that_is_not_accepted_yet_is_cancelled_once_it_is(app: App, gate: str) -> None:
    futures: list[Future[str]] = [
        app.herd._core.begin_task(app.wait._core.callee(), (gate,), {}, app.wait._core.options) for _ in range(5)
    ]

    assert [future.cancel(PATIENCE) for future in futures] == [True] * 5


def test_many_are_cancelled_at_once(idle: App, namespace: str) -> None:
    tasks_of_it = [idle.add.options(delay=3600).submit(1, 1) for _ in range(200)]
    with run_roles(namespace), concurrent.futures.ThreadPoolExecutor(32) as threads:
        assert all(threads.map(lambda future: future.cancel(PATIENCE), tasks_of_it))


def test_a_task_whose_result_is_ignored_can_be_cancelled(app: App) -> None:
    future = app.add.options(delay=3600, ignore_result=True).submit(2, 3)

    assert future.cancel(PATIENCE) is True


def test_closing_ends_the_wait_for_a_verdict(quiet: App) -> None:
    future = quiet.add.submit(2, 3)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        cancelling = threads.submit(future.cancel, PATIENCE)
        wait_until(lambda: bool(quiet.herd._core.started()._client.cancels._answers), "it is asked for")
        started = time.monotonic()
        quiet.herd.close()
        assert cancelling.result(PATIENCE) is False
    assert time.monotonic() - started < PATIENCE / 2


def test_a_request_outlives_the_session(
    idle: App, shared_zookeeper: ChildServer, namespace: str, znodes: Callable[[str], Znodes]
) -> None:
    future = idle.add.options(delay=3600).submit(2, 3)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        cancelling = threads.submit(future.cancel, PATIENCE)
        wait_until(lambda: znodes(namespace).children("cancel") == [future.name], "it is asked for")
        expire(shared_zookeeper.hosts, session_of(idle.herd))
        with run_roles(namespace):
            assert cancelling.result(PATIENCE) is True


def test_a_request_outlives_the_primary(idle: App, namespace: str, znodes: Callable[[str], Znodes]) -> None:
    with run_roles(namespace):
        future = idle.add.options(delay=3600).submit(2, 3)
    assert future.cancel(0.2) is False
    with run_roles(namespace):
        wait_until(future.cancelled, "the next primary fulfils it", PATIENCE)


async def _sleep(gate: str) -> None:
    tasks.reached[gate].set()
    await asyncio.sleep(PATIENCE)


def test_a_cancelled_item_of_a_map_is_raised_in_its_place(app: App, gate: str) -> None:
    results = iter(app.wait.map([gate]))
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(next, results)
        assert tasks.reached[gate].wait(PATIENCE)
        (name,) = app.herd._core.started()._refs
        assert app.herd.future(name).cancel(PATIENCE)
        with pytest.raises(TaskCancelled):
            waiting.result(PATIENCE)


# --- the standard library --------------------------------------------------------------------------------------------


def test_wait_and_as_completed_see_a_cancelled_future_end(app: App, gate: str) -> None:
    future: Future[Any] = app.wait.submit(gate)
    other: Future[Any] = app.echo.submit("other")
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(concurrent.futures.wait, [future, other], PATIENCE)
        completing = threads.submit(lambda: list(concurrent.futures.as_completed([future, other], PATIENCE)))
        assert future.cancel(PATIENCE)
        done, pending = waiting.result(PATIENCE)
        assert (done, pending) == ({future, other}, set())
        assert set(completing.result(PATIENCE)) == {future, other}

    assert concurrent.futures.wait([future]).done == {future}
    assert list(concurrent.futures.as_completed([future])) == [future]


def test_result_and_exception_raise_the_standard_librarys_cancelled_error(app: App, gate: str) -> None:
    future = app.wait.submit(gate)
    assert future.cancel(PATIENCE)

    for ask in (future.result, future.exception):
        with pytest.raises(concurrent.futures.CancelledError):
            ask(0)
        with pytest.raises(TaskCancelled):
            ask()
    assert not issubclass(TaskCancelled, asyncio.CancelledError)
    assert isinstance(failure_of(future), TaskCancelled)
    assert repr(future) == f"<Future of {future.name}: cancelled>"


async def test_a_wrapped_future_is_cancelled_with_its_task(app: App, gate: str) -> None:
    future = await app.wait.submit_async(gate)
    wrapped = asyncio.wrap_future(future)
    assert await future.cancel_async(PATIENCE)

    await asyncio.wait([wrapped], timeout=PATIENCE)
    assert wrapped.cancelled()


async def test_cancelling_a_wrapped_future_asks_for_the_end_of_its_task(app: App, gate: str) -> None:
    future = await app.wait.submit_async(gate)
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
    asyncio.wrap_future(future).cancel()

    with pytest.raises(TaskCancelled):
        await asyncio.wait_for(future, PATIENCE)
    assert faults == []


async def test_a_task_group_sees_a_cancelled_task_as_an_error_not_as_its_own_cancellation(app: App, gate: str) -> None:
    future = await app.wait.submit_async(gate)

    async def wait_for_it() -> str:
        return await future

    async def cancel_beside() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait_for_it())
            await asyncio.sleep(0)
            group.create_task(future.cancel_async(PATIENCE))

    with pytest.raises(ExceptionGroup) as caught:
        await cancel_beside()
    assert caught.group_contains(TaskCancelled)


def test_a_coroutine_is_cancelled_on_the_worker(namespace: str, make_herd: Callable[..., Herd], gate: str) -> None:
    herd = make_herd(namespace)
    task = herd.task(_sleep)
    assert isinstance(task, AsyncTask)
    with run_roles(namespace, herd._core.registry.functions):
        future = task.submit(gate)
        assert tasks.reached[gate].wait(PATIENCE)
        assert future.cancel(PATIENCE) is True
