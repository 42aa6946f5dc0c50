"""Requests to cancel the children of tasks that exceeded their time limit.

They are sent before the move that ends the attempt, on the same connection, so ZooKeeper has them first. A request
whose reply was lost is sent again after the reconnect. A child that is on its way is cancelled too: the primary keeps
its request until the attempt has ended, after which the child is not accepted.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

from herdmaster.core.children import children_of, encode_parent
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

    def __init__(self, client: Client, worker: str) -> None:
        self._client = client
        self._worker = worker
        self._unsent: dict[str, bytes] = {}  # by child: the data of its request
        self._lacked = LackedRights()

    def attempt_ended(self, task: Delivered, run: Run) -> None:
        """Ask to cancel the children if the attempt exceeded a time limit."""
        if isinstance(run.ending, Raised) and run.ending.error.type in _LIMITS:
            self._unsent.update(dict.fromkeys(children_of(task.payload), encode_parent(self._worker, task.name)))

    def send(self) -> None:
        """Send what has not been sent, or whose reply was lost."""
        if not self._unsent:
            return
        unsent, self._unsent = self._unsent, {}
        for name, parent in unsent.items():
            answered = partial(self._answered, name, parent)
            try:
                request_cancel_nowait(self._client, name, parent, answered)
            except errors.ZooKeeperError as error:
                answered(error)

    def _answered(self, name: str, parent: bytes, error: Exception | None) -> None:
        if isinstance(error, errors.ConnectionLoss):
            self._unsent[name] = parent
        elif isinstance(error, errors.NodeExists):
            return  # it was requested before
        elif isinstance(error, errors.ServerError) and self._lacked.is_news(error):
            _log.warning("%s is the child of a task that exceeded its time limit, and stays: %s", name, error)
