from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from herdmaster.errors import SoftTimeLimitExceeded
from herdmaster.pools.coroutines import AsyncPool, SoftCancellation
from herdmaster.pools.limits import NO_LIMITS, Died, Ended, Limits, Stopped, TimedOut
from tests.order.late_queue import LateQueue
from tests.pools.conditions import Deliveries, until

pytestmark = [pytest.mark.long, pytest.mark.within(20)]  # after the grace of 30 s everything is delivered

Code = Callable[[], Awaitable[str]]


class Setting:
    """A pool whose items are coroutine functions, all with the same limits."""

    def __init__(self, slots: int = 100, limits: Limits = NO_LIMITS, grace: float = 30.0) -> None:
        self.deliveries: Deliveries[Code, str] = Deliveries()
        self.pool: AsyncPool[Code, str | Ended] = AsyncPool(
            slots, lambda code: code(), self.deliveries, limits_of=lambda _: limits, grace=grace
        )

    async def run(self, *codes: Code) -> list[str | Ended]:
        self.pool.submit(codes)
        await until(lambda: len(self.deliveries.all) >= len(codes))
        return [self.deliveries.results[code] for code in codes]


MakeSetting = Callable[..., Setting]


@pytest.fixture
def make_setting() -> Iterator[MakeSetting]:
    made: list[Setting] = []

    def make(slots: int = 100, limits: Limits = NO_LIMITS, grace: float = 30.0) -> Setting:
        made.append(Setting(slots, limits, grace))
        return made[-1]

    yield make
    for setting in made:
        setting.pool.close()
    for setting in made:
        if setting.pool._inner is not None:
            setting.pool._inner.thread.join(30)
            assert not setting.pool._inner.thread.is_alive()
            assert setting.pool._inner.loop.is_closed()


async def test_five_thousand_wait_at_once_and_are_delivered_in_a_few_batches() -> None:
    deliveries: Deliveries[int, int] = Deliveries()
    begun = most = 0
    opened: asyncio.Event | None = None

    async def wait(item: int) -> int | Ended:
        nonlocal begun, most, opened
        opened = opened or asyncio.Event()
        begun += 1
        most = max(most, begun)
        if begun == 5000:
            opened.set()
        await opened.wait()
        begun -= 1
        return item * 2

    pool: AsyncPool[int, int | Ended] = AsyncPool(5000, wait, deliveries)
    started = time.perf_counter()
    pool.submit(range(5000))
    await until(lambda: len(deliveries.all) == 5000)
    seconds = time.perf_counter() - started
    pool.close()

    assert most == 5000
    assert deliveries.results == {item: item * 2 for item in range(5000)}
    assert len(deliveries.batches) < 500
    print(f"5,000 coroutines at once: {seconds / 5000 * 1e6:.1f} us each, {len(deliveries.batches)} batches")  # noqa: T201


async def test_no_more_run_at_a_time_than_there_are_slots() -> None:
    deliveries: Deliveries[int, str] = Deliveries()
    running = most = 0

    async def run(_: int) -> str | Ended:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return "ran"

    pool: AsyncPool[int, str | Ended] = AsyncPool(3, run, deliveries)
    pool.submit(range(50))
    await until(lambda: len(deliveries.all) == 50)
    pool.close()
    assert most == 3


async def test_code_that_blocks_does_not_stall_the_loop_of_the_worker(
    make_setting: MakeSetting, gate: threading.Event
) -> None:
    setting = make_setting()

    async def block() -> str:
        gate.wait(30)
        return "ended"

    setting.pool.submit([block])
    await until(lambda: setting.pool.running == [block])
    for _ in range(100):
        await asyncio.sleep(0)
    assert not setting.deliveries.all
    gate.set()
    await until(lambda: setting.deliveries.all)
    assert setting.deliveries.all == [(block, "ended")]


async def test_code_that_blocks_past_its_hard_limit_is_reported_all_the_same(
    make_setting: MakeSetting, gate: threading.Event
) -> None:
    setting = make_setting(limits=Limits(hard=0.05), grace=0.05)

    async def block() -> str:
        gate.wait(30)
        return "too late"

    assert await setting.run(block) == [TimedOut(0.05)]
    assert setting.pool.running == []


def test_the_soft_limit_of_a_coroutine_is_shown_as_that_of_every_task() -> None:
    kinds = (SoftCancellation, SoftTimeLimitExceeded)
    shown = [f"{kind.__module__} {kind.__name__} {kind.__qualname__}" for kind in kinds]

    assert shown[0] == shown[1]


async def test_the_soft_limit_raises_where_the_coroutine_waits_and_it_may_tidy_up(make_setting: MakeSetting) -> None:
    setting = make_setting(limits=Limits(soft=0.05, hard=60))

    async def tidy_up() -> str:
        try:
            await asyncio.sleep(60)
        except SoftTimeLimitExceeded as error:
            await asyncio.sleep(0.01)
            task = asyncio.current_task()
            return f"{type(error).__name__}, {task.cancelling() if task else None} cancellations left"
        return "not interrupted"

    async def let_through() -> str:
        await asyncio.sleep(60)
        return "not interrupted"

    assert await setting.run(tidy_up, let_through) == [
        "SoftTimeLimitExceeded, 0 cancellations left",
        TimedOut(0.05),
    ]


async def test_the_soft_limit_takes_along_what_the_coroutine_has_begun(make_setting: MakeSetting) -> None:
    setting = make_setting(limits=Limits(soft=0.05))
    ended: list[str] = []

    async def part(name: str) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(name)

    async def group() -> str:
        async with asyncio.TaskGroup() as parts:
            parts.create_task(part("group 1"))
            parts.create_task(part("group 2"))
        return "not interrupted"

    async def gather() -> str:
        await asyncio.gather(part("gather 1"), part("gather 2"))
        return "not interrupted"

    async def wait_for() -> str:
        await asyncio.wait_for(part("wait_for"), 60)
        return "not interrupted"

    async def timeout() -> str:
        async with asyncio.timeout(60):
            await part("timeout")
        return "not interrupted"

    assert await setting.run(group, gather, wait_for, timeout) == [TimedOut(0.05)] * 4
    assert sorted(ended) == ["gather 1", "gather 2", "group 1", "group 2", "timeout", "wait_for"]


async def test_a_timeout_of_the_codes_own_stays_its_own(make_setting: MakeSetting) -> None:
    setting = make_setting(limits=Limits(soft=60))

    async def own() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except SoftTimeLimitExceeded:
            return "taken for the limit"
        except TimeoutError:
            return "its own"
        return "none"

    assert await setting.run(own) == ["its own"]


async def test_a_coroutine_past_its_hard_limit_is_cancelled(make_setting: MakeSetting) -> None:
    setting = make_setting(limits=Limits(hard=0.05))
    seen: list[type[BaseException]] = []

    async def wait() -> str:
        try:
            await asyncio.sleep(60)
        except BaseException as error:
            seen.append(type(error))
            raise
        return "not interrupted"

    assert await setting.run(wait) == [TimedOut(0.05)]
    assert seen == [asyncio.CancelledError]


async def test_a_coroutine_that_will_not_be_cancelled_is_reported_after_the_grace(make_setting: MakeSetting) -> None:
    setting = make_setting(slots=1, limits=Limits(hard=0.05), grace=0.05)
    release = threading.Event()

    async def stubborn() -> str:
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        return "too late"

    async def after() -> str:
        return "next"

    assert await setting.run(stubborn, after) == [TimedOut(0.05), "next"]
    release.set()


async def test_what_runs_can_be_stopped_and_is_delivered_when_it_has_ended(make_setting: MakeSetting) -> None:
    setting = make_setting()
    tidied: list[str] = []

    async def wait() -> str:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            tidied.append("up")
        return "not interrupted"

    setting.pool.submit([wait])
    await until(lambda: setting.pool.running)
    assert setting.pool.stop(wait)
    assert setting.pool.stop(wait), "it still runs"
    await until(lambda: setting.deliveries.all)

    assert setting.deliveries.all == [(wait, Stopped())]
    assert tidied == ["up"]
    assert not setting.pool.stop(wait)


async def test_every_item_is_delivered_once_however_stops_and_ends_fall_together(hasty_switches: None) -> None:
    deliveries: Deliveries[object, str] = Deliveries()

    async def run(_: object) -> str | Ended:
        await asyncio.sleep(0)
        return "ran"

    pool: AsyncPool[object, str | Ended] = AsyncPool(4, run, deliveries, limits_of=lambda _: Limits(soft=0, hard=60))
    items = [object() for _ in range(400)]
    for start in range(0, len(items), 4):
        for job in pool.submit(items[start : start + 4]):
            await asyncio.sleep(0)
            if job.claim():
                deliveries([(job.item, Stopped())])
            else:
                pool.stop(job.item)
    await until(lambda: len(deliveries.all) >= len(items))
    pool.close()

    assert len(deliveries.all) == len(items)
    assert len(deliveries.results) == len(items)


async def test_what_gets_away_from_a_coroutine_ends_only_itself(make_setting: MakeSetting) -> None:
    setting = make_setting()

    async def leave() -> str:
        raise SystemExit(3)

    async def cancel_itself() -> str:
        raise asyncio.CancelledError

    async def after() -> str:
        return "next"

    assert await setting.run(leave, cancel_itself, after) == [
        Died("its coroutine raised SystemExit: 3"),
        Died("its coroutine was cancelled, and not by the pool"),
        "next",
    ]


async def test_closing_cancels_what_runs_and_delivers_nothing_more(make_setting: MakeSetting) -> None:
    setting = make_setting()
    cancelled = threading.Event()

    async def wait() -> str:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        return "not interrupted"

    (job,) = setting.pool.submit([wait])
    await until(lambda: setting.pool.running)
    setting.pool.close()
    await until(cancelled.is_set)
    inner = setting.pool._inner
    assert inner is not None
    await until(lambda: not inner.thread.is_alive())

    assert not job.claim()
    assert not setting.deliveries.all


async def test_a_pool_that_was_never_used_has_no_thread(make_setting: MakeSetting) -> None:
    setting = make_setting()
    assert setting.pool._inner is None
    setting.pool.close()


async def test_what_ends_right_after_the_last_look_wakes_the_workers_loop_again(make_setting: MakeSetting) -> None:
    """The flag that says that the loop was woken is cleared before the look, not after it."""
    setting = make_setting()

    async def code() -> str:
        return "ended"

    def end_late() -> None:
        setting.pool._ended.append((other, "late"))
        setting.pool._wake_outer()

    async def other() -> str:
        return "never run"

    setting.pool._ended = LateQueue(end_late)
    setting.pool.submit([code])
    await until(lambda: len(setting.deliveries.all) == 2, seconds=10)

    assert setting.deliveries.batches == [[(code, "ended")], [(other, "late")]]


async def test_what_is_submitted_right_after_the_last_look_wakes_the_pools_loop_again(
    make_setting: MakeSetting,
) -> None:
    """As above, for the other direction."""
    setting = make_setting()

    is_late = asyncio.Event()  # of the pool's loop

    async def first() -> str:
        await is_late.wait()  # at the end of a coroutine the pool looks again anyway
        return "first"

    async def late() -> str:
        is_late.set()
        return "late"

    setting.pool._incoming = LateQueue(lambda: setting.pool.submit([late]))
    setting.pool.submit([first])
    await until(lambda: len(setting.deliveries.all) == 2, seconds=10)

    assert setting.deliveries.results == {first: "first", late: "late"}
