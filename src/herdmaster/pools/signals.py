"""Signals that end a worker, and must not end what its tasks run in.

systemd's default, and other supervisors, send the signal that stops a unit to each of its processes. What a task runs
in is ended by its worker alone, once the task has ended or its time is up.
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
    """A process that is started meanwhile has these signals blocked: until it handles them they would end it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def outlast() -> None:
    """Lets this process survive these signals, but not what it starts: unlike SIG_IGN a handler does not outlive exec.
    Call it in the main thread."""
    for number in STOPPING:
        signal.signal(number, _go_on)
        signal.siginterrupt(number, False)  # code in C may not expect its calls to be interrupted
        forks.add_handler(number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _go_on(_number: int, _frame: FrameType | None) -> None:
    pass
