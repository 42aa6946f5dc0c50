"""Finds tasks without events: ZooKeeper withholds the events of a znode that the session may not read.

Now and then the number of names in `/tasks` is compared with the picture. Where they differ, and still do a little
later, the folders are listed anew: a listing shows every name, and what cannot be read is then refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from herdmaster.core import layout
from herdmaster.roles.primary.observation import Observation
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

RECOUNT_SECONDS: Final = 60.0
_AGAIN_SECONDS: Final = 1.0

_log = logging.getLogger("herdmaster.master")


class Recount:
    """`step` looks when it is time; `wake` is called when it is worth another step."""

    def __init__(
        self, client: Client, observation: Observation, wake: Callable[[], None], seconds: float = RECOUNT_SECONDS
    ) -> None:
        self._client = client
        self._clock = client.clock
        self._observation = observation
        self._wake = wake
        self._seconds = seconds
        self._next = self._clock() + seconds
        self._is_asking = False
        self._difference = 0
        self.is_folder_missing = False  # never: what is absent others notice

    def step(self) -> None:
        """Raises the session's final error."""
        if self._is_asking or self._clock() < self._next:
            return
        self._is_asking = True
        self._client.exists_nowait(layout.TASKS, self._counted)

    def next_wakeup(self) -> float | None:
        """When, on the client's clock, it is time for a step although nothing happens meanwhile."""
        return None if self._is_asking else self._next

    def _counted(self, stat: Stat | None, _error: Exception | None) -> None:
        """Events come before any reply that shows their change, so the picture is as new as the reply."""
        self._is_asking = False
        self._next = self._clock() + self._seconds
        before, self._difference = self._difference, 0
        dispatcher = self._observation.dispatcher
        if stat is not None and dispatcher.is_current:
            self._difference = stat.num_children - dispatcher.backlog.size
        if self._difference and self._difference == before:
            self._difference = 0
            _log.info("/tasks holds names of which no event told: listing it anew")
            self._observation.list_again()
        elif self._difference:
            self._next = self._clock() + min(_AGAIN_SECONDS, self._seconds)
        self._wake()
