"""Checks of the arguments that tests pass to this package, with one clear error each."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["check_count", "check_port", "check_seconds", "check_session"]

_HIGHEST_PORT: Final = 65_535


def check_count(name: str, value: object, least: int) -> int:
    """Return the number. Raises TypeError, or ValueError below `least`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}: it takes a whole number from {least}")
    if value < least:
        raise ValueError(f"{name} is {value}: it takes a whole number from {least}")
    return value


def check_port(value: object) -> int:
    """Return the port. Raises TypeError, ValueError."""
    takes = f"it takes a number from 1 to {_HIGHEST_PORT}, or 0 for a free one"
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"port is {value!r}: {takes}")
    if not 0 <= value <= _HIGHEST_PORT:
        raise ValueError(f"port is {value}: {takes}")
    return value


def check_seconds(name: str, value: object) -> float:
    """Return the seconds. Raises TypeError, or ValueError for a negative or infinite number."""
    takes = "it takes a number of seconds from 0"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}: {takes}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value}: {takes}")
    return value


def check_session(value: object) -> int:
    """Return the session id. Raises TypeError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a session id: pass an integer, such as `worker_sessions` returns")
    return value
