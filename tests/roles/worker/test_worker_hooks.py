"""The hooks around a worker's life run off its loop, and can keep it from starting."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
from collections.abc import Callable
from types import NoneType

import pytest

from herdmaster.errors import HookFailed
from herdmaster.roles.worker import worker_hooks
from herdmaster.roles.worker.worker import Worker
from herdmaster.roles.worker.worker_hooks import WorkerHooks
from herdmaster.running.hooks import Hooks
from tests.roles.stage import Stage

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


@pytest.fixture
def stopping() -> asyncio.Event:
    return asyncio.Event()


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@pytest.mark.within(9)  # hooks that do not end are left alone after 10 s
async def test_plain_hooks_run_on_threads_and_async_ones_share_a_loop(stopping: asyncio.Event) -> None:
    seen: list[object] = []

    def plain() -> None:
        seen.append((_is_in_loop(), threading.current_thread() is threading.main_thread()))

    async def coroutine() -> None:
        await asyncio.sleep(0)
        seen.append(asyncio.get_running_loop())

    def awaitable() -> object:
        return coroutine()

    hooks = WorkerHooks((plain, coroutine, awaitable), (coroutine, plain))
    assert await hooks.start(stopping)
    await hooks.stop()

    assert seen[0] == seen[4] == (False, False)
    assert seen[1] is seen[2] is seen[3] is not asyncio.get_running_loop()


async def test_what_they_set_in_context_variables_holds_for_the_worker(stopping: asyncio.Event) -> None:
    def plain() -> None:
        variable.set("plain")

    async def coroutine() -> None:
        variable.set(f"{variable.get()} and async")

    hooks = WorkerHooks((plain, coroutine), ())
    assert await hooks.start(stopping)
    await hooks.stop()

    assert variable.get() == "plain and async"


def _raise(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def _raise_async(error: BaseException) -> Callable[[], object]:
    async def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize("make", [_raise, _raise_async])
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (LookupError("no database"), r"fail failed: LookupError: no database \(\S*test_worker_hooks\.py:\d+\)$"),
        (SystemExit(3), r"fail failed: SystemExit: 3 \(\S*test_worker_hooks\.py:\d+\)$"),
        (asyncio.CancelledError(), "fail failed: CancelledError"),
    ],
)
async def test_one_that_fails_keeps_the_worker_from_starting(
    stopping: asyncio.Event, make: Callable[[BaseException], Callable[[], object]], error: BaseException, says: str
) -> None:
    called: list[str] = []
    hooks = WorkerHooks((make(error), lambda: called.append("the next one")), ())

    with pytest.raises(HookFailed, match=rf"^the worker does not start: on_worker_start hook .*{says}"):
        await hooks.start(stopping)
    assert called == []


async def test_a_start_that_blocks_does_not_keep_the_worker_from_stopping(stopping: asyncio.Event) -> None:
    entered, release, cancelled = threading.Event(), threading.Event(), threading.Event()

    def block() -> None:
        entered.set()
        release.wait(30)

    async def sleep() -> None:
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    for hook in (block, sleep):
        starting = asyncio.ensure_future(WorkerHooks((hook,), ()).start(stopping))
        while not entered.is_set():
            await asyncio.sleep(0.01)
        stopping.set()
        assert await asyncio.wait_for(starting, 10) is False
        stopping.clear()
        entered.clear()
    assert cancelled.wait(10)
    release.set()


async def test_all_are_called_at_the_end_and_it_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_hooks, "STOP_SECONDS", 0.5)
    release = threading.Event()
    called: list[str] = []
    hooks = WorkerHooks((), (_raise(LookupError("lost")), lambda: called.append("plain"), lambda: release.wait(30)))

    began = time.monotonic()
    await hooks.stop()

    assert time.monotonic() - began < 10
    release.set()
    assert called == ["plain"]
    texts = [record.getMessage() for record in caplog.records if record.name.startswith("herdmaster")]
    caplog.clear()  # they are meant to be there
    assert "failed: LookupError: lost" in texts[0]
    assert texts[1] == "on_worker_stop has not ended within 0.5 s and is left alone"


async def test_a_start_that_takes_long_is_told(
    stopping: asyncio.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_hooks, "SLOW_SECONDS", 0.05)
    release = threading.Event()

    def slow() -> None:
        release.wait(30)

    starting = asyncio.ensure_future(WorkerHooks((slow,), ()).start(stopping))
    while not caplog.messages:
        await asyncio.sleep(0.01)
    assert "slow has not ended after 0.05 s: no task is run before" in caplog.text
    caplog.clear()
    release.set()
    assert await asyncio.wait_for(starting, 10)


@pytest.mark.parametrize(
    ("harm", "says"),
    [(lambda: sys.exit(3), "raised SystemExit: 3"), (lambda: asyncio.get_running_loop().stop(), "is started again")],
)
async def test_what_a_hook_leaves_running_does_not_end_the_loop_of_the_others(
    stopping: asyncio.Event, caplog: pytest.LogCaptureFixture, harm: Callable[[], None], says: str
) -> None:
    called: list[str] = []
    tasks: list[asyncio.Task[None]] = []

    async def background() -> None:
        harm()

    async def start() -> None:
        tasks.append(asyncio.create_task(background()))

    async def stop() -> None:
        await asyncio.sleep(0)
        called.append("stop")

    hooks = WorkerHooks((start,), (stop,))
    assert await hooks.start(stopping)
    while not caplog.messages:
        await asyncio.sleep(0.01)
    assert says in caplog.text
    caplog.clear()
    await hooks.stop()
    assert called == ["stop"]
    (task,) = tasks
    assert isinstance(task.exception(), (SystemExit, NoneType))  # or it would be told in the log of a later test


# --- in a worker -----------------------------------------------------------------------------------------------------


async def test_a_worker_whose_start_hook_fails_ends_before_it_has_a_session() -> None:
    called: list[str] = []
    hooks = Hooks(
        on_worker_start=(_raise(LookupError("no database")),), on_worker_stop=(lambda: called.append("stop"),)
    )

    with pytest.raises(HookFailed, match="no database"):
        await Worker("127.0.0.1:1", {}, hooks=hooks).run()
    assert called == []


@pytest.mark.within(9)  # hooks that do not end are left alone after 10 s
@pytest.mark.long
async def test_a_worker_calls_its_hooks_once_however_many_sessions_it_has(stage: Stage) -> None:
    seen: list[str] = []

    async def start() -> None:
        seen.append("start")

    worker = await stage.worker(hooks=Hooks(on_worker_start=(start,), on_worker_stop=(lambda: seen.append("stop"),)))
    before = worker.name
    await stage.expire(worker)
    await stage.until_registered(worker, unlike=before)
    assert seen == ["start"]
    await stage.stop(worker)
    assert seen == ["start", "stop"]
