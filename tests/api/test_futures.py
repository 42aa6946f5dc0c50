"""Futures: they are the standard library's, they can be awaited, and waiting never touches the task."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import json
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from herdmaster import Future, Herd, InvalidName, NotSubmitted, OutcomeGone
from tests.api import tasks
from tests.api.tasks import App
from tests.api.znodes import Znodes, wait_until


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
    with pytest.raises(TimeoutError, match="herd status"):
        future.exception(timeout=0)
    tasks.gates[gate].set()
    assert future.result(timeout=10) == gate
    assert future.exception() is None


def test_a_submitted_task_cannot_be_cancelled_by_its_future(app: App, gate: str) -> None:
    future = app.wait.submit(gate)

    assert future.cancel() is False
    assert not future.cancelled()
    tasks.gates[gate].set()
    assert future.result(10) == gate


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
    wrapped = asyncio.wrap_future(future)
    await asyncio.sleep(0)
    waiting.cancel()
    wrapped.cancel()
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


def test_a_loop_that_is_closed_while_it_waits_harms_nobody(app: App, gate: str) -> None:
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

        asyncio.ensure_future(wait_for_it())  # noqa: RUF006 - nobody keeps it, which is the point
        await asyncio.to_thread(tasks.reached[gate].wait, 10)
        gc.collect()
        tasks.gates[gate].set()
        return await asyncio.wait_for(answer, 10)

    assert asyncio.run(main()) == gate


def test_callbacks_run_in_order_with_the_future_and_not_on_the_io_thread(app: App, gate: str) -> None:
    future = app.wait.submit(gate)
    calls: list[tuple[int, str, str]] = []
    ended = threading.Event()

    for number in range(3):

        def callback(done: concurrent.futures.Future[str], number: int = number) -> None:
            calls.append((number, done.result(), threading.current_thread().name))

        future.add_done_callback(callback)
    future.add_done_callback(lambda _done: ended.set())
    tasks.gates[gate].set()

    assert ended.wait(10)
    assert [(number, result) for number, result, _ in calls] == [(0, gate), (1, gate), (2, gate)]
    assert {thread for *_, thread in calls} == {"herdmaster-callbacks-0"}


def test_a_callback_added_late_runs_at_once(app: App) -> None:
    future = app.add.submit(2, 3)
    future.result(10)
    results: list[int] = []

    future.add_done_callback(lambda done: results.append(done.result()))
    assert results == [5]


def test_a_callback_that_never_returns_harms_nobody(app: App) -> None:
    blocked, released, other_called = threading.Event(), threading.Event(), threading.Event()

    def block(_done: object) -> None:
        blocked.set()
        released.wait(30)

    try:
        app.add.submit(1, 1).add_done_callback(block)
        assert blocked.wait(10)
        assert app.add.submit(2, 3).result(10) == 5
        app.add.submit(3, 4).add_done_callback(lambda _done: other_called.set())
        assert other_called.wait(10)
    finally:
        released.set()


def test_a_raising_callback_is_logged_and_harms_nobody(app: App, caplog: pytest.LogCaptureFixture) -> None:
    called = threading.Event()

    def complain(_done: object) -> None:
        raise ValueError("from the callback")

    def leave(_done: object) -> None:
        raise SystemExit("from the callback")

    with caplog.at_level(logging.ERROR):
        for callback in (complain, leave):
            app.add.submit(1, 1).add_done_callback(callback)
        app.add.submit(2, 3).add_done_callback(lambda _done: called.set())
        assert called.wait(10)
        wait_until(lambda: len(caplog.records) == 2, "both complaints are logged")
    assert app.add.submit(2, 3).result(10) == 5


def test_a_callback_may_submit_wait_and_close(app: App) -> None:
    results: list[int] = []
    closed = threading.Event()

    def go_on(done: concurrent.futures.Future[int]) -> None:
        results.append(app.add.submit(done.result(), 1).result(10))
        app.herd.close()
        closed.set()

    app.add.submit(1, 1).add_done_callback(go_on)
    assert closed.wait(20)
    assert results == [3]


def test_a_callback_wants_the_outcome_although_nobody_keeps_the_future(app: App) -> None:
    results: list[int] = []
    called = threading.Event()

    def note(done: concurrent.futures.Future[int]) -> None:
        results.append(done.result())
        called.set()

    app.add.submit(2, 3).add_done_callback(note)
    gc.collect()
    assert called.wait(10)
    assert results == [5]


def test_the_status_is_collected_with_the_outcome(app: App, served: str, znodes: Callable[[str], Znodes]) -> None:
    future = app.add.submit(2, 3)
    future.result(10)

    znodes(served).wait_gone(f"status/{future.name}")


def test_a_dropped_future_leaves_its_status_for_whoever_attaches(
    app: App, served: str, znodes: Callable[[str], Znodes]
) -> None:
    name = app.add.submit(2, 3).name
    gc.collect()

    wait_until(lambda: znodes(served).has(f"status/{name}"), "it has run")
    assert app.add.submit(1, 1).result(10) == 2  # whatever was on its way has arrived
    assert znodes(served).has(f"status/{name}")
    assert app.herd.future(name).result(10) == 5


def test_a_kept_future_is_collected_although_nobody_holds_it(
    app: App, served: str, znodes: Callable[[str], Znodes]
) -> None:
    future = app.add.submit(2, 3)
    future.keep()
    name = future.name
    del future

    wait_until(lambda: name not in app.herd._started()._lines, "its outcome has come")
    znodes(served).wait_gone(f"status/{name}")
    with pytest.raises(OutcomeGone):
        app.herd.future(name).result(20)


def test_another_process_attaches_by_name(app: App, served: str, gate: str) -> None:
    future = app.wait.submit(gate)
    name = future.name
    del future
    gc.collect()
    program = (
        "import sys; from herdmaster import Herd\n"
        "with Herd(sys.argv[1]) as herd:\n"
        "    future = herd.future(sys.argv[2])\n"
        "    print('attached', flush=True)\n"
        "    print(future.result(20))\n"
    )

    with subprocess.Popen([sys.executable, "-c", program, served, name], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "attached\n"
        tasks.gates[gate].set()
        assert process.stdout.readline() == f"{gate}\n"
    assert process.returncode == 0


def test_attaching_finds_an_outcome_that_came_before(app: App, served: str) -> None:
    name = app.echo.submit({"a": [1]}).name
    gc.collect()

    with Herd(served, session_timeout=2.0) as other:
        assert other.future(name).result(20) == {"a": [1]}


def test_attaching_to_what_was_collected_says_that_it_is_gone(app: App) -> None:
    future = app.add.submit(2, 3)
    assert future.result(10) == 5

    with pytest.raises(OutcomeGone, match="neither waiting, nor running"):
        app.herd.future(future.name).result(20)


def test_attaching_to_what_never_was_says_that_it_is_gone(app: App) -> None:
    with pytest.raises(OutcomeGone, match="task-nothing"):
        app.herd.future("task-nothing").result(20)


def test_attaching_takes_only_names_of_tasks(app: App) -> None:
    with pytest.raises(InvalidName, match=r"it is what `future\.name` gave"):
        app.herd.future("resize")
    assert app.herd._runtime is None


def test_attaching_to_what_this_herd_waits_for_already_gives_the_same_future(app: App, gate: str) -> None:
    future = app.wait.submit(gate)

    assert app.herd.future(future.name) is future
    tasks.gates[gate].set()
    assert future.result(10) == gate


def test_attaching_at_once_after_dropping_the_first_future_still_gets_the_outcome(app: App, gate: str) -> None:
    """The first future is forgotten only later; that must not forget the second one."""
    for _ in range(20):
        future = app.wait.submit(gate)
        name = future.name
        del future
        again = app.herd.future(name)
        tasks.gates[gate].set()
        assert again.result(10) == gate
        tasks.gates[gate].clear()


def test_two_processes_worth_of_herds_may_wait_for_one_task(app: App, served: str, gate: str) -> None:
    future = app.wait.submit(gate)
    with Herd(served, session_timeout=2.0) as other:
        attached = other.future(future.name)
        tasks.gates[gate].set()

        outcomes: list[object] = []
        for each in (future, attached):
            try:
                outcomes.append(each.result(20))
            except OutcomeGone:
                outcomes.append(None)
    assert gate in outcomes  # whoever was first has it; the other one is told so, and does not wait for ever


def test_a_future_shows_its_state(app: App, gate: str) -> None:
    future = app.wait.submit(gate)
    failing = app.fail.submit("ValueError")

    assert repr(future) == f"<Future of {future.name}: pending>"
    tasks.gates[gate].set()
    future.result(10)
    assert isinstance(failing.exception(10), ValueError)
    assert repr(future) == f"<Future of {future.name}: done>"
    assert repr(failing) == f"<Future of {failing.name}: failed>"


def test_futures_that_nobody_keeps_do_not_leak_while_20_000_tasks_are_submitted(
    quiet: App, namespace: str, znodes: Callable[[str], Znodes]
) -> None:
    """They are dropped before anything has run, so nothing but forgetting them can set them free."""
    references: list[weakref.ref[Future[int]]] = []
    ahead = threading.Semaphore(2000)
    runtime = quiet.herd._started()

    def submit(count: int) -> None:
        for _ in range(count):
            ahead.acquire()
            task = quiet.herd._call_task("m:f", (), {}, "default", 5)
            references.append(weakref.ref(runtime.submit(task, quiet.herd, lambda _error: ahead.release())))

    def settle() -> int:
        for _ in range(2000):
            assert ahead.acquire(timeout=20)
        ahead.release(2000)
        quiet.add.submit(1, 1)
        gc.collect()
        return len(gc.get_objects())

    try:
        submit(2000)
        before = settle()
        submit(18_000)
        after = settle()
        assert sum(reference() is not None for reference in references) == 0
        assert after - before < 18_000 + 2000  # the references themselves, and what little else there is
        wait_until(lambda: not runtime._dropped or len(runtime._dropped) < 100, "the dropped ones are forgotten")
        assert len(runtime._lines) < 100
        assert runtime._client.outcomes.waiting < 100
        assert runtime._client.journal.unresolved == 0
        assert not runtime._unsettled
        assert len(znodes(namespace).children("tasks")) == 20_002
    finally:
        znodes(namespace).delete_all("tasks")


def test_a_failed_future_goes_with_its_last_reference_and_does_not_wait_for_the_collector(
    app: App, nowhere: Herd
) -> None:
    """An error holds the frames that it went through; if one of them held the future, they would hold each other."""

    gc.collect()
    gc.disable()
    try:
        future = app.fail.submit("KeyError")
        gone = weakref.ref(future)
        with contextlib.suppress(KeyError):
            future.result(10)
        del future
        wait_until(lambda: gone() is None, "nobody holds the future")
        with contextlib.suppress(NotSubmitted):
            nowhere.submit_raw(b"x")
        runtime = nowhere._started()
        assert not runtime._lines
        assert not [each for each in gc.get_objects() if isinstance(each, Future)]
    finally:
        gc.enable()


def test_nothing_is_kept_of_tasks_that_have_ended(app: App) -> None:
    runtime = app.herd._started()
    assert sum(app.add.map(range(500), range(500))) == 249_500
    gc.collect()
    before = len(gc.get_objects())

    assert sum(app.add.map(range(3000), range(3000))) == 8_997_000
    gc.collect()
    assert len(gc.get_objects()) - before < 1000
    assert not runtime._lines
    assert not runtime._pinned
    assert not runtime._due


def test_a_name_is_json_so_it_can_be_handed_on(app: App) -> None:
    future = app.add.submit(2, 3)

    assert app.herd.future(json.loads(json.dumps(future.name))).result(10) == 5


def test_results_and_other_callbacks_do_not_wait_for_slow_ones(app: App, gate: str) -> None:
    futures = [app.wait.submit(gate) for _ in range(10)]
    released, called = threading.Event(), threading.Event()
    for future in futures[1:]:
        future.add_done_callback(lambda _done: released.wait(30))
    app.wait.submit(gate).add_done_callback(lambda _done: called.set())

    tasks.gates[gate].set()
    assert [future.result(10) for future in futures] == [gate] * 10
    assert called.wait(10)
    released.set()
