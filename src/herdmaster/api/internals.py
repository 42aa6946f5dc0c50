"""The internal half of public objects, for Herdmaster's other modules: completion lists of users do not show it.

No other module reads a private attribute of an object of another class.
"""

from __future__ import annotations

import concurrent.futures
import threading
from typing import Protocol, TypeVar

from herdmaster.api.future import Future
from herdmaster.errors import TaskCancelled

C_co = TypeVar("C_co", covariant=True)
R = TypeVar("R")


class HasCore(Protocol[C_co]):
    """A Herd, with a `HerdCore`, or a task, with a `TaskCore`."""

    @property
    def _core(self) -> C_co: ...


def core_of(public: HasCore[C_co]) -> C_co:
    """Return the internal half of a Herd or a task."""
    return public._core


def core_at(module: object, attribute: str) -> object:
    """Return the internal half of what a module holds under this name; None if there is none."""
    return getattr(getattr(module, attribute, None), "_core", None)


def keep(future: Future[R]) -> None:
    """Keep a future until it is done, so that the outcome is collected although no caller waits for it."""
    future._keep()


def owner_of(future: Future[R]) -> object:
    """Return what the future keeps alive until it is done."""
    return future._owner


def note_cancelled(future: Future[R]) -> None:
    """Note that the task has ended as cancelled, ahead of `resolve`: a request to cancel it that comes in between finds
    no outcome any more."""
    future._ends_cancelled = True


def resolve(future: Future[R], value: R, error: Exception | None) -> None:
    """Set the result, or the error if there is one. TaskCancelled makes the future a cancelled one."""
    if error is None:
        future.set_result(value)
    elif isinstance(error, TaskCancelled):
        _end_cancelled(future)
    else:
        future.set_exception(error)


def resolve_nowait(future: Future[R], value: R, error: Exception | None) -> bool:
    """As `resolve`, but return False, and do nothing, while another thread holds the future's lock: that thread may be
    stopped there by a signal handler that waits for another future."""
    if not future._condition.acquire(blocking=False):
        return False
    try:
        resolve(future, value, error)
    finally:
        future._condition.release()
    return True


def follow(future: Future[R], other: Future[R]) -> None:
    """End the future as the other one ends."""

    def copy(_done: concurrent.futures.Future[R]) -> None:
        if other.cancelled():
            _end_cancelled(future)
        elif (error := other.exception()) is not None:
            future.set_exception(error)
        else:
            future.set_result(other.result())

    other.add_done_callback(copy)


def leave_to_parent(future: Future[R], error: Exception) -> None:
    """Fail a future in a forked child, for this process alone: the session that resolves it is the parent's."""
    future._condition = threading.Condition()  # a thread that did not come along may hold the old one
    future._waiters = []
    future._done_callbacks = []
    future._waiting = ()
    if not future.done():
        future.set_exception(error)


def _end_cancelled(future: Future[R]) -> None:
    concurrent.futures.Future.cancel(future)
    future.set_running_or_notify_cancel()  # wakes the callers of `wait` and `as_completed`
