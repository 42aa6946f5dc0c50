"""Futures in an event loop: nothing blocks it, and asyncio can wait for them. Futures and tasks that are pickled."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from herdmaster import Future, Herd
from tests.api import tasks
from tests.api.tasks import App

CORE = Herd("localhost:1")


@CORE.task(queue="mail")
def named(x: int) -> int:
    return x


# --- what would block ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wait",
    [
        lambda future: future.result(),
        lambda future: future.result(timeout=5),
        lambda future: future.exception(),
        lambda future: future.exception(timeout=5),
        lambda future: concurrent.futures.wait([future]),
        lambda future: list(concurrent.futures.as_completed([future])),
    ],
    ids=["result", "result within", "exception", "exception within", "wait", "as_completed"],
)
async def test_what_would_block_the_loop_is_refused_until_the_future_is_done(
    app: App, gate: str, wait: Callable[[Future[str]], object]
) -> None:
    future = await app.wait.submit_async(gate)
    with pytest.raises(RuntimeError, match=r"would block the running event loop: use `await (future|asyncio\.wait)"):
        wait(future)
    with pytest.raises(RuntimeError, match="would block"):
        await _in_callback(lambda: wait(future))

    tasks.gates[gate].set()
    assert await future == gate
    wait(future)


async def _in_callback(call: Callable[[], object]) -> None:
    """In a plain callback of the loop, where no task runs."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def run() -> None:
        try:
            call()
        except RuntimeError as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    loop.call_soon(run)
    await ended


async def test_a_look_that_does_not_wait_is_allowed(app: App, gate: str) -> None:
    future = await app.wait.submit_async(gate)

    with pytest.raises(TimeoutError, match="has not ended within 0 s"):
        future.result(timeout=0)
    assert not future.done()


# --- what waits in a loop --------------------------------------------------------------------------------------------


async def test_asyncio_waits_for_futures(app: App) -> None:
    futures: list[Any] = [await app.add.submit_async(number, 1) for number in range(5)]

    done, pending = await asyncio.wait(futures, timeout=30)
    assert (done, pending) == (set(futures), set())
    assert await asyncio.gather(*[await app.add.submit_async(number, 1) for number in range(5)]) == [1, 2, 3, 4, 5]
    assert await asyncio.wait_for(await app.add.submit_async(2, 3), 30) == 5
    assert await asyncio.shield(await app.add.submit_async(2, 3)) == 5
    many = [await app.add.submit_async(number, 1) for number in range(5)]
    assert sorted([await each for each in asyncio.as_completed(many)]) == [1, 2, 3, 4, 5]


async def test_asyncio_waits_for_the_first_of_futures_and_tasks(app: App, gate: str) -> None:
    slow: Any = await app.wait.submit_async(gate)
    threads: list[threading.Thread] = []
    slow.add_done_callback(lambda _done: threads.append(threading.current_thread()))
    quick = await app.echo.submit_async("quick")
    own = asyncio.ensure_future(asyncio.sleep(60))

    done, pending = await asyncio.wait({slow, quick, own}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    assert (done, pending) == ({quick}, {slow, own})
    done, pending = await asyncio.wait({slow, own}, timeout=0.02)
    assert (done, pending) == (set(), {slow, own})
    assert len(slow._done_callbacks) == 1  # those of asyncio have been taken back
    own.cancel()
    tasks.gates[gate].set()
    done, pending = await asyncio.wait({slow}, timeout=30)
    assert done == {slow}
    assert threading.main_thread() not in threads


def test_a_callback_can_be_taken_back(app: App, gate: str) -> None:
    future = app.wait.submit(gate)
    called: list[object] = []
    future.add_done_callback(called.append)
    future.add_done_callback(called.append)

    assert future.remove_done_callback(called.append) == 2
    assert future.remove_done_callback(called.append) == 0
    tasks.gates[gate].set()
    assert future.result(30) == gate
    assert called == []


# --- pickles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_copy", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_future_says_what_to_pickle(app: App, make_copy: Callable[[object], object]) -> None:
    future = app.add.submit(2, 3)

    with pytest.raises(
        TypeError, match=rf"the future of {future.name} .* `future\.name`, and use `herd\.future\(name\)"
    ):
        make_copy(future)
    assert future.result(30) == 5


def test_a_task_and_a_herd_of_a_module_are_pickled_by_their_names() -> None:
    assert pickle.loads(pickle.dumps(named)) is named
    assert pickle.loads(pickle.dumps(CORE)) is CORE
    assert copy.copy(CORE) is CORE
    other = pickle.loads(pickle.dumps(named.options(priority=9, max_attempts=3)))
    assert (other.function, other.priority, other.queue) == (named.function, 9, "mail")
    assert other._core.herd is CORE._core
    assert other._core.options == named.options(priority=9, max_attempts=3)._core.options


def test_those_that_no_module_holds_say_what_to_do_instead() -> None:
    herd = Herd("localhost:2")

    @herd.task
    def inner() -> None: ...

    with pytest.raises(TypeError, match=r"<Herd localhost:2> cannot be pickled .*: make one there, as Herd\(hosts\)"):
        pickle.dumps(herd)
    with pytest.raises(TypeError, match=r"<Task .*inner> cannot be pickled .* use herd\.submit_call\(name, args\)"):
        pickle.dumps(inner)
    with pytest.raises(TypeError, match=r"<Task tests\.api\.tasks:add> cannot be pickled"):
        pickle.dumps(herd.task(tasks.add))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda herd, task: task.submit(1), "submit"),
        (lambda herd, task: task.submit_many([(1,)]), "submit_many"),
        (lambda herd, task: herd.submit_many(task, [(1,)]), "submit_many"),
        (lambda herd, task: herd.submit_raw(b"x"), "submit_raw"),
        (lambda herd, task: herd.submit_call("m:f"), "submit_call"),
        (lambda herd, task: herd.find("task-1"), "find"),
        (lambda herd, task: herd.release_key("a"), "release_key"),
        (lambda herd, task: herd.history(), "history"),
    ],
)
async def test_a_call_that_would_block_the_loop_is_refused_by_its_name(
    call: Callable[[Any, Any], object], name: str
) -> None:
    herd = Herd("127.0.0.1:1")
    task = herd.task(tasks.echo)

    with pytest.raises(RuntimeError, match=rf"^{name} would block the running event loop: use `await .*{name}_async\("):
        call(herd, task)
