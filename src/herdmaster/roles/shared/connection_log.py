"""Logs that a role's connection to ZooKeeper was lost, and that it is back: after how long, with which session."""

from __future__ import annotations

import logging
from collections.abc import Callable

from herdmaster.zookeeper.client.connection import Clock
from herdmaster.zookeeper.model import SessionState

_log = logging.getLogger("herdmaster")


class ConnectionLog:
    """Over all sessions of a role. `meanwhile` describes what the role does not do until the connection is back,
    `found` what it finds then: an empty text if the role logs that itself. `level` is that of the loss.

    The return is logged at the level of what was logged before it, so that the loss is never the last line about it.
    """

    def __init__(
        self, kind: str, clock: Clock, level: int, *, meanwhile: Callable[[], str], found: Callable[[], str]
    ) -> None:
        self._kind = kind
        self._clock = clock
        self._level = level
        self._meanwhile = meanwhile
        self._found = found
        self._lost_at: float | None = None
        self._told = logging.NOTSET  # the highest level that anything was told at since

    def listen(self, state: SessionState) -> None:
        """To the changes of a session."""
        if state is SessionState.DISCONNECTED:
            self.note_loss(self._level)
            _log.log(self._level, "%s: the connection to ZooKeeper was lost: %s", self._kind, self._meanwhile())
        elif state is SessionState.CONNECTED:
            self._tell_back("the same session")

    def note_loss(self, level: int) -> None:
        """Something else has logged, at this level, that a session has ended, or that none was established."""
        if self._lost_at is None:
            self._lost_at = self._clock()
        self._told = max(self._told, level)

    def tell_opened(self) -> None:
        """A new session is there. The first of all is not logged."""
        self._tell_back("a new session")

    def _tell_back(self, session: str) -> None:
        if self._lost_at is None:
            return
        seconds = self._clock() - self._lost_at
        found = self._found()
        text = f"%s: the connection to ZooKeeper is back after %.1f s, with %s{'; ' if found else ''}%s"
        _log.log(self._told, text, self._kind, seconds, session, found)
        self._lost_at, self._told = None, logging.NOTSET
