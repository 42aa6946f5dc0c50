"""File descriptors: how many this process may have, and how many it has."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

RESERVE: Final = 16
"""Descriptors that stay free for the journal and other files of the process: no connection gets one of these."""

_FOLDERS: Final = ("/proc/self/fd", "/dev/fd")


def limit() -> int:
    """Return how many this process may have, by its soft limit; -1 if there is no limit."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def is_reserved(descriptor: int) -> bool:
    """Return whether a descriptor that was just opened is one of the last. The system gives the lowest that is free."""
    most = limit()
    return most != resource.RLIM_INFINITY and descriptor >= most - RESERVE


def count_open() -> int:
    """Return how many are open; the limit if none is left to look with, 0 if the system does not tell."""
    for folder in _FOLDERS:
        if Path(folder).is_dir():
            try:
                return sum(1 for _ in Path(folder).iterdir()) - 1  # without the one of the listing
            except OSError:
                return limit()
    return 0


def raise_limit() -> None:
    """Raise the soft limit to the hard one, if the system allows it. For processes of the server alone: a limit of
    1,024 may be meant for code that uses `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # macOS reports no hard limit and allows fewer
        return
