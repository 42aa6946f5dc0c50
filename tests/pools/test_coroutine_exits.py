"""What code does to the event loop of all coroutines harms the coroutine that did it, and no other."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from herdmaster.pools.coroutines import AsyncPool
from herdmaster.pools.limits import Died, Ended
from tests.pools.conditions import Deliveries, until

Code = Callable[[], Awaitable[str]]


class Setting:
    def __init__(self) -> None:
        self.deliveries: Deliveries[Code, str] = Deliveries()
        self.pool: AsyncPool[Code, str | Ended] = AsyncPool(10, self._run, self.deliveries)

    @staticmethod
    async def _run(code: Code) -> str | Ended:
        try:
            return await code()
        except SystemExit as error:  # as a worker does, which tells the submitter
            return f"exited with {error.code}"

    async def run(self, *codes: Code) -> list[str | Ended]:
        self.pool.submit(codes)
        await until(lambda: all(code in self.deliveries.results for code in codes))
        return [self.deliveries.results[code] for code in codes]


@pytest.fixture
async def setting() -> AsyncIterator[Setting]:
    setting = Setting()
    yield setting
    setting.pool.close()
    inner = setting.pool._inner
    assert inner is not None
    await until(lambda: not inner.thread.is_alive())
    assert inner.loop.is_closed()


async def leave() -> None:
    sys.exit(3)


async def interrupt() -> None:
    raise KeyboardInterrupt


def innocents(count: int = 3) -> list[Code]:
    """They are still at it when the guilty one has done what it does."""

    def make(number: int) -> Code:
        async def wait() -> str:
            for _ in range(30):
                await asyncio.sleep(0.01)
            return f"innocent {number}"

        return wait

    return [make(number) for number in range(count)]


INNOCENT = [f"innocent {number}" for number in range(3)]


async def after() -> str:
    return "next"


async def test_an_exit_in_a_gathered_task_reaches_the_code_that_gathers(setting: Setting) -> None:
    async def gather() -> str:
        await asyncio.gather(leave(), asyncio.sleep(60))
        return "not reached"

    async def survive() -> str:
        found = await asyncio.gather(leave(), asyncio.sleep(0, "well"), return_exceptions=True)
        await asyncio.sleep(0.2)  # longer than an exit waits to be noticed
        return f"{type(found[0]).__name__} and {found[1]}"

    async def group() -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(leave())
            group.create_task(asyncio.sleep(60))
        return "not reached"

    assert await setting.run(*innocents(), gather, survive, group) == [
        *INNOCENT,
        "exited with 3",
        "SystemExit and well",
        "exited with 3",
    ]
    assert await setting.run(after) == ["next"]


@pytest.mark.parametrize(("code", "raised"), [(leave, "SystemExit: 3"), (interrupt, "KeyboardInterrupt: ")])
async def test_an_exit_in_a_background_task_ends_the_coroutine_that_began_it(
    setting: Setting, code: Callable[[], Awaitable[None]], raised: str
) -> None:
    async def begin() -> str:
        task = asyncio.ensure_future(code())
        await asyncio.sleep(60)
        return f"not reached: {task}"

    assert await setting.run(*innocents(), begin) == [
        *INNOCENT,
        Died(f"an asyncio task that it had started, and did not wait for, raised {raised}"),
    ]
    assert await setting.run(after) == ["next"]


async def test_an_exit_in_a_callback_ends_the_coroutine_that_began_it(setting: Setting) -> None:
    async def call_soon() -> str:
        asyncio.get_running_loop().call_soon(sys.exit, 4)
        await asyncio.sleep(60)
        return "not reached"

    assert await setting.run(*innocents(), call_soon) == [*INNOCENT, Died("one of its callbacks raised SystemExit: 4")]
    assert await setting.run(after) == ["next"]


def kill(pid: int) -> int:
    """The status with which the child has ended, perhaps before."""
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("end", [lambda: None, lambda: sys.exit(7), lambda: os.execv("/", ["/"])])
async def test_a_child_forked_in_a_thread_of_a_coroutine_ends_where_it_comes_back(
    setting: Setting, end: Callable[[], None]
) -> None:
    def fork() -> int:
        pid = os.fork()
        if pid == 0:
            end()
        return pid

    async def fork_in_thread() -> str:
        return str(await asyncio.to_thread(fork))

    (pid,) = await setting.run(fork_in_thread)
    assert isinstance(pid, str)
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    try:
        await until(lambda: os.waitid(os.P_PID, int(pid), options) is not None)
    finally:
        status = kill(int(pid))
    assert os.WIFEXITED(status)
    assert await setting.run(after) == ["next"]


async def test_an_exit_that_comes_after_the_end_of_its_coroutine_ends_none(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    async def leave_behind() -> str:
        asyncio.get_running_loop().call_later(0.05, sys.exit, 5)
        return "ended before"

    assert await setting.run(*innocents(), leave_behind) == [*INNOCENT, "ended before"]
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "after the end of the task" in record.getMessage()
    assert "SystemExit: 5" in record.getMessage()


async def test_code_that_stops_the_loop_stops_nothing(setting: Setting, caplog: pytest.LogCaptureFixture) -> None:
    async def stop() -> str:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        return "went on"

    assert await setting.run(*innocents(), stop) == [*INNOCENT, "went on"]
    assert "has stopped the event loop of all coroutines" in caplog.text


async def test_a_loop_that_broke_is_replaced_and_what_ran_in_it_has_died(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    async def wait() -> str:
        await asyncio.sleep(60)
        return "not reached"

    async def break_it() -> str:
        def select(_timeout: float | None) -> None:
            raise OSError(9, "Bad file descriptor")

        asyncio.get_running_loop()._selector.select = select  # type: ignore[attr-defined]  # as os.closerange would
        await asyncio.sleep(60)
        return "not reached"

    broken = "the event loop in which it ran broke: OSError: [Errno 9] Bad file descriptor"
    assert await setting.run(wait, break_it) == [Died(broken), Died(broken)]
    assert await setting.run(after) == ["next"]
    assert "the event loop of the coroutines broke, and a new one replaces it" in caplog.text


async def test_what_waited_for_a_slot_of_a_loop_that_broke_runs_in_the_next(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    """A step of the pool's own that fails, too: what it was changing is not to be relied upon."""
    pool = setting.pool
    begin = pool._begin

    def fail(_inner: object) -> None:
        pool._begin = begin  # type: ignore[method-assign]  # only once
        raise MemoryError

    pool._begin = fail  # type: ignore[method-assign, assignment]  # the fault to be seen
    assert await setting.run(after) == ["next"]
    assert "MemoryError" in caplog.text


async def test_a_factory_of_tasks_that_code_has_set_is_not_used_for_other_code(setting: Setting) -> None:
    async def set_factory() -> str:
        def refuse(*_: object, **__: object) -> None:
            raise ValueError("a factory that fails")

        asyncio.get_running_loop().set_task_factory(refuse)  # type: ignore[arg-type]  # wrong on purpose
        return "set"

    assert await setting.run(set_factory) == ["set"]
    assert await setting.run(after) == ["next"]


async def test_each_coroutine_runs_in_a_copy_of_one_context() -> None:
    variable = contextvars.ContextVar("variable", default="nothing")
    context = contextvars.Context()
    context.run(variable.set, "start")
    deliveries: Deliveries[str, str] = Deliveries()

    async def read_and_set(item: str) -> str | Ended:
        before = variable.get()
        variable.set(item)
        await asyncio.sleep(0)
        return f"{before}, {variable.get()}"

    pool: AsyncPool[str, str | Ended] = AsyncPool(2, read_and_set, deliveries, context=context)
    items = [str(number) for number in range(10)]  # most of them are begun as another ends
    pool.submit(items)
    await until(lambda: len(deliveries.all) == len(items))
    pool.close()
    assert deliveries.results == {item: f"start, {item}" for item in items}
