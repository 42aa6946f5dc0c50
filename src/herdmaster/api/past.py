"""Reads for a program what has ended in a time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from herdmaster.errors import ConfigurationError
from herdmaster.inspection.history import History, HistoryFilter, read_history
from herdmaster.zookeeper.client import Client

Instant = float | timedelta | datetime
"""A point in the past: seconds or a timedelta before now, or a datetime with a time zone."""


def ask_history(since: Instant, until: Instant, only: HistoryFilter) -> Callable[[Client], Awaitable[History]]:
    """Return the question for what ended from `since` to `until`. Raises ConfigurationError."""
    now = time.time_ns() // 1_000_000
    begins, ends = _unix_ms("since", since, now), _unix_ms("until", until, now)
    if begins >= ends:
        raise ConfigurationError(f"since={since!r} is not before until={until!r}")

    async def ask(client: Client) -> History:
        return await read_history(client, begins, ends, only)

    return ask


def _unix_ms(name: str, value: object, now: int) -> int:
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ConfigurationError(f"{name}={value!r} has no time zone: datetime.now(UTC) has one")
        return round(value.timestamp() * 1000)
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= now / 1000:
        raise ConfigurationError(
            f"{name}={value!r}: it takes the seconds or the timedelta before now, or a datetime with a time zone"
        )
    return now - round(seconds * 1000)
