"""A thread that handles log records in place of a thread which keeps a session.

A program may set log handlers that block: on a network, or on a slow disk. On the thread that keeps the session they
would stop the heartbeat.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from herdmaster.core.printable import printable
from herdmaster.pools.outlets import STALL_SECONDS, own_stderr

MOST_RECORDS: Final = 10_000
"""Records that may wait for the handlers; further ones are dropped and counted."""

_log = logging.getLogger("herdmaster")


class Deferral(logging.Filter):
    """A filter for loggers: records of some threads go to a thread that handles them. The queue is a SimpleQueue:
    its `put` takes no lock that a finaliser on another thread could hold."""

    def __init__(self, is_deferred: Callable[[], bool]) -> None:
        """`is_deferred` says whether the records of the current thread are to be deferred."""
        super().__init__()
        self._is_deferred = is_deferred
        self._records: SimpleQueue[logging.LogRecord | threading.Event | None] = (
            SimpleQueue()
        )  # None: no more will come
        self._dropped = 0
        self._busy_since: float | None = None
        self._is_direct = False
        self._stderr = own_stderr()
        self._thread: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._after_fork)

    def filter(self, record: logging.LogRecord) -> bool:
        """Queue a record that is to be deferred, and return False: the logger does not handle it."""
        if self._is_direct or not self._is_deferred() or not self._has_thread():
            return True
        if self._records.qsize() >= MOST_RECORDS:
            self._dropped += 1
            return False
        record.msg, record.args = record.getMessage(), None  # now: the arguments may change
        self._records.put(record)
        return False

    def has_room(self) -> bool:
        """Say whether the handlers keep up, or have not returned for so long that waiting for them is no use."""
        since = self._busy_since
        is_stalled = since is not None and time.monotonic() - since > STALL_SECONDS
        return self._records.qsize() <= MOST_RECORDS // 2 or is_stalled

    def flush(self, seconds: float) -> None:
        """Wait until all records so far are handled, at most `seconds`."""
        if self._thread is None or self._thread is threading.current_thread():
            return
        handled = threading.Event()
        self._records.put(handled)
        handled.wait(seconds)

    def drain(self, seconds: float) -> None:
        """As `flush`. Later records are handled on the threads that log them."""
        self._is_direct = True
        self.flush(seconds)

    def finish(self, seconds: float) -> None:
        """At the end of the process: as `drain`, and close the handlers."""
        if not self._has_thread():
            logging.shutdown()
            return
        self._records.put(None)
        self.drain(seconds)

    def _has_thread(self) -> bool:
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="herdmaster-log", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends, or the machine has no more threads
                return False
            self._thread = thread
        return True

    def _work(self) -> None:
        while True:
            record = self._records.get()
            if isinstance(record, threading.Event):
                record.set()
                continue
            self._busy_since = time.monotonic()
            dropped, self._dropped = self._dropped, 0
            self._handle(record)
            if dropped:
                text = f"{dropped} log lines were dropped: the handlers did not keep up"
                self._handle(_log.makeRecord(_log.name, logging.WARNING, __file__, 0, text, (), None))
            self._busy_since = None
            del record  # it may hold a traceback, and with that the objects of its frames

    def _handle(self, record: logging.LogRecord | None) -> None:
        try:
            if record is None:
                logging.shutdown()
            else:
                logging.getLogger(record.name).handle(record)
        except BaseException as error:  # noqa: BLE001 - the handlers are user code, and this thread must go on
            if record is not None and self._stderr is not None:
                with contextlib.suppress(Exception):  # the text of the error may fail
                    text = printable(f"{record.levelname} {record.msg} (a log handler raised {error!r})")
                    self._stderr.write(f"{text}\n")

    def _after_fork(self) -> None:
        """In a child there is no such thread, and perhaps a lock that is never released."""
        self._is_direct = True
