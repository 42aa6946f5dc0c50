"""Wakes coroutines in other event loops: once per loop and turn of the I/O thread, however many wait there."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

Waiter = asyncio.Future[None]


class Wakeups:
    """The waiters to wake. All methods but `wake_at_once` belong to the I/O thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Final = loop
        self._to_wake: dict[asyncio.AbstractEventLoop, list[Waiter]] = {}

    def wake_soon(self, waiter: Waiter) -> None:
        """Wake a waiter at the end of this turn of the loop."""
        if not self._to_wake and not self._loop.is_closed():
            self._loop.call_soon(self.flush)
        self._to_wake.setdefault(waiter.get_loop(), []).append(waiter)

    def flush(self) -> None:
        """Wake all waiters now."""
        waiting, self._to_wake = self._to_wake, {}
        for loop, waiters in waiting.items():
            _wake_in(loop, waiters)

    @staticmethod
    def wake_at_once(waiter: Waiter) -> None:
        """Wake a waiter, from any thread."""
        _wake_in(waiter.get_loop(), [waiter])


def _wake_in(loop: asyncio.AbstractEventLoop, waiters: list[Waiter]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: no waiter is left
        loop.call_soon_threadsafe(_set_all, waiters)


def _set_all(waiters: list[Waiter]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
