"""Code of a task that waits for another task is known to wait, however it does so."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from herdmaster.api.future import Future, Keeper
from herdmaster.running.current import running_now
from herdmaster.running.delivery import Delivered
from tests.api.znodes import wait_until


class NoKeeper:
    def pin(self, future: object) -> None: ...

    def unpin(self, future: object) -> None: ...

    def call_back(self, callback: Callable[[], None]) -> None:
        callback()

    def wake(self, waiter: asyncio.Future[None]) -> None:
        waiter.set_result(None)

    def request_cancel(self, name: str, told: Callable[[bool], None]) -> None: ...


def _end_once_waited_for(task: Task, future: Future[int]) -> None:
    wait_until(lambda: bool(task.seen), "the wait")
    future.set_result(1)


def new_future() -> Future[int]:
    keeper: Keeper = NoKeeper()
    return Future("task-awaited", keeper)


class Task(Delivered):
    """Notes whether it was known to wait at some time."""

    seen: tuple[str, ...] = ()

    def begin_wait(self, task: str) -> None:
        super().begin_wait(task)
        self.seen = (*self.seen, *self.waits_for)


@contextmanager
def running() -> Iterator[Task]:
    task = Task("task-waits", b"", 1)
    token = running_now.set(task)
    try:
        yield task
    finally:
        running_now.reset(token)


@pytest.mark.parametrize(
    "wait",
    [
        lambda future: future.result(),
        lambda future: future.result(timeout=5),
        lambda future: future.exception(),
        lambda future: concurrent.futures.wait([future]),
        lambda future: list(concurrent.futures.as_completed([future])),
    ],
    ids=["result", "with a timeout", "exception", "wait", "as_completed"],
)
def test_a_task_that_blocks_on_a_future_is_known_to_wait_until_that_is_done(
    wait: Callable[[Future[int]], object],
) -> None:
    future = new_future()
    with running() as task:
        threading.Thread(target=_end_once_waited_for, args=(task, future)).start()
        wait(future)

    assert task.seen == ("task-awaited",)
    assert task.waits_for == ()


def test_a_wait_that_times_out_is_over() -> None:
    with running() as task, suppress(TimeoutError):
        new_future().result(timeout=0.001)

    assert task.seen == ("task-awaited",)
    assert task.waits_for == ()


def test_what_is_done_is_not_waited_for() -> None:
    future = new_future()
    future.set_result(1)
    with running() as task:
        assert future.result() == 1

    assert task.seen == ()


async def test_a_coroutine_that_awaits_a_future_is_known_to_wait() -> None:
    future = new_future()
    with running() as task:
        asyncio.get_running_loop().call_later(0.01, future.set_result, 1)
        assert await future == 1

    assert task.seen == ("task-awaited",)
    assert task.waits_for == ()


def test_outside_of_a_task_a_wait_costs_nothing() -> None:
    future = new_future()
    threading.Timer(0.01, future.set_result, (1,)).start()
    assert concurrent.futures.wait([future]).done == {future}
