"""The order in which the threads of a pool and the loop that made it note, look and claim.

Each test does the other side's part at the one moment that matters, instead of racing for it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from herdmaster.pools.coroutines import AsyncPool
from herdmaster.pools.job import Job
from herdmaster.pools.limits import NO_LIMITS, Ended, Limits, Stopped, TimedOut
from herdmaster.pools.threads import ThreadPool
from tests.pools.conditions import Deliveries, until

SOON = 20.0
LATER = 1000.0
"""Seconds of a limit that no test waits for."""


class HeldClaim:
    """Holds the first claim that is made in another thread than this one, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()
        claim, own = Job.claim, threading.get_ident()

        def held(job: Job[object]) -> bool:
            if threading.get_ident() != own and not self.reached.is_set():
                self.reached.set()
                self.go.wait(SOON)
            return claim(job)

        monkeypatch.setattr(Job, "claim", held)


@pytest.fixture
def held_claim(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldClaim]:
    held = HeldClaim(monkeypatch)
    yield held
    held.go.set()


class Threads:
    """A pool of one thread that runs functions, all with the same limits."""

    def __init__(self, limits: Limits = NO_LIMITS) -> None:
        self.deliveries: Deliveries[Callable[[], str], str] = Deliveries()
        self.pool: ThreadPool[Callable[[], str], str | Ended] = ThreadPool(
            1, lambda code: code(), self.deliveries, limits_of=lambda _: limits
        )


class Coroutines:
    """A pool that awaits coroutine functions, all with the same limits."""

    def __init__(self, limits: Limits = NO_LIMITS) -> None:
        self.deliveries: Deliveries[Callable[[], Awaitable[str]], str] = Deliveries()
        self.pool: AsyncPool[Callable[[], Awaitable[str]], str | Ended] = AsyncPool(
            1, lambda code: code(), self.deliveries, limits_of=lambda _: limits, grace=0.0
        )

    async def close(self) -> None:
        self.pool.close()
        assert self.pool._inner is not None
        await asyncio.to_thread(self.pool._inner.thread.join, SOON)


async def test_what_a_thread_is_about_to_claim_can_be_stopped(held_claim: HeldClaim) -> None:
    """It is among those that run before the claim: else it could be neither withdrawn nor stopped."""
    threads, ran = Threads(), []

    def code() -> str:
        ran.append(1)
        return "ran"

    threads.pool.submit([code])
    await until(held_claim.reached.is_set, seconds=SOON)
    stopped = threads.pool.stop(code)
    held_claim.go.set()
    await until(lambda: threads.deliveries.all, seconds=SOON)
    threads.pool.close()

    assert stopped
    assert threads.deliveries.all == [(code, Stopped())]
    assert not ran


async def test_a_coroutine_that_is_about_to_be_claimed_can_be_stopped(held_claim: HeldClaim) -> None:
    coroutines, ran = Coroutines(), []

    async def code() -> str:
        ran.append(1)
        return "ran"

    coroutines.pool.submit([code])
    await until(held_claim.reached.is_set, seconds=SOON)
    stopped = coroutines.pool.stop(code)
    held_claim.go.set()
    await until(lambda: coroutines.deliveries.all, seconds=SOON)
    await coroutines.close()

    assert stopped
    assert coroutines.deliveries.all == [(code, Stopped())]
    assert not ran


def look_at_once(pool: ThreadPool[Callable[[], str], str | Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first look come in the very moment in which it is asked for, when its time is over."""
    ask, asked = pool._watch.ask, threading.Event()

    def look(when: float) -> None:
        if asked.is_set():
            ask(when)
        else:
            asked.set()
            pool._look(when)

    monkeypatch.setattr(pool._watch, "ask", look)


async def test_a_look_that_comes_at_once_finds_the_hard_limit_of_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at is in place before its time is asked for."""
    threads = Threads(Limits(hard=LATER))
    look_at_once(threads.pool, monkeypatch)

    def code() -> str:
        return "ran"

    threads.pool.submit([code])
    await until(lambda: threads.deliveries.all, seconds=SOON)
    threads.pool.close()

    assert threads.deliveries.all == [(code, TimedOut(LATER))]


async def test_a_look_that_comes_at_once_finds_the_soft_limit_of_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread is open for the code before its time is asked for."""
    threads = Threads(Limits(soft=LATER))
    look_at_once(threads.pool, monkeypatch)

    def code() -> str:
        end = time.monotonic() + SOON
        while time.monotonic() < end:
            pass
        return "ran"

    threads.pool.submit([code])
    await until(lambda: threads.deliveries.all, seconds=2 * SOON)
    threads.pool.close()

    assert threads.deliveries.all == [(code, TimedOut(LATER))]


async def test_a_look_that_comes_at_once_finds_the_hard_limit_of_a_coroutine(monkeypatch: pytest.MonkeyPatch) -> None:
    coroutines, ran = Coroutines(Limits(hard=LATER)), []
    ask, asked = coroutines.pool._watch.ask, threading.Event()

    def look(when: float) -> None:
        if asked.is_set():
            ask(when)
        else:
            asked.set()
            coroutines.pool._look(when)

    monkeypatch.setattr(coroutines.pool._watch, "ask", look)

    async def code() -> str:
        ran.append(1)
        return "ran"

    coroutines.pool.submit([code])
    await until(lambda: coroutines.deliveries.all, seconds=SOON)
    await coroutines.close()

    assert coroutines.deliveries.all == [(code, TimedOut(LATER))]
    assert not ran, "it is not to begin"
