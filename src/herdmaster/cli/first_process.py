"""Process 1 of a container, which must reap every process whose parent has ended, and gets the container's signals.

A worker cannot reap them itself. It cannot tell an adopted child from a child that a task has started, and would lose
the exit code of the latter. So process 1 only reaps and passes signals on, and Herdmaster runs in a child.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Set as AbstractSet
from typing import Final

_FAULTS: Final = {
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSEGV,
    signal.SIGSYS,
    signal.SIGTRAP,
}
"""Signals that the code of this process raises, never another process."""

_OF_TERMINALS: Final = {signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP}
_FROM_KERNEL: Final = 128
"""SI_KERNEL. A terminal sends its signals to the whole foreground group, so the child has got them already."""


def leave_first_process() -> None:
    """Continue in a child if this is process 1. Call this before there are threads."""
    if os.getpid() == 1:
        go_on_in_child()


def go_on_in_child() -> None:
    """Return in a child.

    The calling process passes signals on to the child, reaps adopted processes, and exits with the child's exit code:
    128 plus the signal's number if a signal killed the child.
    """
    heard = signal.valid_signals() - _FAULTS
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    os._exit(_serve(child, heard))


def _serve(child: int, heard: AbstractSet[int]) -> int:
    while True:
        received = signal.sigwaitinfo(heard)
        number = received.si_signo
        if number == signal.SIGCHLD:
            code = _reap(child)
            if code is not None:
                return code
        elif number not in _OF_TERMINALS or received.si_code != _FROM_KERNEL:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)


def _reap(child: int) -> int | None:
    """Reap ended processes. Return the exit code of the child if it is among them."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                code = os.waitstatus_to_exitcode(ended[1])
    return code if code is None or code >= 0 else 128 - code
