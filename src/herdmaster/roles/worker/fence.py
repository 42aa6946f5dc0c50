"""A worker's own fence: what it does about running tasks while its session may be over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from herdmaster.zookeeper.client import Client


class Fence:
    """Calls `stop` at the session's deadline, from which on another worker may be given what runs here. Should the
    session live on after all, that is run again."""

    def __init__(self, client: Client, stop: Callable[[], None]) -> None:
        self._client = client
        self._stop = stop
        self._timer: asyncio.TimerHandle | None = None

    def raise_at_deadline(self, is_wanted: Callable[[], bool]) -> None:
        """Does nothing once `is_wanted` returns False, because the connection is back. The deadline may still move."""
        if not is_wanted():
            return
        self.cancel()  # that of an interruption before this one
        left = self._client.deadline - self._client.clock()
        if left <= 0:
            self._stop()
        else:
            self._timer = asyncio.get_running_loop().call_later(left, self.raise_at_deadline, is_wanted)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
