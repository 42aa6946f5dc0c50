"""Restores standard output and standard error of a task process after each task.

A task may close them, as code that daemonizes does. What the next task prints would then fail, or end up in the first
file that it opens, because that gets the number of the closed one.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import NamedTuple

from herdmaster import forks


class _Kept(NamedTuple):
    name: str
    number: int
    copy: int
    identity: tuple[int, int]
    encoding: str
    errors: str | None
    by_lines: bool


class Streams:
    """The standard streams that this process had when the object was made."""

    def __init__(self) -> None:
        self._kept = [kept for kept in (_keep("stdout", 1), _keep("stderr", 2)) if kept is not None]

    def restore(self) -> None:
        for kept in self._kept:
            with contextlib.suppress(OSError):  # without a copy they stay as they are
                if _identity(kept.number) != kept.identity:
                    os.dup2(kept.copy, kept.number)
                stream = getattr(sys, kept.name, None)
                if stream is None or getattr(stream, "closed", False):
                    setattr(sys, kept.name, _open(kept))


def _keep(name: str, number: int) -> _Kept | None:
    identity, stream = _identity(number), getattr(sys, name, None)
    if identity is None or not isinstance(stream, io.TextIOWrapper):
        return None
    copy = os.dup(number)
    forks.add_fd(copy)  # processes that a task leaves behind must not hold it
    return _Kept(name, number, copy, identity, stream.encoding, stream.errors, stream.line_buffering)


def _open(kept: _Kept) -> io.TextIOWrapper:
    raw = open(kept.number, "wb", closefd=False)  # noqa: SIM115 - the process's own
    return io.TextIOWrapper(raw, kept.encoding, kept.errors, line_buffering=kept.by_lines)


def _identity(number: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino
