"""Requests to cancel the children of tasks that exceeded their time limit.

They are sent before the move that ends the attempt, on the same connection, so ZooKeeper has them first. A request
whose reply was lost is sent again after the reconnect.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

from herdmaster.core.children import children_of
from herdmaster.core.retry import Raised
from herdmaster.core.run import Run
from herdmaster.errors import SoftTimeLimitExceeded, TimeLimitExceeded
from herdmaster.roles.shared.child_requests import request_cancel_nowait
from herdmaster.roles.shared.lacked_rights import LackedRights
from herdmaster.running.delivery import Delivered
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

_LIMITS: Final = frozenset({TimeLimitExceeded.__name__, SoftTimeLimitExceeded.__name__})

_log = logging.getLogger("herdmaster.worker")


class ChildCancels:
    """The requests of one session."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._unsent: dict[str, None] = {}
        self._lacked = LackedRights()

    def attempt_ended(self, task: Delivered, run: Run) -> None:
        """Ask to cancel the children if the attempt exceeded a time limit."""
        if isinstance(run.ending, Raised) and run.ending.error.type in _LIMITS:
            self._unsent.update(dict.fromkeys(children_of(task.payload)))

    def send(self) -> None:
        """Send what has not been sent, or whose reply was lost."""
        if not self._unsent:
            return
        names, self._unsent = self._unsent, {}
        for name in names:
            try:
                request_cancel_nowait(self._client, name, partial(self._answered, name))
            except errors.ZooKeeperError as error:
                self._answered(name, error)

    def _answered(self, name: str, error: Exception | None) -> None:
        if isinstance(error, errors.ConnectionLoss):
            self._unsent[name] = None
        elif isinstance(error, errors.NodeExists):
            return  # it was requested before
        elif isinstance(error, errors.ServerError) and self._lacked.is_news(error):
            _log.warning("%s is the child of a task that exceeded its time limit, and stays: %s", name, error)
