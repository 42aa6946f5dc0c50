"""The standard streams: closed at the start, on a full disk, or without a reader."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback


def open_closed_streams() -> None:
    """Open /dev/null for each standard stream that is closed, as in `herd master >&-`.

    Otherwise the next socket would get the number of a standard stream, and prints would go to a server. Call this
    before anything is opened.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def flush_output() -> None:
    """Raise OSError if buffered output cannot be written. A task may have closed or replaced the stream."""
    with contextlib.suppress(ValueError, AttributeError):
        sys.stdout.flush()


def is_from_output(error: OSError) -> bool:
    """Tell whether printing raised the error: `flush_output`, or click, which prints everything else."""
    frames = [frame for frame, _line in traceback.walk_tb(error.__traceback__)]
    module = frames[-1].f_globals.get("__name__", "") if frames else ""
    return module == __name__ or module.partition(".")[0] == "click"


def discard_output() -> None:
    """Redirect the streams that fail to /dev/null, so that the interpreter's last flush does not raise again."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
            continue
        with contextlib.suppress(OSError, ValueError):
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, stream.fileno())
            os.close(devnull)
