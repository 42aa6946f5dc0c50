"""Log records of the main thread, which keeps the session, handled by a thread of its own.

An app may set handlers that block: over a network, or on a disk that is slow. In the main thread they would stop the
heartbeat.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from typing import Final

from herdmaster.pools.outlets import STALL_SECONDS, own_stderr

MOST_RECORDS: Final = 10_000
"""Records that may wait for the handlers; further ones are dropped and counted."""

_log = logging.getLogger("herdmaster")


class Deferral(logging.Filter):
    """For the loggers that the main thread uses. Other threads handle what they log themselves."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._records: deque[logging.LogRecord | None] = deque()  # None: no more will come
        self._dropped = 0
        self._busy_since: float | None = None
        self._is_direct = False
        self._stderr = own_stderr()
        os.register_at_fork(after_in_child=self._after_fork)
        threading.Thread(target=self._work, name="herdmaster-log", daemon=True).start()

    def filter(self, record: logging.LogRecord) -> bool:
        if self._is_direct or threading.current_thread() is not threading.main_thread():
            return True
        record.msg, record.args = record.getMessage(), None  # now: what it shows may change
        with self._changed:
            if len(self._records) < MOST_RECORDS:
                self._records.append(record)
                self._changed.notify_all()
            else:
                self._dropped += 1
        return False

    def has_room(self) -> bool:
        """As an outlet's."""
        since = self._busy_since
        is_stalled = since is not None and time.monotonic() - since > STALL_SECONDS
        return len(self._records) <= MOST_RECORDS // 2 or is_stalled

    def drain(self, seconds: float) -> None:
        """Waits until all is handled, at most so long. What comes from here on is handled where it is logged."""
        self._is_direct = True
        limit = time.monotonic() + seconds
        with self._changed:
            while (self._records or self._busy_since is not None) and (left := limit - time.monotonic()) > 0:
                self._changed.wait(left)

    def finish(self, seconds: float) -> None:
        """For the end of the process: as `drain`, and closes the handlers."""
        with self._changed:
            self._records.append(None)
            self._changed.notify_all()
        self.drain(seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._records:
                    self._changed.wait()
                record = self._records.popleft()
                self._busy_since = time.monotonic()
                dropped, self._dropped = self._dropped, 0
            self._handle(record)
            if dropped:
                text = f"{dropped} log lines were dropped: the handlers did not keep up"
                self._handle(_log.makeRecord(_log.name, logging.WARNING, __file__, 0, text, (), None))
            with self._changed:
                self._busy_since = None
                self._changed.notify_all()

    def _handle(self, record: logging.LogRecord | None) -> None:
        try:
            if record is None:
                logging.shutdown()
            else:
                logging.getLogger(record.name).handle(record)
        except BaseException as error:  # noqa: BLE001 - of the app's handlers; without this thread nothing is logged
            if record is not None and self._stderr is not None:
                with contextlib.suppress(Exception):  # its own text may fail
                    self._stderr.write(f"{record.levelname} {record.msg} (a log handler raised {error!r})\n")

    def _after_fork(self) -> None:
        """In a child there is no such thread, and perhaps a lock that is never released."""
        self._is_direct = True
