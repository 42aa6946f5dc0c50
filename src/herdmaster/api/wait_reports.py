"""Reports to the worker which tasks the code of a task waits for, so that it detects that all its slots wait."""

from __future__ import annotations

from typing import Any

from herdmaster.running.current import Running, running_now


def begin_wait(task: str) -> Running | None:
    """Report that the running task begins to wait for another one. Return the running task, which is to hear of the end
    of the wait; None outside of a task."""
    running = running_now.get(None)
    if running is not None:
        running.begin_wait(task)
    return running


class _Noted(list[Any]):
    """The list of a future's waiters in `concurrent.futures`. Each waiter that enters or leaves is reported."""

    def __init__(self, task: str, running: Running, waiters: list[Any]) -> None:
        super().__init__(waiters)
        self._task = task
        self._running = running

    def append(self, waiter: Any) -> None:
        super().append(waiter)
        self._running.begin_wait(self._task)

    def remove(self, waiter: Any) -> None:
        super().remove(waiter)
        self._running.end_wait(self._task)


def noted(task: str, waiters: list[Any]) -> list[Any]:
    """Return the list of waiters in a form that reports them to the worker, if this is the code of a task."""
    running = running_now.get(None)
    return waiters if running is None or isinstance(waiters, _Noted) else _Noted(task, running, waiters)
