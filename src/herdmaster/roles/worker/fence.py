"""The fence of a worker: stops running tasks when its session may be over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from herdmaster.zookeeper.client import Client


class Fence:
    """A timer that calls `stop` at the session's deadline. From then on another worker may be given the tasks that run
    here. If the session lives on after all, they are run again."""

    def __init__(self, client: Client, stop: Callable[[], None]) -> None:
        self._client = client
        self._stop = stop
        self._timer: asyncio.TimerHandle | None = None

    def raise_at_deadline(self, is_wanted: Callable[[], bool]) -> None:
        """Stop the tasks at the deadline, which may still move, unless `is_wanted` returns False by then because the
        connection is back."""
        if not is_wanted():
            return
        self.cancel()  # the timer of an earlier interruption
        left = self._client.deadline - self._client.clock()
        if left <= 0:
            self._stop()
        else:
            self._timer = asyncio.get_running_loop().call_later(left, self.raise_at_deadline, is_wanted)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
