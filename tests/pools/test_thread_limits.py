from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from herdmaster.errors import SoftTimeLimitExceeded
from herdmaster.pools.limits import NO_LIMITS, Ended, Limits, Stopped, TimedOut
from herdmaster.pools.threads import ThreadPool
from tests.pools.conditions import Deliveries, until

pytestmark = pytest.mark.long

Code = Callable[[], str]


def run(code: Code) -> str | Ended:
    return code()


class Setting:
    """A pool whose items are code, all with the same limits."""

    def __init__(self, slots: int, limits: Limits = NO_LIMITS) -> None:
        self.deliveries: Deliveries[Code, str] = Deliveries()
        self.pool: ThreadPool[Code, str | Ended] = ThreadPool(slots, run, self.deliveries, limits_of=lambda _: limits)


@pytest.fixture
def make_setting() -> Iterator[Callable[..., Setting]]:
    made: list[Setting] = []

    def make(slots: int, limits: Limits = NO_LIMITS) -> Setting:
        made.append(Setting(slots, limits))
        return made[-1]

    yield make
    for setting in made:
        setting.pool.close()


def spin() -> str:
    while True:
        pass


def spin_and_tidy_up() -> str:
    try:
        spin()
    except SoftTimeLimitExceeded as error:
        return f"tidied up: {error}"
    raise AssertionError("spinning does not end")


async def test_the_soft_limit_raises_in_the_code_which_may_tidy_up(make_setting: Callable[..., Setting]) -> None:
    setting = make_setting(1, Limits(soft=0.05))
    setting.pool.submit([spin_and_tidy_up])
    await until(lambda: setting.deliveries.all)

    assert setting.deliveries.all == [(spin_and_tidy_up, "tidied up: the task ran past its soft time limit")]


async def test_code_that_lets_the_soft_limit_through_has_timed_out_and_its_thread_goes_on(
    make_setting: Callable[..., Setting],
) -> None:
    setting = make_setting(1, Limits(soft=0.05))
    threads = list(setting.pool._threads)
    setting.pool.submit([spin, lambda: "next"])
    await until(lambda: len(setting.deliveries.all) == 2)

    assert [result for _, result in setting.deliveries.all] == [TimedOut(0.05), "next"]
    assert setting.pool._threads == threads
    assert threads[0].is_alive()


async def test_code_past_its_hard_limit_is_reported_and_a_fresh_thread_takes_its_slot(
    make_setting: Callable[..., Setting], gate: threading.Event
) -> None:
    setting = make_setting(1, Limits(hard=0.05))
    old = setting.pool._threads[0]

    def block() -> str:
        with contextlib.suppress(SystemExit):  # by which it is told to end
            gate.wait(60)
        return "too late"

    setting.pool.submit([block, lambda: "next"])
    await until(lambda: len(setting.deliveries.all) == 2)

    assert [result for _, result in setting.deliveries.all] == [TimedOut(0.05), "next"]
    assert setting.pool._threads != [old]
    gate.set()
    await until(lambda: not old.is_alive())
    await asyncio.sleep(0)
    assert len(setting.deliveries.all) == 2, "what it still came to is thrown away"


async def test_python_code_past_its_hard_limit_ends(make_setting: Callable[..., Setting]) -> None:
    setting = make_setting(1, Limits(hard=0.05))
    old = setting.pool._threads[0]

    def stubborn() -> str:
        while True:
            with contextlib.suppress(Exception):  # as careless code does
                spin()

    setting.pool.submit([stubborn])
    await until(lambda: not old.is_alive() and setting.deliveries.all)

    assert setting.deliveries.all == [(stubborn, TimedOut(0.05))]


async def test_limits_end_only_the_code_that_they_are_for(make_setting: Callable[..., Setting]) -> None:
    deliveries: Deliveries[str, str] = Deliveries()
    limits = {"short": Limits(hard=0.05), "none": Limits(), "long": Limits(soft=60, hard=60)}

    def sleep(item: str) -> str | Ended:
        time.sleep(0.4)
        return item

    pool: ThreadPool[str, str | Ended] = ThreadPool(3, sleep, deliveries, limits_of=limits.__getitem__)
    pool.submit(list(limits))
    await until(lambda: len(deliveries.all) == 3)
    pool.close()

    assert deliveries.results == {"short": TimedOut(0.05), "none": "none", "long": "long"}


async def test_what_runs_can_be_stopped_and_its_slot_is_free_at_once(
    make_setting: Callable[..., Setting], gate: threading.Event
) -> None:
    setting = make_setting(1)

    def block() -> str:
        gate.wait(60)
        return "too late"

    def after() -> str:
        return "next"

    setting.pool.submit([block, after])
    await until(lambda: setting.pool.running == [block])

    assert setting.pool.stop(block)
    assert not setting.pool.stop(block), "only once"
    assert not setting.deliveries.all, "not before it returns"
    await until(lambda: len(setting.deliveries.all) == 2)
    assert setting.deliveries.all == [(block, Stopped()), (after, "next")]
    assert not setting.pool.stop(after)


async def test_what_no_thread_has_begun_is_withdrawn_and_not_stopped(
    make_setting: Callable[..., Setting], gate: threading.Event
) -> None:
    setting = make_setting(1)

    def block() -> str:
        gate.wait(60)
        return "ended"

    def waiting() -> str:
        return "ran"

    _, job = setting.pool.submit([block, waiting])
    await until(lambda: setting.pool.running == [block])

    assert not setting.pool.stop(waiting)
    assert job.claim()
    gate.set()
    await until(lambda: setting.deliveries.all)
    assert setting.deliveries.all == [(block, "ended")]


async def test_every_item_is_delivered_once_however_stops_and_ends_fall_together(hasty_switches: None) -> None:
    """Whatever stop answers, the item comes once; and as Stopped exactly if it said so."""
    deliveries: Deliveries[object, str] = Deliveries()
    pool: ThreadPool[object, str | Ended] = ThreadPool(4, lambda _: "ran", deliveries)
    stopped: dict[int, bool] = {}
    items = [object() for _ in range(600)]
    for start in range(0, len(items), 4):
        batch = items[start : start + 4]
        jobs = pool.submit(batch)
        await asyncio.sleep(0)
        for job in jobs:
            if job.claim():
                stopped[id(job.item)] = True
                deliveries([(job.item, Stopped())])
            else:
                stopped[id(job.item)] = pool.stop(job.item)
    await until(lambda: len(deliveries.all) >= len(items))
    pool.close()

    assert len(deliveries.all) == len(items)
    assert {id(item): isinstance(result, Stopped) for item, result in deliveries.all} == stopped


async def test_a_soft_limit_never_reaches_the_next_task_of_the_thread(hasty_switches: None) -> None:
    """Tasks that last as long as their limit race with it, and between them stand tasks without one, which must not
    be touched. Each limit is raised in its own task, or nowhere."""
    rng = random.Random(1)
    deliveries: Deliveries[tuple[int, float], str] = Deliveries()
    leaks: list[int] = []

    def work(item: tuple[int, float]) -> str | Ended:
        number, seconds = item
        end = time.perf_counter() + seconds
        try:
            while time.perf_counter() < end:
                pass
        except SoftTimeLimitExceeded:
            if number % 2:
                leaks.append(number)
            return "interrupted"
        return "made it"

    def limits_of(item: tuple[int, float]) -> Limits:
        return Limits() if item[0] % 2 else Limits(soft=0.011)

    pool: ThreadPool[tuple[int, float], str | Ended] = ThreadPool(2, work, deliveries, limits_of=limits_of)
    items = [(n, 0.0005 if n % 2 else rng.uniform(0.008, 0.016)) for n in range(600)]
    pool.submit(items)
    await until(lambda: len(deliveries.all) == len(items))
    threads = list(pool._threads)
    pool.close()
    for thread in threads:
        thread.join(10)

    results = deliveries.results
    assert not leaks
    assert {results[item] for item in items if item[0] % 2} == {"made it"}
    raced = [results[item] for item in items if item[0] % 2 == 0]
    assert {"interrupted", "made it"} <= {str(result) for result in raced}, "a race that one side always wins is none"
    assert all(result in ("interrupted", "made it", TimedOut(0.011)) for result in raced)
