"""What a process leaves behind when it has ended: asyncio tasks, timers, exceptions that were not retrieved."""

from __future__ import annotations

import asyncio
from typing import Final

from herdmaster.simulation.world.loop import Handle
from herdmaster.simulation.world.pool import SimulatedPool
from herdmaster.simulation.world.process import Process

_MOST_CLOSES: Final = 100


def find_left_task(process: Process) -> str | None:
    """Return what is wrong with the asyncio tasks of a process that has ended, or None.

    asyncio logs an exception that was not retrieved when its task is collected; here the collector is off.
    """
    for task in process.tasks:
        if task.done() and not task.cancelled() and task._log_traceback:  # noqa: SLF001 - asking publicly counts as retrieving
            return f"{process.name}: an asyncio task died unheard: {task.exception()!r}"
    left = [task for task in process.tasks if not task.done()]
    return f"{process.name} has ended and leaves an asyncio task: {left[0].get_coro()}" if left else None


def find_left_timer(process: Process, handles: list[Handle]) -> str | None:
    """Return what is wrong with the handles that were pending when a process ended, or None."""
    left = [handle for handle in handles if _is_leak(handle)]
    return f"{process.name} has ended and leaves a timer: {left[0]!r}" if left else None


def _is_leak(handle: Handle) -> bool:
    """Return whether a role should have cancelled a handle. Task code runs on in its thread after its worker has
    ended, and the network delivers at any time."""
    return not handle.is_io and not isinstance(getattr(handle.callback, "__self__", None), SimulatedPool)


def discard(task: asyncio.Task[object]) -> None:
    """End a task that will never run again, even if it catches `GeneratorExit`."""
    if task.done():
        return
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way to silence it
    coroutine = task.get_coro()
    for _ in range(_MOST_CLOSES):
        try:
            coroutine.close()
        except BaseException:  # noqa: BLE001, S112 - what the clean-up raises does not matter any more
            continue
        return
