"""A pool of coroutines in a separate event loop on a separate thread. Code that blocks can stall other coroutines, but
never the heartbeat of the worker's session.

Like the pool of threads it hands over in batches in both directions, with one wake-up of the other loop for all that
has come since that last looked.

No code ends the loop (see `task_loop`). SystemExit in something that a coroutine has started and does not wait for,
such as a background task, ends that coroutine alone. If the loop breaks all the same, what runs in it is delivered as
died, and a new loop replaces it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextvars import Context, ContextVar, copy_context
from functools import partial
from math import inf
from typing import Any, Final, Generic, TypeVar, cast

from herdmaster.errors import SoftTimeLimitExceeded
from herdmaster.pools.job import Job
from herdmaster.pools.limits import NO_LIMITS, Died, Ended, Limits, NotStarted, Stopped, TimedOut
from herdmaster.pools.task_loop import Escaped, TaskLoop
from herdmaster.pools.watch import Watch

T = TypeVar("T")
R = TypeVar("R")

_NOTICE_SECONDS: Final = 0.1
"""An asyncio task that has exited and whose exception has not been retrieved after this time is not awaited."""

_log = logging.getLogger("herdmaster.worker")


class SoftCancellation(SoftTimeLimitExceeded, asyncio.CancelledError):
    """Raised where a coroutine waits when it is past its soft limit. It is also a cancellation, so that a TaskGroup or
    a timeout ends what it has started, as it would not for any other exception.
    """


# Tracebacks and failures show it as SoftTimeLimitExceeded.
SoftCancellation.__name__ = SoftTimeLimitExceeded.__name__
SoftCancellation.__qualname__ = SoftTimeLimitExceeded.__qualname__
SoftCancellation.__module__ = SoftTimeLimitExceeded.__module__


class _Run(Generic[T]):
    """A job whose coroutine runs. Times by `time.monotonic`."""

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


_run_now: Final[ContextVar[_Run[Any] | None]] = ContextVar("herdmaster.pools.run", default=None)
"""The run whose code this is. Tasks and callbacks that a coroutine starts run in copies of its context."""


class AsyncPool(Generic[T, R]):
    """Awaits `run_async(item)` for up to `slots` items at once. `deliver` is called with (item, result) pairs in the
    loop that made the pool. `R` has to include `limits.Ended`.

    - Past its soft limit a coroutine gets SoftTimeLimitExceeded where it waits. `run_async` has to catch that before
      CancelledError, because it is one as well.
    - A coroutine that is stopped or past its hard limit is cancelled. `run_async` must not catch CancelledError, and
      must raise nothing else. After `grace` seconds the item is delivered in any case, and a later result is dropped.
    - A coroutine that blocks the pool's loop cannot be interrupted. Limits are enforced by the other loop, so it is
      reported in time, but it stalls the pool until it ends.

    `given_up(item)` is called in the loop that made the pool before a coroutine is told to end. Each coroutine runs in
    a copy of `context`, by default of the context in which the pool was made.
    """

    def __init__(
        self,
        slots: int,
        run_async: Callable[[T], Awaitable[R]],
        deliver: Callable[[list[tuple[T, R]]], None],
        *,
        limits_of: Callable[[T], Limits] | None = None,
        given_up: Callable[[T], None] | None = None,
        grace: float = 2.0,
        context: Context | None = None,
        name: str = "herdmaster-asyncio",
    ) -> None:
        self._outer = asyncio.get_running_loop()
        self._outer_context = copy_context()  # calls in that loop belong to the role that made the pool
        self._context = context or self._outer_context
        self._run_async = run_async
        self._deliver = deliver
        self._limits_of = limits_of
        self._given_up = given_up
        self._grace = grace
        self._incoming: deque[Job[T]] = deque()
        self._ended: deque[tuple[T, R]] = deque()
        self._lock = threading.Lock()
        self._woken = self._outer_woken = False
        self._closed = False
        self._running: dict[Job[T], _Run[T]] = {}  # the side that takes a job out delivers the item
        self._watch = Watch(self._outer, self._look)
        self._name = name
        self._inner: TaskLoop | None = None
        self.slots = slots

    def submit(self, items: Iterable[T], /) -> list[Job[T]]:
        jobs = [Job(item) for item in items]
        self._incoming.extend(jobs)
        if jobs:
            self._wake_inner(self._inner or self._start())
        return jobs

    @property
    def running(self) -> list[T]:
        """The items whose coroutines run now; a snapshot."""
        return [job.item for job in self._running.copy()]

    def stop(self, item: T, /) -> bool:
        """Cancel an item's coroutine. The item is delivered as `Stopped` when that has ended, or after the grace.
        Return False if it has not been begun, or has ended."""
        for job, run in self._running.copy().items():
            if job.item is item:
                if job.claim():  # just added to those that run, and will be found claimed
                    self._finish(job, Stopped())
                else:
                    self._end(run, Stopped())
                return True
        return False

    def close(self) -> None:
        """Cancel what runs, and deliver nothing more. Does not wait."""
        self._closed = True
        self._watch.close()
        with contextlib.suppress(IndexError):
            while True:  # the other thread takes from it as well
                self._incoming.popleft().claim()
        if self._inner is not None:
            self._inner.call(partial(self._inner.shut, self._grace))

    # --- in the pool's thread ------------------------------------------------------------------------------------

    def _begin(self, inner: TaskLoop) -> None:
        self._woken = False  # before the look: a submission during the look wakes this loop again
        while self._incoming and len(self._running) < self.slots:
            try:
                job = self._incoming.popleft()
            except IndexError:
                return
            limits = NO_LIMITS if self._limits_of is None else self._limits_of(job.item)
            run = self._running[job] = _Run(job, limits)  # first: what cannot be withdrawn can be stopped
            if not job.claim():
                self._running.pop(job, None)
                continue
            if run.soft < inf or run.hard < inf:
                self._watch.ask(min(run.soft, run.hard))
            # Not by the task factory of the loop, which user code may have replaced.
            run.task = asyncio.Task(self._drive(run, inner), loop=inner.loop, context=self._context.copy())

    async def _drive(self, run: _Run[T], inner: TaskLoop) -> None:
        run.begun = True
        _run_now.set(run)
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
            result = Died("its coroutine was cancelled, and not by the pool")
        except BaseException as error:  # noqa: BLE001 - SystemExit, for one, would end the loop
            result = Died(f"its coroutine raised {type(error).__name__}: {error}")
        if self._running.pop(run.job, None) is not None:
            self._ended.append((run.job.item, _as_result(result if run.ending is None else run.ending)))
            self._wake_outer()
        _run_now.set(None)  # else a circle: the run holds its task, and that holds its context
        if self._incoming:
            inner.guard(partial(self._begin, inner))

    def _escaped(self, escaped: Escaped) -> None:
        error, task, context = escaped
        assert self._inner is not None
        run = None if context is None else context.get(_run_now)
        raised = f"{type(error).__name__}: {error}"
        if task is None:
            self._blame(run, f"one of its callbacks raised {raised}")
        else:
            # Code that awaits the task, with `gather` for example, learns of it in the next turns and may handle it.
            reason = f"an asyncio task that it had started, and did not wait for, raised {raised}"
            self._inner.loop.call_later(_NOTICE_SECONDS, self._blame_unnoticed, run, task, reason)

    def _blame_unnoticed(self, run: _Run[T] | None, task: asyncio.Future[object], reason: str) -> None:
        if getattr(task, "_log_traceback", True):  # False once its exception was retrieved
            task.exception()  # reported here, so asyncio must not log it as well
            self._blame(run, reason)

    def _blame(self, run: _Run[T] | None, reason: str) -> None:
        if run is None or run.job not in self._running:
            _log.warning("the event loop of the coroutines, after the end of the task that is to blame: %s", reason)
        else:
            self._end(run, Died(reason))

    def _wake_outer(self) -> None:
        with self._lock:
            wake, self._outer_woken = not self._outer_woken, True
        if wake:
            with contextlib.suppress(RuntimeError):  # that loop is closed, so the results are of no use
                self._outer.call_soon_threadsafe(self._collect, context=self._outer_context)

    def _broke(self, inner: TaskLoop, error: BaseException) -> None:
        with contextlib.suppress(RuntimeError):  # as above
            self._outer.call_soon_threadsafe(self._replace, inner, error, context=self._outer_context)

    # --- in the loop that made it --------------------------------------------------------------------------------

    def _start(self) -> TaskLoop:
        inner = self._inner = TaskLoop(self._name, escaped=self._escaped, broke=self._broke)
        inner.start()
        return inner

    def _replace(self, broken: TaskLoop, error: BaseException) -> None:
        if self._closed or self._inner is not broken:
            return
        _log.error("the event loop of the coroutines broke, and a new one replaces it", exc_info=error)
        reason = f"the event loop in which it ran broke: {type(error).__name__}: {error}"
        for job in list(self._running):
            if self._running.pop(job, None) is not None:
                self._finish(job, NotStarted() if job.claim() else Died(reason))
        self._woken = False
        self._wake_inner(self._start())

    def _wake_inner(self, inner: TaskLoop) -> None:
        if not self._woken:
            self._woken = True
            inner.call(partial(self._begin, inner))

    def _end(self, run: _Run[T], ending: Ended) -> None:
        assert self._inner is not None
        if run.ending is None:
            if self._given_up is not None:
                self._given_up(run.job.item)
            run.ending = ending
            run.over = time.monotonic() + self._grace
            self._inner.call(run.end)
            self._watch.ask(run.over)

    def _finish(self, job: Job[T], ended: Ended) -> None:
        self._ended.append((job.item, _as_result(ended)))
        self._wake_outer()

    def _look(self, now: float) -> float | None:
        """Enforce the limits that are due."""
        assert self._inner is not None
        earliest = inf
        for job, run in self._running.copy().items():
            if run.ending is not None:
                if run.over <= now and self._running.pop(job, None) is not None:
                    self._finish(job, run.ending)
                    self._wake_inner(self._inner)  # its slot is free for the next item
                earliest = min(earliest, run.over if run.over > now else inf)
            elif run.hard <= now:
                self._end(run, TimedOut(run.limits.hard or 0.0))
                earliest = min(earliest, run.over)
            else:
                if run.soft <= now:
                    run.soft = inf
                    self._inner.call(run.interrupt)
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
    """Awaits an awaitable, and turns the cancellation at its soft limit into SoftCancellation."""

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
                except BaseException as raised:  # noqa: BLE001 - everything is passed to the code inside
                    error = self._translate(raised)
        finally:
            error = None  # else a circle: the error holds this frame

    def _translate(self, raised: BaseException) -> BaseException:
        run = self._run
        if not isinstance(raised, asyncio.CancelledError) or not run.soft_sent or run.ending is not None:
            return raised
        run.soft_sent = False
        if run.task is not None:
            run.task.uncancel()
        return SoftCancellation()


def _as_result(result: object) -> R:  # type: ignore[type-var]
    # The maker of the pool promises that R includes what may end an item; a type variable cannot.
    return cast("R", result)
