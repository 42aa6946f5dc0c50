"""Submits a task and waits until it is accepted, on a thread or in an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Final, TypeVar

from herdmaster.api.future import Future
from herdmaster.api.runtime import Runtime
from herdmaster.core.transitions import NewTask
from herdmaster.errors import HerdError, SubmissionUnknown

R = TypeVar("R")

_GRACE_SECONDS: Final = 5.0


def refuse_in_loop(name: str, instead: str) -> None:
    """Raises RuntimeError inside a running event loop, which a blocking call would stop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"{name} would block the running event loop: use `{instead}`")


def submit_and_wait(runtime: Runtime, task: NewTask, owner: object, patience: float) -> Future[R]:
    """Raises NotSubmitted, SubmissionUnknown; RuntimeError when closed."""
    ended = threading.Lock()  # the cheapest thing that one thread can wait for and another can set
    ended.acquire()
    errors: list[HerdError] = []

    def settled(error: HerdError | None) -> None:
        if error is not None:
            errors.append(error)
        ended.release()

    future: Future[R] = runtime.submit(task, owner, settled)
    # The runtime gives up by itself when the time is over. This is for a process whose threads hardly get to run.
    if not ended.acquire(timeout=patience + _GRACE_SECONDS):
        raise SubmissionUnknown([task.name])
    if not errors:
        return future
    del future  # it holds the error, too, and the error will hold this frame
    raise errors.pop()


async def submit_and_wait_async(runtime: Runtime, task: NewTask, owner: object) -> Future[R]:
    """As `submit_and_wait`. Cancelled, it gives the submission up: the task is accepted only if it was on its way."""
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    errors: list[HerdError] = []

    def settled(error: HerdError | None) -> None:
        if error is not None:
            errors.append(error)
        runtime.wake(waiter)

    future: Future[R] = runtime.submit(task, owner, settled)
    try:
        await waiter
    except asyncio.CancelledError:
        with contextlib.suppress(RuntimeError):  # closed: it is given up already
            runtime.give_up(task.name)
        raise
    if not errors:
        return future
    del future  # it holds the error, too, and the error will hold this frame
    raise errors.pop()
