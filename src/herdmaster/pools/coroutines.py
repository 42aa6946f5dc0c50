"""A pool of coroutines: an event loop of its own in a thread of its own, so that code which blocks stalls other
coroutines at worst, never the heartbeat of the worker's session.

Like the pool of threads it hands over in batches both ways, with one wake-up of the other loop for all that came since
it last looked.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable
from math import inf
from typing import Any, Generic, TypeVar, cast

from herdmaster.errors import SoftTimeLimitExceeded
from herdmaster.pools.job import Job
from herdmaster.pools.limits import NO_LIMITS, Died, Ended, Limits, Stopped, TimedOut
from herdmaster.pools.watch import Watch

T = TypeVar("T")
R = TypeVar("R")


class SoftCancellation(SoftTimeLimitExceeded, asyncio.CancelledError):
    """What a coroutine past its soft limit gets where it waits. It is a cancellation, too, so that a TaskGroup or a
    timeout that waits there ends what it has begun, as it would not for any other exception.
    """


# In tracebacks and failures it is what it stands for.
SoftCancellation.__name__ = SoftTimeLimitExceeded.__name__
SoftCancellation.__qualname__ = SoftTimeLimitExceeded.__qualname__
SoftCancellation.__module__ = SoftTimeLimitExceeded.__module__


class _Run(Generic[T]):
    """A job whose coroutine runs. Times are those of `time.monotonic`."""

    __slots__ = ("begun", "ending", "hard", "job", "limits", "over", "soft", "soft_sent", "task")

    def __init__(self, job: Job[T], limits: Limits) -> None:
        self.job = job
        self.limits = limits
        self.task: asyncio.Task[None] | None = None
        self.begun = False  # a task that is cancelled before its first step never takes it
        self.ending: Ended | None = None  # it has been told to end, and this will be delivered
        self.soft_sent = False
        self.soft = self.hard = self.over = inf
        if limits is not NO_LIMITS:
            now = time.monotonic()
            self.soft = inf if limits.soft is None else now + limits.soft
            self.hard = inf if limits.hard is None else now + limits.hard

    def end(self) -> None:
        if self.task is not None and self.begun:  # else it sees for itself that it is not to begin
            self.task.cancel()

    def interrupt(self) -> None:
        if self.task is None or self.task.done() or self.ending is not None:
            return  # it was withdrawn, has ended, or is ending
        if self.begun:
            self.soft_sent = True
            self.task.cancel()
        else:
            self.task.get_loop().call_soon(self.interrupt)


class AsyncPool(Generic[T, R]):
    """Awaits `run_async(item)` for up to `slots` items at once; `deliver` is called in the loop that made the pool,
    with all (item, result) pairs that ended. `R` has to include `limits.Ended`.

    Past its soft limit the coroutine gets SoftTimeLimitExceeded where it waits: `run_async` has to catch that before it
    looks for CancelledError, of which this one is also a kind. Otherwise it must not raise, and must let CancelledError
    through: that is how a coroutine ends that is stopped or past its hard limit. One that has not ended `grace` seconds
    later is delivered all the same, and what it still comes to is thrown away. A coroutine that blocks the pool's loop
    cannot be interrupted; limits are kept by the other loop, so it is reported, but it stalls the pool until it ends.
    """

    def __init__(
        self,
        slots: int,
        run_async: Callable[[T], Awaitable[R]],
        deliver: Callable[[list[tuple[T, R]]], None],
        *,
        limits_of: Callable[[T], Limits] | None = None,
        grace: float = 2.0,
        name: str = "herdmaster-asyncio",
    ) -> None:
        self._outer = asyncio.get_running_loop()
        self._run_async = run_async
        self._deliver = deliver
        self._limits_of = limits_of
        self._grace = grace
        self._incoming: deque[Job[T]] = deque()
        self._ended: deque[tuple[T, R]] = deque()
        self._lock = threading.Lock()
        self._woken = self._outer_woken = False
        self._closed = False
        self._running: dict[Job[T], _Run[T]] = {}  # who takes a job out of it delivers the item
        self._watch = Watch(self._outer, self._look)
        self._inner: asyncio.AbstractEventLoop | None = None
        self._last: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.slots = slots

    def submit(self, items: Iterable[T], /) -> list[Job[T]]:
        jobs = [Job(item) for item in items]
        self._incoming.extend(jobs)
        if jobs:
            if self._inner is None:
                self._inner = asyncio.new_event_loop()
                self._thread.start()
            self._wake_inner(self._inner)
        return jobs

    @property
    def running(self) -> list[T]:
        """Whose coroutines run now; a snapshot."""
        return [job.item for job in self._running.copy()]

    def stop(self, item: T, /) -> bool:
        """Cancels an item's coroutine; it is delivered as `Stopped` when that has ended, or after the grace. False if
        it has not been begun, or has ended."""
        for job, run in self._running.copy().items():
            if job.item is item:
                if job.claim():  # just put among those that run: it will be found taken
                    self._finish(job, Stopped())
                else:
                    self._end(run, Stopped())
                return True
        return False

    def close(self) -> None:
        """Cancels what runs; nothing is delivered any more. Does not wait."""
        self._closed = True
        self._watch.close()
        with contextlib.suppress(IndexError):
            while True:  # the other thread takes from it, too
                self._incoming.popleft().claim()
        if self._inner is not None:
            with contextlib.suppress(RuntimeError):
                self._inner.call_soon_threadsafe(self._shut, self._inner)

    # --- in the pool's thread ------------------------------------------------------------------------------------

    def _work(self) -> None:
        loop = self._inner
        assert loop is not None
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._woken = False  # before the look: who comes during it wakes once more
        while self._incoming and len(self._running) < self.slots:
            try:
                job = self._incoming.popleft()
            except IndexError:
                return
            limits = NO_LIMITS if self._limits_of is None else self._limits_of(job.item)
            run = self._running[job] = _Run(job, limits)  # before the claim: what cannot be withdrawn can be stopped
            if not job.claim():
                self._running.pop(job, None)
                continue
            if run.soft < inf or run.hard < inf:
                self._watch.ask(min(run.soft, run.hard))
            run.task = loop.create_task(self._drive(run, loop))

    async def _drive(self, run: _Run[T], loop: asyncio.AbstractEventLoop) -> None:
        run.begun = True
        result: R | Ended
        try:
            if run.ending is not None:
                result = run.ending
            elif run.limits.soft is None:
                result = await self._run_async(run.job.item)
            else:
                result = await _Interruptible(self._run_async(run.job.item), run)
        except SoftTimeLimitExceeded:
            result = TimedOut(run.limits.soft or 0.0)
        except asyncio.CancelledError:
            result = Died("its coroutine was cancelled, and nobody had asked the pool for that")
        except BaseException as error:  # noqa: BLE001 - one that gets away, SystemExit say, would end the loop of all
            result = Died(f"its coroutine raised {type(error).__name__}: {error}")
        if self._running.pop(run.job, None) is not None:
            self._ended.append((run.job.item, _as_result(result if run.ending is None else run.ending)))
            self._wake_outer()
        if self._incoming:
            self._begin(loop)

    def _shut(self, loop: asyncio.AbstractEventLoop) -> None:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()

        async def wait_ended() -> None:
            if tasks:
                await asyncio.wait(tasks, timeout=self._grace)
            loop.stop()

        self._last = loop.create_task(wait_ended())

    def _wake_outer(self) -> None:
        with self._lock:
            wake, self._outer_woken = not self._outer_woken, True
        if wake:
            with contextlib.suppress(RuntimeError):  # that loop is closed: nobody wants the results any more
                self._outer.call_soon_threadsafe(self._collect)

    # --- in the loop that made it --------------------------------------------------------------------------------

    def _wake_inner(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._woken:
            self._woken = True
            loop.call_soon_threadsafe(self._begin, loop)

    def _end(self, run: _Run[T], ending: Ended) -> None:
        assert self._inner is not None
        if run.ending is None:
            run.ending = ending
            run.over = time.monotonic() + self._grace
            self._inner.call_soon_threadsafe(run.end)
            self._watch.ask(run.over)

    def _finish(self, job: Job[T], ended: Ended) -> None:
        self._ended.append((job.item, _as_result(ended)))
        self._wake_outer()

    def _look(self, now: float) -> float | None:
        """Enforces what is due."""
        assert self._inner is not None
        earliest = inf
        for job, run in self._running.copy().items():
            if run.ending is not None:
                if run.over <= now and self._running.pop(job, None) is not None:
                    self._finish(job, run.ending)
                    self._wake_inner(self._inner)  # its slot is free, as far as others are concerned
                earliest = min(earliest, run.over if run.over > now else inf)
            elif run.hard <= now:
                self._end(run, TimedOut(run.limits.hard or 0.0))
                earliest = min(earliest, run.over)
            else:
                if run.soft <= now:
                    run.soft = inf
                    self._inner.call_soon_threadsafe(run.interrupt)
                earliest = min(earliest, run.soft, run.hard)
        return earliest if earliest < inf else None

    def _collect(self) -> None:
        with self._lock:
            self._outer_woken = False
        ended: list[tuple[T, R]] = []
        while self._ended:
            ended.append(self._ended.popleft())
        if ended and not self._closed:
            self._deliver(ended)


class _Interruptible(Generic[T, R]):
    """Awaits something, and turns the cancellation that stands for its soft limit into an exception that says so."""

    def __init__(self, awaitable: Awaitable[R], run: _Run[T]) -> None:
        self._awaitable = awaitable
        self._run = run

    def __await__(self) -> Generator[Any, Any, R]:
        inner = self._awaitable.__await__()
        error: BaseException | None = None
        try:
            while True:
                try:
                    waited_for = inner.send(None) if error is None else inner.throw(error)
                except StopIteration as end:
                    return cast("R", end.value)
                error = None
                try:
                    yield waited_for
                except GeneratorExit:
                    inner.close()
                    raise
                except BaseException as raised:  # noqa: BLE001 - whatever it is, it is for the code inside
                    error = self._translate(raised)
        finally:
            error = None  # it holds this frame, which holds it

    def _translate(self, raised: BaseException) -> BaseException:
        run = self._run
        if not isinstance(raised, asyncio.CancelledError) or not run.soft_sent or run.ending is not None:
            return raised
        run.soft_sent = False
        if run.task is not None:
            run.task.uncancel()
        return SoftCancellation()


def _as_result(result: object) -> R:  # type: ignore[type-var]
    # Whoever makes the pool says that R includes what may end an item; a type variable cannot.
    return cast("R", result)
