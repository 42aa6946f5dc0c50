"""Notes in the running task that it is about to submit tasks as its children."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import msgspec

from herdmaster.core.children import NOTHING, assignment_of, key_of_child
from herdmaster.errors import HerdError, NoCurrentTask
from herdmaster.running.current import Running, running_now
from herdmaster.running.once import PAUSE_SECONDS, AsyncWaiter, Waiter


def adopt(tasks: Iterable[str]) -> str | None:
    """Return when the running task has these tasks, at least one, as its children: the path of its assignment, which
    their submission checks. None if it has none. Raises NoCurrentTask, NotSaved, SavedTooLarge."""
    run = _running()
    while not run.may_begin_once():
        time.sleep(PAUSE_SECONDS)
    waiters = []
    for task in tasks:
        waiters.append(Waiter())
        run.save(key_of_child(task), NOTHING, waiters[-1].answer)
    return _assignment(run, [waiter.wait(run) for waiter in waiters])


async def adopt_async(tasks: Iterable[str]) -> str | None:
    """As `adopt`, in a coroutine."""
    run = _running()
    while not run.may_begin_once():  # noqa: ASYNC110 - a clock decides, and nothing tells of it
        await asyncio.sleep(PAUSE_SECONDS)
    waiters = []
    for task in tasks:
        waiters.append(AsyncWaiter())
        run.save(key_of_child(task), NOTHING, waiters[-1].answer)
    return _assignment(run, [await waiter.answered for waiter in waiters])


def _running() -> Running:
    run = running_now.get(None)
    if run is None:
        raise NoCurrentTask("child=True is for a task that submits: no task runs here; leave child= out")
    return run


def _assignment(run: Running, answers: list[msgspec.Raw | HerdError]) -> str | None:
    found: bytes = NOTHING
    for answer in answers:
        if isinstance(answer, HerdError):
            raise answer
        found = bytes(answer)
    return assignment_of(run.name, found)
