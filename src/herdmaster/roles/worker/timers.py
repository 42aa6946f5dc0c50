"""Delayed calls that end with a worker session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timers:
    """Timers of the running loop that can be cancelled together."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._handles: set[asyncio.TimerHandle] = set()

    def call_later(self, seconds: float, action: Callable[..., None], *args: object) -> None:
        """Call the action in so many seconds, unless `cancel` is called first."""

        def run() -> None:
            self._handles.discard(handle)
            action(*args)

        handle = self._loop.call_later(seconds, run)
        self._handles.add(handle)

    def cancel(self) -> None:
        for handle in self._handles:
            handle.cancel()
