"""The future of a task: a `concurrent.futures.Future` that can also be awaited."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable, Generator
from typing import TypeVar

R = TypeVar("R")


class Future(concurrent.futures.Future[R]):
    """What a task will end with. `name` is the task's; with it any process can wait for the same task.

    `result` raises what the task raised: a built-in exception as itself with TaskFailed as its cause, any other as
    TaskFailed. Waiting, timing out and cancelling an await leave the task alone. A future that nobody keeps does not
    collect the outcome; it then stays in ZooKeeper for others until its time to live is over.
    """

    def __init__(self, name: str, pin: Callable[[Future[R]], None]) -> None:
        super().__init__()
        self.name = name
        self._pin = pin

    def __repr__(self) -> str:
        state = "pending" if not self.done() else "failed" if self.exception() is not None else "done"
        return f"<Future of {self.name}: {state}>"

    def cancel(self) -> bool:
        """False: a task that was submitted cannot be cancelled yet, and it is not only this side's to decide."""
        return False

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[R]], object]) -> None:
        """`fn(future)` is called on a thread of Herdmaster's own, never on the one that talks to ZooKeeper."""
        if not self.done():
            self._pin(self)  # a callback wants the outcome also when nobody keeps the future
        super().add_done_callback(fn)

    def __await__(self) -> Generator[object, None, R]:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not waiter.done():
                waiter.set_result(None)

        def done(_future: concurrent.futures.Future[R]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(wake)

        self.add_done_callback(done)
        yield from waiter.__await__()
        return self.result(0)
