"""Process 1 of a container has to reap every process whose parent has ended, and gets the container's signals.

A worker cannot do that itself: it cannot tell an adopted child from one that a task, or the standard library for a
task, has started, and reaping the latter would lose its exit code. So process 1 does nothing else, and Herdmaster runs
in a child of it.
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
"""Raised by this process's own code, never sent from outside."""

_OF_TERMINALS: Final = {signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP}
_FROM_KERNEL: Final = 128
"""SI_KERNEL: a terminal sends its signals to the whole foreground group, so the child has had them."""


def leave_first_process() -> None:
    """If this is process 1, goes on in a child of it. Called before there are threads."""
    if os.getpid() == 1:
        go_on_in_child()


def go_on_in_child() -> None:
    """Returns in a child. The process that calls this passes signals on to that, reaps what has become its own, and
    ends with the child's exit code, 128 and the number of the signal that has killed it."""
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
    """The exit code of the child once it has ended."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                code = os.waitstatus_to_exitcode(ended[1])
    return code if code is None or code >= 0 else 128 - code
