"""Logs that a role's connection to ZooKeeper was lost, and that it is back: after how long, with which session."""

from __future__ import annotations

import logging
from collections.abc import Callable

from herdmaster.zookeeper.client.connection import Clock
from herdmaster.zookeeper.model import SessionState

_log = logging.getLogger("herdmaster")


class ConnectionLog:
    """The connection log of a role, over all of its sessions. `meanwhile` returns what the role does not do until the
    connection is back, `found` what waits for it then: an empty text if the role logs that itself. `level` is that of
    the line about the loss.

    The return is logged at the highest level that was used since the loss, so that the loss is never the last line
    about it.
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
        self._highest_level = logging.NOTSET  # the highest level that was used since

    def listen(self, state: SessionState) -> None:
        """Follow the changes of a session's state."""
        if state is SessionState.DISCONNECTED:
            self.note_loss(self._level)
            _log.log(self._level, "%s: the connection to ZooKeeper was lost: %s", self._kind, self._meanwhile())
        elif state is SessionState.CONNECTED:
            self._log_back("the same session")

    def note_loss(self, level: int) -> None:
        """Note that a line at this level was logged elsewhere: a session has ended, or none was established."""
        if self._lost_at is None:
            self._lost_at = self._clock()
        self._highest_level = max(self._highest_level, level)

    def log_opened(self) -> None:
        """Log that a new session is there. The first session is not logged."""
        self._log_back("a new session")

    def _log_back(self, session: str) -> None:
        if self._lost_at is None:
            return
        seconds = self._clock() - self._lost_at
        found = self._found()
        text = f"%s: the connection to ZooKeeper is back after %.1f s, with %s{'; ' if found else ''}%s"
        _log.log(self._highest_level, text, self._kind, seconds, session, found)
        self._lost_at, self._highest_level = None, logging.NOTSET
