from __future__ import annotations

import asyncio
import queue
import threading
import time

import pytest

from herdmaster.pools.limits import Died, Ended
from herdmaster.pools.threads import Job, ThreadPool
from tests.order.late_queue import LateQueue
from tests.pools.conditions import Deliveries, until


class Collector:
    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int]]] = []

    def __call__(self, ended: list[tuple[int, int]]) -> None:
        self.batches.append(ended)

    @property
    def results(self) -> dict[int, int]:
        return {item: result for batch in self.batches for item, result in batch}


async def test_every_item_is_run_and_its_result_delivered_in_the_loop() -> None:
    collector = Collector()
    pool: ThreadPool[int, int] = ThreadPool(4, lambda item: item * 2, collector)
    pool.submit(range(1000))
    await until(lambda: len(collector.results) == 1000)
    pool.close()

    assert collector.results == {item: item * 2 for item in range(1000)}


async def test_what_ends_before_the_loop_looks_comes_in_one_batch() -> None:
    collector = Collector()
    pool: ThreadPool[int, int] = ThreadPool(2, lambda item: item, collector)
    pool.submit(range(100))
    deadline = time.monotonic() + 10
    while len(pool._ended) < 100 and time.monotonic() < deadline:
        time.sleep(0.001)  # noqa: ASYNC251 - the loop must stand still
    await until(lambda: bool(collector.batches))
    pool.close()

    assert [len(batch) for batch in collector.batches] == [100]


async def test_what_raises_takes_no_slot_along() -> None:
    def run(item: int) -> int | Ended:
        if item < 5:
            raise MemoryError("no room") if item % 2 else SystemExit(item)
        return item

    deliveries: Deliveries[int, int] = Deliveries()
    pool: ThreadPool[int, int | Ended] = ThreadPool(2, run, deliveries)
    pool.submit(range(8))
    await until(lambda: len(deliveries.all) == 8)
    pool.close()

    reasons = [
        f"its thread raised {'MemoryError: no room' if item % 2 else f'SystemExit: {item}'}" for item in range(5)
    ]
    assert [deliveries.results[item] for item in range(8)] == [*map(Died, reasons), 5, 6, 7]


async def test_no_more_run_at_a_time_than_there_are_slots(gate: threading.Event) -> None:
    pool: ThreadPool[int, bool] = ThreadPool(3, lambda _: gate.wait(10), lambda ended: None)
    pool.submit(range(10))
    await until(lambda: len(pool.running) == 3)

    assert pool.slots == 3
    assert sorted(pool.running) == [0, 1, 2]
    pool.close()


async def test_a_job_goes_to_a_thread_or_is_withdrawn_and_never_both(gate: threading.Event) -> None:
    ran: list[int] = []

    def run(item: int) -> None:
        ran.append(item)
        gate.wait(10)

    pool: ThreadPool[int, None] = ThreadPool(1, run, lambda ended: None)
    jobs = pool.submit(range(3))
    await until(lambda: ran == [0])

    assert [job.claim() for job in jobs] == [False, True, True]
    assert [job.claim() for job in jobs] == [False, False, False]
    gate.set()
    await until(lambda: not pool.running)
    pool.close()
    assert ran == [0]


def test_of_many_claims_at_the_same_time_one_succeeds() -> None:
    for _ in range(50):
        job = Job(1)
        barrier = threading.Barrier(4)
        won: list[bool] = []

        def claim(job: Job[int] = job, barrier: threading.Barrier = barrier, won: list[bool] = won) -> None:
            barrier.wait()
            won.append(job.claim())

        threads = [threading.Thread(target=claim) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won) == [False, False, False, True]


async def test_closing_runs_nothing_more_and_does_not_wait(gate: threading.Event) -> None:
    ran: list[int] = []

    def run(item: int) -> None:
        ran.append(item)
        gate.wait(10)

    pool: ThreadPool[int, None] = ThreadPool(2, run, lambda ended: None)
    jobs = pool.submit(range(50))
    await until(lambda: len(ran) == 2)
    pool.close()
    assert not any(job.claim() for job in jobs)
    gate.set()
    for thread in pool._threads:
        thread.join(10)

    assert not any(thread.is_alive() for thread in pool._threads)
    assert len(ran) == 2


@pytest.mark.long
@pytest.mark.usefixtures("hasty_switches")
async def test_closing_while_threads_empty_the_queue_never_blocks_the_loop() -> None:
    for _ in range(1000):
        pool: ThreadPool[int, None] = ThreadPool(1, lambda _: None, lambda ended: None)
        pool.submit([1])
        pool.close()


class QuicklyTaken:
    """A queue whose last item a thread takes at the very moment between two calls."""

    def empty(self) -> bool:
        return False

    def get_nowait(self) -> Job[int] | None:
        raise queue.Empty

    def get(self) -> Job[int] | None:
        raise AssertionError("the loop would stand still here")

    def put(self, job: Job[int] | None) -> None:
        assert job is None


async def test_closing_does_not_wait_for_what_a_thread_was_quicker_to_take() -> None:
    pool: ThreadPool[int, None] = ThreadPool(1, lambda _: None, lambda ended: None)
    pool.close()
    for thread in pool._threads:
        thread.join(10)
    pool._queue = QuicklyTaken()  # type: ignore[assignment]  # all of a SimpleQueue that closing uses
    pool.close()


async def test_threads_of_a_pool_whose_loop_is_closed_end_quietly() -> None:
    gate = threading.Event()

    def start() -> ThreadPool[int, bool]:
        async def make() -> ThreadPool[int, bool]:
            pool: ThreadPool[int, bool] = ThreadPool(1, lambda _: gate.wait(10), lambda ended: None)
            pool.submit([1])
            return pool

        return asyncio.run(make())

    pool = await asyncio.to_thread(start)
    gate.set()
    pool._threads[0].join(10)
    assert not pool._threads[0].is_alive()


async def test_threads_are_daemons_so_that_blocking_code_keeps_no_process_alive() -> None:
    pool: ThreadPool[int, None] = ThreadPool(2, lambda _: None, lambda ended: None)

    assert all(thread.daemon for thread in pool._threads)
    pool.close()


async def test_what_ends_right_after_the_last_look_wakes_the_loop_again() -> None:
    """The flag that says that the loop was woken is cleared before the look, not after it."""
    collector = Collector()
    pool: ThreadPool[int, int] = ThreadPool(1, lambda item: item, collector)

    def end_late() -> None:
        pool._ended.append((2, 2))
        pool._wake()

    pool._ended = LateQueue(end_late)
    pool.submit([1])
    await until(lambda: len(collector.results) == 2, seconds=10)
    pool.close()

    assert collector.batches == [[(1, 1)], [(2, 2)]]
