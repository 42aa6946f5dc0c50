"""Where a task is, for a program that asks."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Protocol

from herdmaster.errors import HerdError
from herdmaster.roles.inspector import TaskSeen
from herdmaster.roles.searches import Found


class Finder(Protocol):
    """What a Herd's runtime is here."""

    def find(self, name: str, found: Found, /) -> None: ...


def find_and_wait(finder: Finder, name: str, patience: float) -> TaskSeen | None:
    """None for a task that is nowhere. Raises TimeoutError when there was no session for `patience` seconds."""
    try:
        return _begin(finder, name).result(patience)
    except concurrent.futures.TimeoutError:
        raise _too_late(name, patience) from None


async def find_and_wait_async(finder: Finder, name: str, patience: float) -> TaskSeen | None:
    """As `find_and_wait`, for event loops."""
    try:
        async with asyncio.timeout(patience):
            return await asyncio.wrap_future(_begin(finder, name))
    except TimeoutError:
        raise _too_late(name, patience) from None


def _begin(finder: Finder, name: str) -> concurrent.futures.Future[TaskSeen | None]:
    answer: concurrent.futures.Future[TaskSeen | None] = concurrent.futures.Future()

    def found(seen: TaskSeen | None, error: HerdError | None) -> None:
        if not answer.set_running_or_notify_cancel():
            return  # nobody waits any more
        if error is None:
            answer.set_result(seen)
        else:
            answer.set_exception(error)

    finder.find(name, found)
    return answer


def _too_late(name: str, patience: float) -> TimeoutError:
    return TimeoutError(f"ZooKeeper could not be asked for {name} within {patience:g} s: `herd status` tells more")
