"""One timer for all deadlines of a pool.

A timer per task would cost a wake-up of the loop for each task that a thread begins. Most tasks end before the timer
that the first of them has set; when that is due, it finds the next deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from math import inf
from typing import Final

_LEAST_SECONDS: Final = 0.01
"""Between two looks; each costs time for every task that runs."""


class Watch:
    """Calls `look(now)` in the loop at the earliest time that was asked for, or a little later. `look` returns the next
    time, or None.

    A deadline must be in place before its time is asked for. Times are those of `time.monotonic`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, look: Callable[[float], float | None]) -> None:
        self._loop = loop
        self._context = copy_context()  # calls in the loop belong to the role that made it
        self._look = look
        self._next = inf
        self._lock = threading.Lock()
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, when: float) -> None:
        """Ask for a look at that time. On any thread."""
        if when >= self._next:
            return
        with self._lock:
            if when >= self._next:
                return
            self._next = when
        with contextlib.suppress(RuntimeError):  # the loop is closed: no look is wanted any more
            self._loop.call_soon_threadsafe(self._set, context=self._context)

    def close(self) -> None:
        with self._lock:
            self._next = -inf
        self._set()

    def _set(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if -inf < self._next < inf:
            self._timer = self._loop.call_later(max(self._next - time.monotonic(), _LEAST_SECONDS), self._due)

    def _due(self) -> None:
        self._timer = None
        with self._lock:
            if self._next == -inf:
                return
            self._next = inf  # before the look: a deadline that is set during the look asks for its own time
        when = self._look(time.monotonic())
        if when is not None:
            self.ask(when)
