"""Submits a task and waits until it is accepted, on a thread or in an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Final, TypeVar, cast

from herdmaster.api.future import Future
from herdmaster.api.options import OnDuplicate
from herdmaster.api.orders import Order
from herdmaster.api.runtime import Runtime
from herdmaster.errors import DuplicateTask, HerdError, SubmissionUnknown

R = TypeVar("R")

_GRACE_SECONDS: Final = 5.0


def submit_and_wait(runtime: Runtime, order: Order, owner: object, patience: float) -> Future[R]:
    """Raises NotSubmitted, SubmissionUnknown, DuplicateTask; RuntimeError when closed."""
    ended = threading.Lock()  # the cheapest thing that one thread can wait for and another can set
    ended.acquire()
    errors: list[HerdError] = []

    def settled(error: HerdError | None) -> None:
        if error is not None:
            errors.append(error)
        ended.release()

    future: Future[R] = runtime.submit(order, owner, settled)
    # The runtime gives up by itself when the time is over. This is for a process whose threads hardly get to run.
    try:
        settled_in_time = ended.acquire(timeout=-1 if order.waits else patience + _GRACE_SECONDS)
    except BaseException:  # Ctrl-C: what is not on its way is not to be submitted later
        runtime.give_up(order.task.name)
        raise
    if not settled_in_time:
        raise SubmissionUnknown([order.task.name])
    if not errors:
        return future
    del future  # it holds the error, too, and the error will hold this frame
    return attach_or_raise(runtime, order, owner, errors.pop())


async def submit_and_wait_async(runtime: Runtime, order: Order, owner: object) -> Future[R]:
    """As `submit_and_wait`. Cancelled, it gives the submission up: the task is accepted only if it was on its way."""
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    errors: list[HerdError] = []

    def settled(error: HerdError | None) -> None:
        if error is not None:
            errors.append(error)
        runtime.wake(waiter)

    future: Future[R] = runtime.submit(order, owner, settled)
    try:
        await waiter
    except asyncio.CancelledError:
        with contextlib.suppress(RuntimeError):  # closed: it is given up already
            runtime.give_up(order.task.name)
        raise
    if not errors:
        return future
    del future  # as above
    return attach_or_raise(runtime, order, owner, errors.pop())


def attach_or_raise(runtime: Runtime, order: Order, owner: object, error: HerdError) -> Future[R]:
    """The future of the task that holds the key, where that is wanted."""
    if isinstance(error, DuplicateTask) and order.on_duplicate is OnDuplicate.RETURN:
        # It gives what that task gives; that it is an R is the claim of the caller that chose the key.
        return cast("Future[R]", runtime.attach_holder(error.name, owner, order))
    raise error
