"""The log records of I/O threads. Another thread handles them, so that handlers of the program that block do not stop
the heartbeats of sessions."""

from __future__ import annotations

import logging
import threading
from typing import Final

from herdmaster import forks
from herdmaster.pools.log_thread import Deferral

FLUSH_SECONDS: Final = 1.0
_LOGGERS: Final = (
    "asyncio",
    "herdmaster",
    "herdmaster.client",
    "herdmaster.connecting",
    "herdmaster.zookeeper",
)
"""The loggers that are used on I/O threads."""

_lock = threading.Lock()
_here = threading.local()
_deferral: Deferral | None = None


def defer() -> None:
    """Defer the records of this thread, which is an I/O thread, from now on."""
    global _deferral  # noqa: PLW0603 - one for all I/O threads of the process
    _here.is_io_thread = True
    with _lock:
        if _deferral is None:
            _deferral = Deferral(_is_io_thread)
            for name in _LOGGERS:
                logging.getLogger(name).addFilter(_deferral)


def flush() -> None:
    """Wait until the records so far are handled, at most a second."""
    if _deferral is not None:
        _deferral.flush(FLUSH_SECONDS)


def _is_io_thread() -> bool:
    return getattr(_here, "is_io_thread", False)


def _handle_fork() -> None:
    global _deferral, _lock
    if _deferral is not None:
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(_deferral)
    _deferral, _lock = None, threading.Lock()


forks.add_callback(_handle_fork)
