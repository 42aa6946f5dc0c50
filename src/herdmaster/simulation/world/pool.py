"""A pool whose jobs take virtual time. Like the real pool it claims a job when a thread starts it, and delivers results
in batches, with one wake-up of the loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Generic, Protocol, TypeVar, cast

from herdmaster.pools.job import Job
from herdmaster.pools.limits import Ended, Limits, Stopped, TimedOut
from herdmaster.pools.protocol import Pool
from herdmaster.roles.worker.held import Held
from herdmaster.simulation.world.once_code import Wait
from herdmaster.simulation.world.process import Process

T = TypeVar("T")
R = TypeVar("R")

_WAKE_SECONDS: Final = 0.0002


class Durations(Protocol):
    """Tells how long the code that has just been called would have run."""

    def take_duration(self) -> float | None:
        """Return seconds, or None for ever."""
        ...

    def take_wait(self) -> Wait | None:
        """Return what the code waits for before these seconds begin."""
        ...


class SimulatedPool(Generic[T, R]):
    """Runs the code of a job in the instant in which a thread starts it, and delivers the result after its duration."""

    def __init__(
        self,
        process: Process,
        durations: Durations,
        slots: int,
        run: Callable[[T], R],
        deliver: Callable[[list[tuple[T, R]]], None],
        limits_of: Callable[[T], Limits] | None = None,
    ) -> None:
        self._limits_of = limits_of
        self._process = process
        self._durations = durations
        self._run = run
        self._deliver = deliver
        self._queue: deque[Job[T]] = deque()
        self._ended: list[tuple[T, R]] = []
        self._running: dict[int, T] = {}
        self._idle = list(range(slots))
        self._threads = slots  # including those that were given up on
        self._woken = False
        self._closed = False
        self.slots = slots
        process.pools.append(self)

    @property
    def is_full(self) -> bool:
        return bool(self._queue)

    def submit(self, items: Iterable[T], /) -> list[Job[T]]:
        jobs = [Job(item) for item in items]
        self._queue.extend(jobs)
        for _ in jobs[: len(self._idle)]:
            self._later(self._begin, self._idle.pop())
        return jobs

    @property
    def running(self) -> list[T]:
        return list(self._running.values())

    @property
    def running_tasks(self) -> list[str]:
        """The names of the tasks that one of our workers runs here in its current session."""
        running = [] if self._closed else self._running.values()
        return [item.task.name for item in running if isinstance(item, Held)]

    def stop(self, item: T, /) -> bool:
        for thread, running in self._running.items():
            if running is item:
                self._give_up(thread, item, Stopped())
                return True
        return False

    def close(self) -> None:
        self._closed = True
        for job in self._queue:
            job.claim()
        self._queue.clear()

    def _later(self, action: Callable[..., object], *args: object) -> None:
        """Call when the operating system would schedule a thread."""
        self._process.loop.call_later(self._process.rng.uniform(0, _WAKE_SECONDS), action, *args)

    def _begin(self, thread: int) -> None:
        while self._queue:
            job = self._queue.popleft()
            if not job.claim():
                continue
            self._running[thread] = job.item
            result = self._run(job.item)
            duration, wait = self._durations.take_duration(), self._durations.take_wait()
            limit = None if self._limits_of is None else self._limits_of(job.item).hard
            if wait is not None:
                wait(partial(self._go_on, thread, job.item, result, duration or 0.0, limit))
            elif limit is not None and (duration is None or duration > limit):
                self._process.loop.call_later(limit, self._give_up, thread, job.item, TimedOut(limit))
            elif duration is not None:
                self._process.loop.call_later(duration, self._end, thread, job.item, result)
            return
        self._idle.append(thread)

    def _go_on(self, thread: int, item: T, result: R, duration: float, limit: float | None, goes_on: bool) -> None:
        if self._running.get(thread) is not item:
            return  # the task was given up on
        if goes_on and limit is not None and duration > limit:
            self._process.loop.call_later(limit, self._give_up, thread, item, TimedOut(limit))
        elif goes_on:
            self._process.loop.call_later(duration, self._end, thread, item, result)
        else:
            self._give_up(thread, item, Stopped())

    def _give_up(self, thread: int, item: T, ended: Ended) -> None:
        """Report the task as ended. Its thread runs on, and another one takes its place."""
        if self._running.get(thread) is item:
            del self._running[thread]
            self._threads += 1
            self._later(self._begin, self._threads)
            self._hand_over(item, cast("R", ended))

    def _end(self, thread: int, item: T, result: R) -> None:
        if self._running.get(thread) is not item:
            return  # the task was given up on
        del self._running[thread]
        self._hand_over(item, result)
        self._begin(thread)

    def _hand_over(self, item: T, result: R) -> None:
        self._ended.append((item, result))
        if not self._woken:
            self._woken = True
            self._later(self._collect)

    def _collect(self) -> None:
        self._woken = False
        ended, self._ended = self._ended, []
        self._deliver(ended)


class SimulatedPools:
    """The pool factory of one process."""

    def __init__(self, process: Process, durations: Durations) -> None:
        self._process = process
        self._durations = durations

    def __call__(
        self,
        slots: int,
        run: Callable[[T], R],
        deliver: Callable[[list[tuple[T, R]]], None],
        /,
        *,
        limits_of: Callable[[T], Limits] | None = None,
        given_up: Callable[[T], None] | None = None,  # noqa: ARG002 - the code has run in one instant
    ) -> Pool[T]:
        return SimulatedPool(self._process, self._durations, slots, run, deliver, limits_of)
