"""The future of a task: a `concurrent.futures.Future` that can also be awaited."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Generator
from typing import Protocol, TypeVar

R = TypeVar("R")


class Keeper(Protocol):
    """What a future needs of the Herd that made it."""

    def pin(self, future: Future[R], /) -> None:
        """Keeps the future until it is done, also when nobody else does."""

    def unpin(self, future: Future[R], /) -> None: ...

    def call_back(self, callback: Callable[[], None], /) -> None:
        """Runs code of the user's on a thread that may be blocked."""

    def wake(self, waiter: asyncio.Future[None], /) -> None:
        """Sets the result of a waiter in its own loop."""


class Future(concurrent.futures.Future[R]):
    """What a task will end with. `name` is the task's; with it any process can wait for the same task.

    `result` raises what the task raised: a built-in exception as itself with TaskFailed as its cause, any other as
    TaskFailed. Waiting, timing out and cancelling an await leave the task alone. A future that nobody keeps does not
    collect the outcome; it then stays in ZooKeeper for others until its time to live is over.
    """

    def __init__(self, name: str, keeper: Keeper, owner: object = None) -> None:
        """`owner` is kept until the future is done."""
        super().__init__()
        self.name = name
        self._keeper = keeper
        self._owner = owner
        self._waiting: tuple[asyncio.Future[None], ...] = ()
        self._is_kept = False
        self._done_callbacks: list[Callable[[concurrent.futures.Future[R]], object]]

    def __repr__(self) -> str:
        state = "pending" if not self.done() else "failed" if self.exception() is not None else "done"
        return f"<Future of {self.name}: {state}>"

    def cancel(self) -> bool:
        """False: a task that was submitted cannot be cancelled yet, and it is not only this side's to decide."""
        return False

    def result(self, timeout: float | None = None) -> R:
        """What the task returned. Raises what it raised; TimeoutError after `timeout` seconds, and the task goes on;
        OutcomeGone, BadOutcome, or ClientClosed where the outcome will not come."""
        try:
            if timeout is None or self._is_done_within(timeout):
                return super().result()
            raise self.still_pending(timeout)
        finally:
            del self  # as the standard library does: the error holds this frame, and the future holds the error

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `result` raises, None if it returns. TimeoutError after `timeout` seconds is raised here, too."""
        if timeout is None or self._is_done_within(timeout):
            return super().exception()
        raise self.still_pending(timeout)

    def still_pending(self, timeout: float) -> TimeoutError:
        """The error for whoever does not wait any longer; not to be mistaken for a TimeoutError of the task's own."""
        return TimeoutError(
            f"{self.name} has not ended within {timeout:g} s; it goes on, and can be waited for again. "
            "`herd status` tells if a primary and a worker are there"
        )

    def keep(self) -> None:
        """Keeps the future until it is done, so that the outcome is collected although nobody waits for it."""
        self._is_kept = True
        self._keeper.pin(self)

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[R]], object]) -> None:
        """`fn(future)` is called on a thread of Herdmaster's own, never on the one that talks to ZooKeeper; at once,
        and on this thread, if the future is done. What it raises is logged."""
        super().add_done_callback(fn)
        self.keep()  # a callback wants the outcome, too

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
        try:
            yield from waiter.__await__()
        finally:
            with self._condition:
                self._waiting = tuple(other for other in self._waiting if other is not waiter)
                if not self._waiting and not self._is_kept:
                    self._keeper.unpin(self)

    def resolve(self, value: R, error: Exception | None) -> None:
        """Sets the result, or the error if there is one."""
        if error is None:
            self.set_result(value)
        else:
            self.set_exception(error)

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

    def _is_done_within(self, timeout: float) -> bool:
        with self._condition:
            return self._condition.wait_for(self.done, timeout)

    def _invoke_callbacks(self) -> None:
        # Called once by set_result and set_exception, mostly on the thread that talks to ZooKeeper.
        self._owner = None
        self._keeper.unpin(self)
        for waiter in self._waiting:
            self._keeper.wake(waiter)
        if self._done_callbacks:
            self._keeper.call_back(super()._invoke_callbacks)  # type: ignore[misc]  # not in the published stubs

    def leave_to_parent(self, error: Exception) -> None:
        """In a forked child, where nobody resolves it: it fails, for this process alone."""
        self._condition = threading.Condition()  # some thread that did not come along may hold the old one
        self._waiters = []
        self._done_callbacks = []
        self._waiting = ()
        if not self.done():
            self.set_exception(error)
