from __future__ import annotations

import asyncio
import threading
import time

from herdmaster.pools.watch import Watch
from tests.pools.conditions import until


class Looks:
    """Answers with the times given, in order."""

    def __init__(self, *answers: float) -> None:
        self.times: list[float] = []
        self._answers = list(answers)

    def __call__(self, now: float) -> float | None:
        self.times.append(now)
        return self._answers.pop(0) if self._answers else None


async def test_the_earliest_time_counts_from_whatever_thread_it_is_asked_for() -> None:
    looks = Looks()
    watch = Watch(asyncio.get_running_loop(), looks)
    now = time.monotonic()
    for seconds in (60.0, 0.2, 30.0):
        thread = threading.Thread(target=watch.ask, args=(now + seconds,))
        thread.start()
        thread.join()
    await until(lambda: looks.times)
    await asyncio.sleep(0.1)

    assert len(looks.times) == 1
    assert 0.2 <= looks.times[0] - now < 20
    watch.close()


async def test_a_look_says_when_the_next_one_is_due() -> None:
    now = time.monotonic()
    looks = Looks(now + 0.1, now + 0.2)
    watch = Watch(asyncio.get_running_loop(), looks)
    watch.ask(now)
    await until(lambda: len(looks.times) == 3)

    assert looks.times[1] >= now + 0.1
    assert looks.times[2] >= now + 0.2
    watch.close()


async def test_a_watch_that_was_closed_looks_no_more() -> None:
    looks = Looks()
    watch = Watch(asyncio.get_running_loop(), looks)
    watch.ask(time.monotonic() + 0.05)
    await asyncio.sleep(0)
    watch.close()
    watch.ask(time.monotonic())
    await asyncio.sleep(0.2)
    assert not looks.times


async def test_asking_is_harmless_after_the_loop_has_closed() -> None:
    loop = asyncio.new_event_loop()
    watch = Watch(loop, Looks())
    loop.close()
    watch.ask(time.monotonic())


async def test_a_time_that_is_asked_for_during_a_look_is_looked_at() -> None:
    """As by a thread that begins a task which the look no longer sees."""
    times: list[float] = []

    def look(now: float) -> None:
        times.append(now)
        if len(times) == 1:
            watch.ask(now + 0.02)

    watch = Watch(asyncio.get_running_loop(), look)
    watch.ask(time.monotonic())
    await until(lambda: len(times) == 2, seconds=10)

    assert times[1] >= times[0] + 0.02
    watch.close()
