"""Finds tasks without events: ZooKeeper withholds the events of a znode that the session may not read.

Once a minute the number of names in `/tasks` is compared with the picture. Where they differ, and still differ by as
much a second later, the folders are listed anew: a listing shows every name, and a task that cannot be read is then
refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from herdmaster.core import layout
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

RECOUNT_SECONDS: Final = 60.0
_AGAIN_SECONDS: Final = 1.0

_log = logging.getLogger("herdmaster.master")


class Recount:
    """`step` counts when it is time; `wake` is called when another step is worthwhile. `seconds` between two counts."""

    def __init__(
        self,
        client: Client,
        dispatcher: Dispatcher,
        wake: Callable[[], None],
        list_again: Callable[[], None],
        seconds: float = RECOUNT_SECONDS,
    ) -> None:
        self._client = client
        self._clock = client.clock
        self._dispatcher = dispatcher
        self._wake = wake
        self._list_again = list_again
        self._seconds = seconds
        self._next = self._clock() + seconds
        self._is_asking = False
        self._difference = 0

    def step(self) -> None:
        """Raises the session's final error."""
        if self._is_asking or self._clock() < self._next:
            return
        self._is_asking = True
        self._client.exists_nowait(layout.TASKS, self._compare)

    def next_wakeup(self) -> float | None:
        """Return when, on the client's clock, a step is worthwhile although nothing happens meanwhile."""
        return None if self._is_asking else self._next

    def _compare(self, stat: Stat | None, _error: Exception | None) -> None:
        """Events come before any reply that shows their change, so the picture is as new as the reply."""
        self._is_asking = False
        self._next = self._clock() + self._seconds
        before, self._difference = self._difference, 0
        if stat is not None and self._dispatcher.is_current:
            self._difference = stat.num_children - self._dispatcher.names_in_tasks
        if self._difference and self._difference == before:
            self._difference = 0
            _log.info("/tasks holds names whose events were withheld: listing the folders again")
            self._list_again()
        elif self._difference:
            self._next = self._clock() + min(_AGAIN_SECONDS, self._seconds)
        self._wake()
