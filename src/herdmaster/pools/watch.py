"""Looks at deadlines when the earliest is due: one timer for a whole pool, however many tasks it runs.

A timer per task would cost a wake-up of the loop for each that a thread begins. Tasks with the same limits end before
the timer that the first of them set, and that timer then finds the next.
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
    """Calls `look(now)` in the loop, not before the earliest time asked for; it answers with the next one, or None.

    What is looked at must be in place before its time is asked for. Times are those of `time.monotonic`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, look: Callable[[float], float | None]) -> None:
        self._loop = loop
        self._context = copy_context()  # what it does in the loop is its maker's
        self._look = look
        self._next = inf
        self._lock = threading.Lock()
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, when: float) -> None:
        """From any thread."""
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
            self._next = inf  # before the look: who begins during it asks for a time of its own
        when = self._look(time.monotonic())
        if when is not None:
            self.ask(when)
