"""The thread that talks to ZooKeeper: it survives faults, waits for no other thread, and leaves no caller waiting."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import gc
import logging
import threading

import pytest

from herdmaster import Future, HerdClosed, NotSubmitted
from herdmaster.api.future_refs import ref_to
from herdmaster.zookeeper.errors import ClientClosed
from tests.api import tasks
from tests.api.tasks import App
from tests.api.znodes import wait_until


def test_a_fault_of_our_own_costs_a_session_and_not_the_thread(
    app: App, caplog: pytest.LogCaptureFixture, gate: str
) -> None:
    future = app.wait.submit(gate)
    client = app.herd._core.started()._client
    open_session = client.open

    def fail() -> None:
        raise ZeroDivisionError("a fault of our own")

    async def fail_to_open() -> None:
        client.open = open_session  # type: ignore[method-assign]  # the fault strikes once
        fail()

    with caplog.at_level(logging.WARNING):
        client.open = fail_to_open  # type: ignore[method-assign, assignment]  # as above
        app.herd._core.started()._post(fail)
        app.herd._core.started()._post(lambda: client.journal._handle_state(None))  # type: ignore[arg-type]  # wakes it
        assert app.add.submit(2, 3).result(20) == 5
        wait_until(lambda: "a fault of our own" in caplog.text, "it is logged")
    tasks.gates[gate].set()
    assert future.result(20) == gate


def test_a_close_that_the_thread_has_carried_out_before_it_is_woken_for_it_is_no_error(
    quiet: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be awake for something else."""
    future = quiet.add.submit(2, 3)
    runtime = quiet.herd._core.started()
    ring = runtime._ring

    def ring_late() -> object:
        runtime._loop.call_soon_threadsafe(runtime._take_calls)
        runtime._thread.join(20)
        return ring()

    monkeypatch.setattr(runtime, "_ring", ring_late)
    quiet.herd.close()

    assert runtime._loop.is_closed()
    assert isinstance(future.exception(20), HerdClosed)


@pytest.mark.long
def test_a_future_that_is_dropped_while_another_thread_has_the_lock_is_forgotten_soon(quiet: App) -> None:
    runtime = quiet.herd._core.started()
    future = quiet.add.submit(2, 3)
    name, looked = future.name, threading.Event()
    with runtime._lock:
        del future
        gc.collect()
        runtime._loop.call_soon_threadsafe(runtime._take_calls)
        runtime._loop.call_soon_threadsafe(looked.set)
        assert looked.wait(10)
        assert name in runtime._refs
    wait_until(lambda: name not in runtime._refs, "it is forgotten")


@pytest.mark.long
async def test_a_coroutine_that_waits_is_told_of_the_close(quiet: App) -> None:
    future = await quiet.add.submit_async(2, 3)
    waiting = asyncio.ensure_future(asyncio.wait_for(future, 20))
    await asyncio.sleep(0)
    await asyncio.to_thread(quiet.herd.close)
    with pytest.raises(HerdClosed):
        await waiting


def test_if_the_thread_ends_unexpectedly_no_caller_is_left_waiting_and_another_starts(
    quiet: App, caplog: pytest.LogCaptureFixture
) -> None:
    future = quiet.add.submit(2, 3)
    runtime = quiet.herd._core.started()
    blocked = threading.Event()
    errors: list[BaseException] = []

    def die() -> None:
        blocked.wait(10)
        raise SystemExit("the end of the thread")

    def submit() -> None:
        try:
            quiet.add.submit(4, 5)
        except (NotSubmitted, RuntimeError) as error:
            errors.append(error)

    runtime._post(die)
    thread = threading.Thread(target=submit)
    thread.start()
    wait_until(lambda: bool(runtime._calls), "the submission waits behind it")
    blocked.set()
    thread.join(20)

    assert "was not accepted before the Herd was closed" in str(errors[0])
    with pytest.raises(ClientClosed):
        future.result(10)
    wait_until(lambda: "the thread that talks to ZooKeeper failed" in caplog.text, "the failure is logged")
    again = quiet.add.submit(2, 3)  # accepted by another thread's session
    assert quiet.herd._core.started() is not runtime
    assert not again.done()


def test_a_log_handler_that_raises_does_not_end_the_thread(quiet: App) -> None:
    future = quiet.add.submit(2, 3)
    io_thread = quiet.herd._core.started()
    raised = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raised.set()
            raise LookupError("no log server")

    def fail() -> None:
        assert io_thread._client._callback_failed(ZeroDivisionError("a fault of our own"))

    logger, handler = logging.getLogger("herdmaster"), Handler()
    logger.addHandler(handler)
    try:
        io_thread._post(fail)
        assert raised.wait(20)
        assert not quiet.add.submit(2, 3).done()
    finally:
        logger.removeHandler(handler)
    assert not future.done()
    assert quiet.herd._core.started() is io_thread


def test_it_does_not_wait_for_a_thread_that_is_stopped_in_the_middle_of_a_future(app: App, gate: str) -> None:
    """As one is whose signal handler or finaliser waits for something else."""
    future = app.wait.submit(gate)
    called = threading.Event()
    future.add_done_callback(lambda _done: called.set())
    with future._condition:
        tasks.gates[gate].set()
        wait_until(lambda: future.name not in app.herd._core.started()._refs, "its outcome has come")
        assert app.add.submit(2, 3).result(10) == 5

    assert future.result(10) == gate
    assert called.wait(10)
    assert not app.herd._core.started()._pinned


async def test_an_await_is_woken_by_such_a_future_too(app: App, gate: str) -> None:
    future: Future[str] = await app.wait.submit_async(gate)
    waiting = asyncio.ensure_future(asyncio.wait_for(future, 20))
    while not future._waiting:
        await asyncio.sleep(0)

    def hold() -> None:
        with future._condition:
            tasks.gates[gate].set()
            wait_until(lambda: future.name not in app.herd._core.started()._refs, "its outcome has come")

    await asyncio.to_thread(hold)
    assert await waiting == gate


def test_a_thread_that_holds_the_lock_does_not_stop_it(app: App) -> None:
    runtime = app.herd._core.started()
    future = app.add.submit(1, 1)
    with runtime._lock:
        for number in range(200):
            ref_to(Future(f"task-{number}", runtime), None, runtime._drop)  # dropped at once
        gc.collect()
        assert future.result(10) == 2
    assert app.add.submit(2, 3).result(10) == 5
