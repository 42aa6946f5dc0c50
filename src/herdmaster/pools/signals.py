"""Keeps the signals that stop a worker from ending the processes of its tasks.

systemd by default, and other supervisors, send the signal that stops a unit to each of its processes. The processes in
which tasks run are ended by their worker alone, once the task has ended or its time is up.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final

from herdmaster import forks

STOPPING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Block these signals in every process that is started meanwhile: until it handles them they would end it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def outlast() -> None:
    """Let this process survive these signals, but not the programs that it starts: unlike SIG_IGN, a handler does not
    outlive exec. To be called in the main thread."""
    for number in STOPPING:
        signal.signal(number, _go_on)
        signal.siginterrupt(number, False)  # code in C may not expect its calls to be interrupted
        forks.add_handler(number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _go_on(_number: int, _frame: FrameType | None) -> None:
    pass
