"""A pool of threads with a batched hand-off.

A wake-up of the event loop per task would cost more than a short task itself. Jobs go to the threads through one C
queue; what ended is collected in a list, and the loop is woken once for all that came since it last looked.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_STOP: Final = None


class Job(Generic[T]):
    """One piece of work. Exactly one side gets it: a thread by claiming it, or whoever withdraws it."""

    __slots__ = ("_token", "item")

    def __init__(self, item: T) -> None:
        self.item = item
        self._token = [None]

    def claim(self) -> bool:
        """True for the first caller only, from whatever thread."""
        try:
            self._token.pop()
        except IndexError:
            return False
        return True


class ThreadPool(Generic[T, R]):
    """Runs `run(item)` on `slots` threads; `deliver` is called in the loop with all (item, result) pairs that ended.

    `run` must not raise. The threads are daemons: blocking code cannot be stopped, and must not keep a process alive
    that was told to end.
    """

    def __init__(
        self,
        slots: int,
        run: Callable[[T], R],
        deliver: Callable[[list[tuple[T, R]]], None],
        *,
        name: str = "herdmaster-task",
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._run = run
        self._deliver = deliver
        self._queue: SimpleQueue[Job[T] | None] = SimpleQueue()
        self._ended: deque[tuple[T, R]] = deque()
        self._woken = False
        self._lock = threading.Lock()
        self._running: dict[int, T] = {}
        self.slots = slots
        self._threads = [
            threading.Thread(target=self._work, args=(index,), name=f"{name}-{index}", daemon=True)
            for index in range(slots)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, items: Iterable[T], /) -> list[Job[T]]:
        jobs = [Job(item) for item in items]
        for job in jobs:
            self._queue.put(job)
        return jobs

    @property
    def running(self) -> list[T]:
        """What the threads are at now; a snapshot."""
        return list(self._running.copy().values())

    def close(self) -> None:
        """Lets each thread end after what it runs; jobs that nobody claimed are not run. Does not wait."""
        with contextlib.suppress(Empty):
            while True:  # the threads take from it, too, so asking first whether it is empty would say nothing
                job = self._queue.get_nowait()
                if job is not None:
                    job.claim()
        for _ in self._threads:
            self._queue.put(_STOP)

    def _work(self, index: int) -> None:
        while True:
            job = self._queue.get()
            if job is None:
                return
            if not job.claim():
                continue
            self._running[index] = job.item
            result = self._run(job.item)
            del self._running[index]
            self._ended.append((job.item, result))
            with self._lock:
                wake, self._woken = not self._woken, True
            if wake:
                try:
                    self._loop.call_soon_threadsafe(self._collect)
                except RuntimeError:
                    return  # the loop is closed: nobody wants the result any more

    def _collect(self) -> None:
        with self._lock:
            self._woken = False
        ended: list[tuple[T, R]] = []
        while self._ended:
            ended.append(self._ended.popleft())
        if ended:
            self._deliver(ended)
