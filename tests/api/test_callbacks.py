"""Done-callbacks: code of the user's, which may be slow, raise, block, or call back into the Herd."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import concurrent.futures
import gc
import logging
import threading

import pytest

from tests.api import tasks
from tests.api.tasks import App
from tests.api.znodes import wait_until


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


def test_a_callback_that_never_returns_delays_no_other(app: App) -> None:
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


def test_a_raising_callback_is_logged_and_ends_no_thread(app: App, caplog: pytest.LogCaptureFixture) -> None:
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


def test_a_callback_keeps_the_future_that_it_was_added_to(app: App) -> None:
    results: list[int] = []
    called = threading.Event()

    def note(done: concurrent.futures.Future[int]) -> None:
        results.append(done.result())
        called.set()

    app.add.submit(2, 3).add_done_callback(note)
    gc.collect()
    assert called.wait(10)
    assert results == [5]


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
