"""The future of a task: a `concurrent.futures.Future` that can also be awaited."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Final, NoReturn, Protocol, TypeVar

from herdmaster.api.event_loops import call_of_asyncio, is_in_loop, refuse_in_loop
from herdmaster.api.wait_reports import begin_wait, noted
from herdmaster.errors import TaskCancelled

R = TypeVar("R")


CANCEL_SECONDS: Final = 5.0


class CancelledTask(TaskCancelled, concurrent.futures.CancelledError):
    """TaskCancelled, as futures raise it: a CancelledError of the standard library's, too. It is not asyncio's, which
    would say that the coroutine that waits is to end."""


class Keeper(Protocol):
    """What a future needs of the Herd that made it."""

    def pin(self, future: Future[R], /) -> None:
        """Keeps the future until it is done, also when nothing else refers to it."""

    def unpin(self, future: Future[R], /) -> None: ...

    def call_back(self, callback: Callable[[], None], /) -> None:
        """Runs code of the user's on a thread that may be blocked."""

    def wake(self, waiter: asyncio.Future[None], /) -> None:
        """Sets the result of a waiter in its own loop."""

    def request_cancel(self, name: str, told: Callable[[bool], None], /) -> None:
        """Asks for the end of a task. `told` is called once, on a thread that must not be blocked: True, after the
        task's future has been given its outcome, if it has ended as cancelled."""


class Future(concurrent.futures.Future[R]):
    """What a task will end with. `name` is the task's; with it any process can wait for the same task.

    `result` raises what the task raised: a built-in exception as itself with TaskFailed as its cause, any other as
    TaskFailed. Waiting, timing out and cancelling an await leave the task alone. A future that nothing refers to
    does not collect the outcome; it then stays in ZooKeeper for others until its time to live is over.

    After a cancelled outcome it is what the standard library has for that: `cancelled()` is True, `result` and
    `exception` raise a CancelledError, `wait` and `as_completed` count it as done, and a future that
    `asyncio.wrap_future` made of it is cancelled. The CancelledError is a TaskCancelled; awaiting raises it as well.
    """

    def __init__(self, name: str, keeper: Keeper, owner: object = None, *, has_outcome: bool = True) -> None:
        """`owner` is kept until the future is done. Without an outcome it is done once the task is accepted."""
        super().__init__()
        self.name = name
        self.owner = owner
        self.has_outcome = has_outcome
        self._keeper = keeper
        self._blocked: list[Any]  # set as `_waiters` by the base class
        self._waiting: tuple[asyncio.Future[None], ...] = ()
        self._is_kept = False
        self._done_callbacks: list[Callable[[concurrent.futures.Future[R]], object]]

    def __repr__(self) -> str:
        if self.cancelled():
            state = "cancelled"
        else:
            state = "pending" if not self.done() else "failed" if self.exception() is not None else "done"
        return f"<Future of {self.name}: {state}>"

    def cancel(self, timeout: float = CANCEL_SECONDS) -> bool:
        """Asks for the task's end, wherever it is, and waits for what the primary decides. True only if the task has
        ended as cancelled; False if it ended in another way, if another process that waits for it was quicker to
        collect its outcome, or if nothing was decided within `timeout` seconds. The request stands all the same, and
        the future will tell.

        A running task is ended as far as its pool can: a coroutine is cancelled, a process killed, and of a thread the
        result is discarded.

        Raises RuntimeError in a coroutine, which it would block: there use `await future.cancel_async()`. In a plain
        callback of an event loop, such as the one by which `asyncio.wrap_future` passes a cancellation on, nothing can
        wait: there it asks and returns False.
        """
        if self.done() and self.has_outcome:
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
        return not self.has_outcome or (self._is_done_within(limit - time.monotonic()) and self.cancelled())

    def cancel_nowait(self) -> None:
        """Asks for the task's end, from wherever it is called, and waits for nothing. Raises HerdClosed."""
        if not (self.done() and self.has_outcome):
            self._keeper.request_cancel(self.name, lambda _is_cancelled: None)

    async def cancel_async(self, timeout: float = CANCEL_SECONDS) -> bool:  # noqa: ASYNC109 - as for `cancel`
        """As `cancel`, for event loops."""
        if self.done() and self.has_outcome:
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
                if verdicts[0] and self.has_outcome:
                    with contextlib.suppress(TaskCancelled):
                        await self
        except TimeoutError:
            return self._has_been_cancelled()
        return verdicts[0] or self._has_been_cancelled()

    def _has_been_cancelled(self) -> bool:
        """Its outcome may have come, and have been collected, just before its cancellation was asked for once more."""
        return self.has_outcome and self.cancelled()

    def result(self, timeout: float | None = None) -> R:
        """What the task returned. Raises what it raised; TaskCancelled (also the standard library's CancelledError),
        TaskExpired; TimeoutError after `timeout` seconds, and the task goes on;
        OutcomeGone, BadOutcome, or HerdClosed where the outcome will not come; RuntimeError inside a running event loop
        before the future is done."""
        try:
            if not self.done() and timeout != 0:
                refuse_in_loop("result", "await future")
            if not self._block(timeout):
                raise self.still_pending(timeout or 0.0)
            try:
                return super().result()
            except concurrent.futures.CancelledError:
                raise self._cancelled() from None
        finally:
            del self  # as the standard library does: the error holds this frame, and the future holds the error

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `result` raises, None if it returns. TimeoutError after `timeout` seconds is raised here, too, and so
        is TaskCancelled, as the standard library does."""
        if not self.done() and timeout != 0:
            refuse_in_loop("exception", "await future")
        if not self._block(timeout):
            raise self.still_pending(timeout or 0.0)
        try:
            return super().exception()
        except concurrent.futures.CancelledError:
            raise self._cancelled() from None

    def still_pending(self, timeout: float) -> TimeoutError:
        """The error for a caller that waits no longer; not to be mistaken for a TimeoutError of the task's own."""
        return TimeoutError(
            f"{self.name} has not ended within {timeout:g} s; it goes on, and can be waited for again. "
            f"`herd tasks show {self.name}` tells where it is"
        )

    def failure(self, timeout: float | None = None) -> BaseException | None:
        """As `exception`, and for a cancelled future its TaskCancelled: given back, not raised."""
        try:
            return self.exception(timeout)
        except TaskCancelled as error:
            return error

    def _cancelled(self) -> CancelledTask:
        return CancelledTask(f"{self.name} was cancelled")

    def keep(self) -> None:
        """Keeps the future until it is done, so that the outcome is collected although no caller waits for it."""
        self._is_kept = True
        self._keeper.pin(self)

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[R]], object]) -> None:
        """`fn(future)` is called on a thread of Herdmaster's own, never on the one that talks to ZooKeeper; at once,
        and on this thread, if the future is done. What it raises is logged. (Those of asyncio are called in its loop.)
        """
        super().add_done_callback(call_of_asyncio(fn))
        self.keep()  # a callback wants the outcome, too

    def remove_done_callback(self, fn: Callable[[concurrent.futures.Future[R]], object]) -> int:
        """Takes back each time that `fn` was added and has not been called; how often that was."""
        with self._condition:
            before = len(self._done_callbacks)
            self._done_callbacks = [callback for callback in self._done_callbacks if callback != fn]
            return before - len(self._done_callbacks)

    @property
    def _waiters(self) -> list[Any]:
        # The standard library's `wait` and `as_completed` take this before they block.
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
        # Nothing but the future knows of the coroutine that waits for it: without this both could be collected.
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

    def resolve(self, value: R, error: Exception | None) -> None:
        """Sets the result, or the error if there is one. TaskCancelled makes it a cancelled future."""
        if error is None:
            self.set_result(value)
        elif isinstance(error, TaskCancelled):
            self._end_cancelled()
        else:
            self.set_exception(error)

    def _end_cancelled(self) -> None:
        super().cancel()
        self.set_running_or_notify_cancel()  # which tells those that `wait`, or go through `as_completed`

    def resolve_nowait(self, value: R, error: Exception | None) -> bool:
        """As `resolve`, unless another thread is at this future just now: False then. It may be stopped there, in a
        signal handler, say, that waits for something else to be resolved."""
        if not self._condition.acquire(blocking=False):
            return False
        try:
            self.resolve(value, error)
        finally:
            self._condition.release()
        return True

    def follow(self, other: Future[R]) -> None:
        """Ends as the other one does."""

        def copy(_done: concurrent.futures.Future[R]) -> None:
            if other.cancelled():
                self._end_cancelled()
            elif (error := other.exception()) is not None:
                self.set_exception(error)
            else:
                self.set_result(other.result())

        other.add_done_callback(copy)

    def _block(self, timeout: float | None) -> bool:
        """False if it is not done within the timeout. A task whose code waits here is known to wait; without a timeout
        other code waits in the base class."""
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
        # Called once by set_result and set_exception, mostly on the thread that talks to ZooKeeper.
        self.owner = None
        self._keeper.unpin(self)
        for waiter in self._waiting:
            self._keeper.wake(waiter)
        if self._done_callbacks:
            self._keeper.call_back(super()._invoke_callbacks)  # type: ignore[misc]  # not in the published stubs

    def leave_to_parent(self, error: Exception) -> None:
        """In a forked child, where nothing resolves it: it fails, for this process alone."""
        self._condition = threading.Condition()  # some thread that did not come along may hold the old one
        self._waiters = []
        self._done_callbacks = []
        self._waiting = ()
        if not self.done():
            self.set_exception(error)
