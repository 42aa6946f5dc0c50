"""Futures: they are the standard library's, they can be awaited, and waiting never touches the task."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
from collections.abc import Callable
from typing import Any

import pytest

from herdmaster import ConfigurationError, Future
from herdmaster.api.internals import note_cancelled
from herdmaster.errors import OutcomeGone, SubmissionUnknown
from tests.api import tasks
from tests.api.tasks import App
from tests.api.test_wait_reports import NoKeeper


def test_it_is_a_future_of_the_standard_library(app: App) -> None:
    futures = [app.add.submit(item, 1) for item in range(5)]

    assert all(isinstance(future, concurrent.futures.Future) for future in futures)
    done, pending = concurrent.futures.wait(futures, timeout=10)
    assert (len(done), len(pending)) == (5, 0)
    assert sorted(future.result() for future in concurrent.futures.as_completed(futures, timeout=10)) == [1, 2, 3, 4, 5]


def test_wait_and_as_completed_see_a_future_end(app: App, gate: str) -> None:
    slow: Future[Any] = app.wait.submit(gate)
    quick: Future[Any] = app.echo.submit("quick")

    done, pending = concurrent.futures.wait((slow, quick), 10, concurrent.futures.FIRST_COMPLETED)
    assert (done, pending) == ({quick}, {slow})
    completed = concurrent.futures.as_completed((slow, quick), timeout=10)
    assert next(completed) is quick
    tasks.gates[gate].set()
    assert next(completed) is slow


def test_a_result_that_does_not_come_in_time_leaves_the_task_alone(app: App, gate: str) -> None:
    future = app.wait.submit(gate)

    with pytest.raises(TimeoutError, match="it goes on, and can be waited for again"):
        future.result(timeout=0.05)
    with pytest.raises(TimeoutError, match="herd tasks show"):
        future.exception(timeout=0)
    tasks.gates[gate].set()
    assert future.result(timeout=10) == gate
    assert future.exception() is None


async def test_timing_out_an_await_leaves_the_task_alone(app: App, gate: str) -> None:
    future = await app.wait.submit_async(gate)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(future, 0.05)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await future
    assert not future.done()
    tasks.gates[gate].set()
    assert await future == gate


async def test_cancelling_an_await_leaves_the_task_alone(app: App, gate: str) -> None:
    future = await app.wait.submit_async(gate)

    async def wait_for_it() -> str:
        return await future

    waiting = asyncio.create_task(wait_for_it())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not future.done()
    tasks.gates[gate].set()
    assert await future == gate


async def test_many_may_await_one_future_in_several_loops(app: App, gate: str) -> None:
    future = await app.wait.submit_async(gate)

    async def wait_for_it() -> str:
        return await future

    elsewhere = asyncio.to_thread(lambda: asyncio.run(wait_for_it()))
    here = [asyncio.ensure_future(awaitable) for awaitable in (wait_for_it(), wait_for_it(), elsewhere)]
    await asyncio.sleep(0.05)
    tasks.gates[gate].set()
    assert await asyncio.gather(*here, asyncio.wrap_future(future)) == [gate] * 4


def test_a_loop_that_is_closed_while_it_waits_harms_no_other_loop(app: App, gate: str) -> None:
    future = app.wait.submit(gate)

    async def wait_for_it() -> str:
        return await future

    loop = asyncio.new_event_loop()
    waiting = loop.create_task(wait_for_it())
    loop.run_until_complete(asyncio.sleep(0))
    waiting.add_done_callback(lambda _task: None)
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]  # the mistake is the point here
    loop.close()
    other = app.add.submit(2, 3)
    tasks.gates[gate].set()
    assert future.result(10) == gate
    assert other.result(10) == 5
    del waiting
    gc.collect()


def test_what_awaits_a_future_keeps_it_and_itself(app: App, gate: str) -> None:
    """An event loop knows its tasks weakly: the future must be held from outside of that circle."""

    async def main() -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def wait_for_it() -> None:
            answer.set_result(await (await app.wait.submit_async(gate)))

        asyncio.ensure_future(wait_for_it())  # noqa: RUF006 - without a reference, which is the point
        await asyncio.to_thread(tasks.reached[gate].wait, 10)
        gc.collect()
        tasks.gates[gate].set()
        return await asyncio.wait_for(answer, 10)

    assert asyncio.run(main()) == gate


def test_a_future_shows_its_state(app: App, gate: str) -> None:
    future = app.wait.submit(gate)
    failing = app.fail.submit("ValueError")

    assert repr(future) == f"<Future of {future.name}: pending>"
    tasks.gates[gate].set()
    future.result(10)
    assert isinstance(failing.exception(10), ValueError)
    assert repr(future) == f"<Future of {future.name}: done>"
    assert repr(failing) == f"<Future of {failing.name}: failed>"


@pytest.mark.parametrize("timeout", ["x", True, float("nan")])
def test_a_wait_for_no_number_of_seconds_is_refused(app: App, timeout: Any) -> None:
    future = app.echo.submit("x")
    for wait in (future.result, future.exception):
        with pytest.raises(ConfigurationError, match=r"timeout=.*: it takes a number of seconds"):
            wait(timeout=timeout)
    assert future.result(timeout=float("inf")) == "x"


class RefusingKeeper(NoKeeper):
    """Tells every request that the task did not end as cancelled."""

    def request_cancel(self, name: str, told: Callable[[bool], None]) -> None:
        told(False)


async def test_a_request_that_comes_between_the_outcome_and_the_future_is_told_of_the_outcome() -> None:
    """The future may be set on a thread for user code, and the status is collected meanwhile."""
    future: Future[int] = Future("task-cancelled", RefusingKeeper())
    assert not await asyncio.to_thread(future.cancel)
    assert not await future.cancel_async()
    note_cancelled(future)
    assert await asyncio.to_thread(future.cancel)
    assert await future.cancel_async()


class AgreeingKeeper(NoKeeper):
    """Tells every request that the task has ended as cancelled."""

    def request_cancel(self, name: str, told: Callable[[bool], None]) -> None:
        told(True)


@pytest.mark.parametrize("failure", [SubmissionUnknown(("task-x",)), OutcomeGone("gone")])
async def test_a_future_that_fails_for_itself_fails_no_request_to_cancel_its_task(failure: Exception) -> None:
    future: Future[int] = Future("task-cancelled", AgreeingKeeper())
    asyncio.get_running_loop().call_soon(future.set_exception, failure)
    assert await future.cancel_async()
