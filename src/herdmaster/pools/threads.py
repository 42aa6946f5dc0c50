"""A pool of threads with a batched hand-off.

One wake-up of the event loop per task would cost more than a short task itself. Jobs go to the threads through one C
queue. Results are collected in a list, and the loop is woken once for all that have come since it last looked.

A thread cannot be killed. An exception can be raised in it at the next bytecode. That ends Python code that does not
catch it, but does not reach code that waits in a call (`time.sleep`, a read without a timeout, a long regular
expression). So a task that is stopped or past its hard limit is reported at once, and a new thread gets its slot. The
old thread is told to end, and its result is dropped. Until it ends, it keeps its memory and its share of the
interpreter, and its effects outside the process still happen. Code that must be ended for certain belongs in a pool of
processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import copy_context
from math import inf
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar, cast

from herdmaster import forks
from herdmaster.errors import SoftTimeLimitExceeded
from herdmaster.pools.job import Job
from herdmaster.pools.limits import Died, Ended, Limits, Stopped, TimedOut
from herdmaster.pools.seat import Seat
from herdmaster.pools.watch import Watch

__all__ = ["Job", "ThreadPool"]

T = TypeVar("T")
R = TypeVar("R")

_STOP: Final = None


class _Timed:
    """A running job with limits: when each limit is reached, by `time.monotonic`."""

    __slots__ = ("hard", "limits", "seat", "soft")

    def __init__(self, seat: Seat, limits: Limits) -> None:
        now = time.monotonic()
        self.seat = seat
        self.limits = limits
        self.soft = inf if limits.soft is None else now + limits.soft
        self.hard = inf if limits.hard is None else now + limits.hard


class ThreadPool(Generic[T, R]):
    """Runs `run(item)` on `slots` threads. `deliver` is called in the loop with (item, result) pairs.

    An item whose `run` raises is delivered as `Died`. `limits_of(item)` is called on the thread that is about to run
    the item. A soft limit raises SoftTimeLimitExceeded within `run`; if `run` does not catch it, the item is delivered
    as `TimedOut`. `R` has to include `limits.Ended` if `run` can raise, with `limits_of`, and if `stop` is called.
    `given_up(item)` is called in the loop before the thread of a running item is told to end.

    The threads are daemons: blocking code cannot be stopped, and must not keep a process alive that was told to end.
    """

    def __init__(
        self,
        slots: int,
        run: Callable[[T], R],
        deliver: Callable[[list[tuple[T, R]]], None],
        *,
        limits_of: Callable[[T], Limits] | None = None,
        given_up: Callable[[T], None] | None = None,
        name: str = "herdmaster-task",
    ) -> None:
        forks.add_task_host()
        self._generation = forks.generation
        self._loop = asyncio.get_running_loop()
        self._loop_context = copy_context()  # calls in the loop belong to the role that made it
        self._run = run
        self._deliver = deliver
        self._limits_of = limits_of
        self._given_up = given_up
        self._name = name
        self._queue: SimpleQueue[Job[T] | None] = SimpleQueue()
        self._ended: deque[tuple[T, R]] = deque()
        self._woken = False
        self._closed = False
        self._lock = threading.Lock()
        self._running: dict[Job[T], Seat] = {}  # the side that takes a job out delivers the item
        self._timed: dict[Job[T], _Timed] = {}
        self._watch = Watch(self._loop, self._look)
        self._numbers = itertools.count()
        self.slots = slots
        self._threads: list[threading.Thread] = []
        for _ in range(slots):
            self._start_thread()

    def submit(self, items: Iterable[T], /) -> list[Job[T]]:
        jobs = [Job(item) for item in items]
        for job in jobs:
            self._queue.put(job)
        return jobs

    @property
    def running(self) -> list[T]:
        """The items that the threads run now; a snapshot."""
        return [job.item for job in self._running.copy()]

    def stop(self, item: T, /) -> bool:
        """Give up on a running item: deliver it as `Stopped`, and tell its thread to end. Return False if no thread has
        begun it, or it has ended."""
        for job in self._running.copy():
            if job.item is item:
                return self._give_up(job, Stopped())
        return False

    def close(self) -> None:
        """Let each thread end after the item that it runs. Unclaimed jobs are not run. Does not wait."""
        self._closed = True
        self._watch.close()
        with contextlib.suppress(Empty):
            while True:  # the threads take from it as well, so a look whether it is empty would prove nothing
                job = self._queue.get_nowait()
                if job is not None:
                    job.claim()
        for _ in self._threads:
            self._queue.put(_STOP)

    # --- in the threads ------------------------------------------------------------------------------------------

    def _work(self, seat: Seat) -> None:
        # SystemExit is sent to threads that were given up on, and may be raised anywhere.
        with contextlib.suppress(SystemExit):
            try:
                seat.enter()
                self._serve(seat)
            finally:
                seat.leave()

    def _serve(self, seat: Seat) -> None:
        while True:
            job = self._queue.get()
            if job is None:
                return
            self._running[job] = seat  # before the claim: a job that cannot be withdrawn can be stopped
            if not job.claim():
                self._running.pop(job, None)
                continue
            try:
                result = (
                    self._run(job.item) if self._limits_of is None else self._run_limited(seat, job, self._limits_of)
                )
            except BaseException as error:  # noqa: BLE001 - a thread that ended here would take its slot along
                if forks.generation != self._generation:
                    forks.end(error)
                result = _as_result(Died(f"its thread raised {type(error).__name__}: {error}"))
            if forks.generation != self._generation:
                forks.end()
            if self._running.pop(job, None) is None:
                return  # this thread was given up on, and another one has the slot
            self._ended.append((job.item, result))
            if not self._wake():
                return  # the loop is closed, so the result is of no use

    def _run_limited(self, seat: Seat, job: Job[T], limits_of: Callable[[T], Limits]) -> R:
        limits = limits_of(job.item)
        if limits.soft is None and limits.hard is None:
            return self._run(job.item)
        timed = self._timed[job] = _Timed(seat, limits)
        results: list[R] = []
        try:
            try:
                seat.open(job)
                self._watch.ask(min(timed.soft, timed.hard))
                results.append(self._run(job.item))
            finally:
                seat.close()
        except SoftTimeLimitExceeded:
            if not results:  # raised before or after the code, where `run` does not catch it
                results.append(_as_result(TimedOut(limits.soft or 0.0)))
        finally:
            self._timed.pop(job, None)
        return results[0]

    def _wake(self) -> bool:
        with self._lock:
            wake, self._woken = not self._woken, True
        if wake:
            try:
                self._loop.call_soon_threadsafe(self._collect, context=self._loop_context)
            except RuntimeError:
                return False
        return True

    # --- in the loop ---------------------------------------------------------------------------------------------

    def _start_thread(self) -> None:
        seat = Seat(self._work, f"{self._name}-{next(self._numbers)}")
        self._threads.append(seat.thread)
        seat.thread.start()

    def _give_up(self, job: Job[T], ended: Ended) -> bool:
        seat = None
        if not job.claim():  # else the job was just added to those that run, and its thread will find it claimed
            seat = self._running.pop(job, None)
            if seat is None:
                return False
            if self._given_up is not None:
                self._given_up(job.item)
        self._ended.append((job.item, _as_result(ended)))
        self._wake()
        if seat is not None:
            self._threads.remove(seat.thread)
            seat.end()
            if not self._closed:
                self._start_thread()
        return True

    def _look(self, now: float) -> float | None:
        """Enforce the limits that are due."""
        earliest = inf
        for job, timed in self._timed.copy().items():
            if timed.hard <= now:
                self._give_up(job, TimedOut(timed.limits.hard or 0.0))
                continue
            if timed.soft <= now:
                timed.soft = inf
                timed.seat.interrupt(job, SoftTimeLimitExceeded)
            earliest = min(earliest, timed.soft, timed.hard)
        return earliest if earliest < inf else None

    def _collect(self) -> None:
        with self._lock:
            self._woken = False
        ended: list[tuple[T, R]] = []
        while self._ended:
            ended.append(self._ended.popleft())
        if ended:
            self._deliver(ended)


def _as_result(ended: Ended) -> R:  # type: ignore[type-var]
    # A caller that sets limits or stops promises that R includes it; a type variable cannot.
    return cast("R", ended)
