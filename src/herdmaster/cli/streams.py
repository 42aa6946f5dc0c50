"""Standard streams that are closed, or whose reader has gone."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Final

CANNOT_WRITE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""What writing to a stream that is open may end with, beside a closed pipe."""


def open_closed_streams() -> None:
    """Has those of the three that are closed lead nowhere, as in `herd master >&-`. Else the next socket would get the
    number of one, and what is printed would go to a server. To be called before anything is opened."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def flush_output() -> None:
    """Raises OSError where what was printed cannot be written. A task may have closed or replaced the stream."""
    with contextlib.suppress(ValueError, AttributeError):
        sys.stdout.flush()


def discard_output() -> None:
    """What is still buffered must not raise again at the end of the interpreter."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
            continue
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
