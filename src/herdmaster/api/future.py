"""The future of a task: a `concurrent.futures.Future` that can also be awaited."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Final, NoReturn, Protocol, TypeVar

from herdmaster.api.checks import check_wait
from herdmaster.api.event_loops import call_of_asyncio, is_in_loop, refuse_in_loop
from herdmaster.api.wait_reports import begin_wait, noted
from herdmaster.core.names import parse_flow_name
from herdmaster.errors import OutcomeGone, SubmissionUnknown, TaskCancelled

R = TypeVar("R")


CANCEL_SECONDS: Final = 5.0


class CancelledTask(TaskCancelled, concurrent.futures.CancelledError):
    """The TaskCancelled that futures raise: also the CancelledError of `concurrent.futures`. Not that of asyncio, which
    would end the coroutine that waits."""


class Keeper(Protocol):
    """The part of the I/O thread that a future uses."""

    def pin(self, future: Future[R], /) -> None:
        """Keep the future until it is done, even if nothing else refers to it."""

    def unpin(self, future: Future[R], /) -> None: ...

    def call_back(self, callback: Callable[[], None], /) -> None:
        """Run user code on a thread that may block."""

    def wake(self, waiter: asyncio.Future[None], /) -> None:
        """Set the result of a waiter in the loop that it belongs to."""

    def request_cancel(self, name: str, told: Callable[[bool], None], /) -> None:
        """Ask the primary to cancel a task. `told` is called once, on a thread that must not block: with True, after
        the task's future has its outcome, if the task has ended as cancelled."""


class Future(concurrent.futures.Future[R]):
    """The future of a task: a `concurrent.futures.Future` that can also be awaited.

    `result` raises what the task raised: a built-in exception as itself with TaskFailed as its cause, any other as
    TaskFailed. A wait that times out or is cancelled does not affect the task. A future that nothing refers to does not
    collect the outcome, which then stays in ZooKeeper for other processes until its time to live is over.

    A task that ended as cancelled makes a cancelled future: `cancelled()` is True, `result` and `exception` raise a
    CancelledError that is also a TaskCancelled (so does `await`), `wait` and `as_completed` count the future as done,
    and a future that `asyncio.wrap_future` made of it is cancelled.
    """

    name: str
    """The name of the task. Any process can wait for the same task with `herd.future(name)`."""

    def __init__(self, name: str, keeper: Keeper, owner: object = None, *, has_outcome: bool = True) -> None:
        """`owner` is kept alive until the future is done. Without an outcome the future is done once the task is
        accepted."""
        super().__init__()
        self.name = name
        self._owner = owner
        self._has_outcome = has_outcome
        self._keeper = keeper
        self._blocked: list[Any]  # set as `_waiters` by the base class
        self._waiting: tuple[asyncio.Future[None], ...] = ()
        self._is_kept = False
        self._ends_cancelled = False  # set before the future is, which may wait for a thread that runs user code
        self._done_callbacks: list[Callable[[concurrent.futures.Future[R]], object]]

    def __repr__(self) -> str:
        if self.cancelled():
            state = "cancelled"
        else:
            state = "pending" if not self.done() else "failed" if self.exception() is not None else "done"
        return f"<Future of {self.name}: {state}>"

    def cancel(self, timeout: float = CANCEL_SECONDS) -> bool:
        """Ask the primary to cancel the task, wherever it is, and wait for the decision.

        Return True only if the task has ended as cancelled. Return False if it ended in another way, if another process
        collected its outcome first, or if there was no decision within `timeout` seconds; the request then stays, and
        the future still ends.

        A running task is ended as far as its pool can: a coroutine is cancelled, a process is killed, and the result of
        a thread is discarded.

        Raises RuntimeError in a coroutine, which it would block: use `await future.cancel_async()` there. In a plain
        callback of an event loop, such as the one by which `asyncio.wrap_future` passes a cancellation on, it only
        asks, and returns False.
        """
        if self.done() and self._has_outcome:
            return self.cancelled()
        if is_in_loop():
            if asyncio.current_task() is not None:
                refuse_in_loop("cancel", "await future.cancel_async()")
            self.cancel_nowait()
            return False
        verdicts: list[bool] = []
        decided = threading.Lock()
        decided.acquire()

        def told(is_cancelled: bool) -> None:
            verdicts.append(is_cancelled)
            decided.release()

        limit = time.monotonic() + timeout
        self._keeper.request_cancel(self.name, told)
        if not decided.acquire(timeout=max(timeout, 0.0)) or not verdicts[0]:
            return self._has_been_cancelled()
        return not self._has_outcome or (self._is_done_within(limit - time.monotonic()) and self.cancelled())

    def cancel_nowait(self) -> None:
        """Ask the primary to cancel the task, from any thread or coroutine, and do not wait. Raises HerdClosed."""
        if not (self.done() and self._has_outcome):
            self._keeper.request_cancel(self.name, lambda _is_cancelled: None)

    async def cancel_async(self, timeout: float = CANCEL_SECONDS) -> bool:  # noqa: ASYNC109 - as for `cancel`
        """As `cancel`, for event loops."""
        if self.done() and self._has_outcome:
            return self.cancelled()
        verdicts: list[bool] = []
        decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def told(is_cancelled: bool) -> None:
            verdicts.append(is_cancelled)
            self._keeper.wake(decided)

        self._keeper.request_cancel(self.name, told)
        try:
            async with asyncio.timeout(timeout):
                await decided
                if verdicts[0] and self._has_outcome:
                    # A future may fail for itself, although the task has ended as cancelled.
                    with contextlib.suppress(TaskCancelled, SubmissionUnknown, OutcomeGone):
                        await self
        except TimeoutError:
            return self._has_been_cancelled()
        return verdicts[0] or self._has_been_cancelled()

    def _has_been_cancelled(self) -> bool:
        """Say whether the task ended as cancelled just before the request, so that there was nothing left to cancel."""
        return self._has_outcome and (self._ends_cancelled or self.cancelled())

    def result(self, timeout: float | None = None) -> R:
        """Wait for the task to end and return what it returned.

        Raises what the task raised; TaskCancelled (also a `concurrent.futures.CancelledError`) or TaskExpired;
        TimeoutError after `timeout` seconds, while the task goes on; OutcomeGone, BadOutcome or HerdClosed if there
        will be no outcome; RuntimeError inside a running event loop before the future is done.
        """
        try:
            if not self.done() and timeout != 0:
                refuse_in_loop("result", "await future")
            if not self._block(timeout):
                raise still_pending(self.name, timeout or 0.0)
            try:
                return super().result()
            except concurrent.futures.CancelledError:
                raise self._cancelled() from None
        finally:
            del self  # as in the standard library: the error holds this frame, and the future holds the error

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the task to end and return what `result` raises; None if `result` returns. As in the standard
        library, TaskCancelled and the TimeoutError after `timeout` seconds are raised."""
        if not self.done() and timeout != 0:
            refuse_in_loop("exception", "await future")
        if not self._block(timeout):
            raise still_pending(self.name, timeout or 0.0)
        try:
            return super().exception()
        except concurrent.futures.CancelledError:
            raise self._cancelled() from None

    def _cancelled(self) -> CancelledTask:
        return CancelledTask(f"{self.name} was cancelled")

    def _keep(self) -> None:
        self._is_kept = True
        self._keeper.pin(self)

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[R]], object]) -> None:
        """Call `fn(future)` when the future is done: on a callback thread of Herdmaster, never on the I/O thread; at
        once, and on this thread, if the future is done already. What it raises is logged. (A callback of asyncio is
        called in its loop.)"""
        super().add_done_callback(call_of_asyncio(fn))
        self._keep()  # a callback wants the outcome, too

    def remove_done_callback(self, fn: Callable[[concurrent.futures.Future[R]], object]) -> int:
        """Remove every callback `fn` that has not been called, and return how many there were."""
        with self._condition:
            before = len(self._done_callbacks)
            self._done_callbacks = [callback for callback in self._done_callbacks if callback != fn]
            return before - len(self._done_callbacks)

    @property
    def _waiters(self) -> list[Any]:
        # `wait` and `as_completed` of the standard library read this before they block.
        if not self.done():
            refuse_in_loop("a wait of concurrent.futures", "await asyncio.wait([future])")
            self._blocked = noted(self.name, self._blocked)
        return self._blocked

    @_waiters.setter
    def _waiters(self, blocked: list[Any]) -> None:
        self._blocked = blocked

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"the future of {self.name} belongs to this process and cannot be pickled or copied: pass its name, "
            "`future.name`, and use `herd.future(name)` there"
        )

    def __await__(self) -> Generator[object, None, R]:
        try:
            if not self.done():
                yield from self._wait()
            return self.result()
        finally:
            del self  # as above

    def _wait(self) -> Generator[object, None, None]:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._condition:
            if self.done():
                return
            self._waiting += (waiter,)
        # Only the future refers to the coroutine that waits for it: unpinned, both could be collected as garbage.
        self._keeper.pin(self)
        running = begin_wait(self.name)
        try:
            yield from waiter.__await__()
        finally:
            if running is not None:
                running.end_wait(self.name)
            with self._condition:
                self._waiting = tuple(other for other in self._waiting if other is not waiter)
                if not self._waiting and not self._is_kept:
                    self._keeper.unpin(self)

    def _block(self, timeout: float | None) -> bool:
        """Return False if the future is not done within the timeout. The wait of a task's code is reported to its
        worker. Other code without a timeout waits in the base class."""
        if timeout is not None:
            timeout = check_wait("timeout", timeout)
        running = None if self.done() else begin_wait(self.name)
        if running is None:
            return timeout is None or self._is_done_within(timeout)
        try:
            return self._is_done_within(timeout)
        finally:
            running.end_wait(self.name)

    def _is_done_within(self, timeout: float | None) -> bool:
        with self._condition:
            return self._condition.wait_for(self.done, timeout)

    def _invoke_callbacks(self) -> None:
        # Called once by set_result and set_exception, usually on the I/O thread.
        self._owner = None
        self._keeper.unpin(self)
        for waiter in self._waiting:
            self._keeper.wake(waiter)
        if self._done_callbacks:
            self._keeper.call_back(super()._invoke_callbacks)  # type: ignore[misc]  # not in the published stubs


def still_pending(name: str, timeout: float) -> TimeoutError:
    """Return the error for a caller that waits no longer, which differs from a TimeoutError that the task raised."""
    command = "herd tasks show" if parse_flow_name(name) is None else "herd flows show"
    return TimeoutError(
        f"{name} has not ended within {timeout:g} s; it goes on, and can be waited for again. "
        f"`{command} {name}` tells where it is"
    )


def failure_of(future: Future[R], timeout: float | None = None) -> BaseException | None:
    """As `Future.exception`, but return the TaskCancelled of a cancelled future instead of raising it."""
    try:
        return future.exception(timeout)
    except TaskCancelled as error:
        return error
