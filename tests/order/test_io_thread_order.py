"""The order in which the I/O thread and its callers set flags, look, and wake each other.

Each test does the other side's part at the one moment that matters, instead of racing for it.
"""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from herdmaster import Future, Herd, HerdClosed
from herdmaster.api.internals import resolve
from herdmaster.api.io_thread import IoThread
from herdmaster.api.wakeups import Wakeups
from tests.api.znodes import wait_until
from tests.order.late_queue import LateQueue

SOON = 20.0
"""Seconds within which a call begins. Nothing else wakes the thread of a Herd that does nothing."""


@pytest.fixture
def io_thread(namespace: str) -> Iterator[IoThread]:
    with Herd(namespace, session_timeout=4.0) as herd:
        thread = herd._core.started()
        run(thread, lambda: None)
        yield thread


def run(thread: IoThread, call: Callable[[], object]) -> None:
    """Run a call on the I/O thread and wait until it has ended."""
    ended = threading.Event()

    def run_it() -> None:
        call()
        ended.set()

    thread._post(run_it)
    assert ended.wait(SOON), "the I/O thread was not woken for it"


def wait_for(event: threading.Event) -> None:
    event.wait(SOON)


def test_a_call_that_comes_right_after_the_last_look_wakes_the_thread_again(io_thread: IoThread) -> None:
    """The flag is cleared before the calls."""
    late = threading.Event()

    def replace_queue() -> None:
        io_thread._calls = LateQueue(lambda: io_thread._post(late.set))

    run(io_thread, replace_queue)  # the look that ends this turn is at the new queue

    assert late.wait(SOON)


def test_a_call_is_in_the_queue_before_the_thread_is_woken_for_it(
    io_thread: IoThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring, begun = io_thread._ring, threading.Event()
    in_time: list[bool] = []

    def ring_and_wait() -> object:
        count = ring()
        in_time.append(begun.wait(SOON))
        return count

    monkeypatch.setattr(io_thread, "_ring", ring_and_wait)
    io_thread._post(begun.set)

    assert in_time == [True]


def test_the_flag_is_set_before_the_thread_is_woken(io_thread: IoThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the thread clears it first, and then it says for ever that the thread was woken."""
    ring, begun = io_thread._ring, threading.Event()

    def ring_and_wait() -> object:
        count = ring()
        begun.wait(SOON)
        return count

    with monkeypatch.context() as patch:
        patch.setattr(io_thread, "_ring", ring_and_wait)
        io_thread._post(begun.set)

    run(io_thread, lambda: None)


def test_many_calls_ring_once_until_the_thread_has_looked(io_thread: IoThread, monkeypatch: pytest.MonkeyPatch) -> None:
    ring, rung, held = io_thread._ring, [], threading.Event()

    def count() -> object:
        rung.append(True)
        return ring()

    io_thread._post(partial(wait_for, held))
    monkeypatch.setattr(io_thread, "_ring", count)
    done = threading.Event()
    for _ in range(100):
        io_thread._post(lambda: None)
    io_thread._post(done.set)
    held.set()

    assert done.wait(SOON)
    assert len(rung) <= 1


def test_calls_that_came_before_the_close_are_begun_and_later_ones_are_refused(io_thread: IoThread) -> None:
    held, begun = threading.Event(), threading.Event()
    io_thread._post(partial(wait_for, held))
    io_thread._post(begun.set)
    io_thread.begin_close()

    with pytest.raises(HerdClosed):
        io_thread._post(lambda: None)
    held.set()
    io_thread.close()

    assert begun.is_set()


def test_a_future_that_ends_while_it_is_pinned_is_not_kept(io_thread: IoThread) -> None:
    """It is looked at after it was added, not before."""
    future: Future[object] = Future("task-1", io_thread)

    class LatePins(set[object]):
        def add(self, element: object) -> None:
            resolve(future, 1, None)
            super().add(element)

    io_thread._pinned = LatePins()
    io_thread.pin(future)

    assert not io_thread._pinned


def test_a_dropped_reference_takes_no_newer_one_along(io_thread: IoThread) -> None:
    """The collector drops a future, and its task gets a new one before the thread forgets the old one."""
    name = "task-00000000000000000000000001.default"
    with io_thread._lock:  # the thread forgets nothing now
        old = io_thread.attach(name, None)
        del old
        gc.collect()
        assert len(io_thread._dropped) == 1
        new = io_thread.attach(name, None)
    run(io_thread, lambda: None)  # from here on it forgets, at once or a moment later
    wait_until(lambda: not io_thread._dropped, "the dropped one is forgotten", SOON)

    assert io_thread._refs[name]() is new


async def test_a_waiter_that_comes_while_others_are_woken_is_woken_too() -> None:
    """The waiters are taken out before the first of them is woken."""
    loop = asyncio.get_running_loop()
    wakeups = Wakeups(loop)
    first, second = loop.create_future(), loop.create_future()

    class LateLoop:
        """The first waiter's loop: the second one comes while it is told."""

        def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> None:
            wakeups.wake_soon(second)
            loop.call_soon_threadsafe(callback, *args)

    wakeups.wake_soon(first)
    wakeups._to_wake = {LateLoop(): [first]}  # type: ignore[dict-item]  # it has what is called
    async with asyncio.timeout(SOON):
        await asyncio.gather(first, second)

    assert not wakeups._to_wake
