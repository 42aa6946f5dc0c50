"""Reads for a program what has ended in a time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from herdmaster.errors import ConfigurationError
from herdmaster.inspection.history import History, HistoryFilter, read_history, read_newest
from herdmaster.zookeeper.client import Client

Instant = float | timedelta | datetime
"""A point in the past: seconds or a timedelta before now, or a datetime with a time zone."""

_MOST_BEHIND_MS: Final = 24 * 3600 * 1000
"""A batch that is further in the future says nothing of this machine's clock."""


def ask_history(since: Instant, until: Instant, only: HistoryFilter) -> Callable[[Client], Awaitable[History]]:
    """Return the question for what ended from `since` to `until`. Raises ConfigurationError.

    Times before now count from the servers' time, if the newest batch shows that the clock of this machine is behind.
    """
    now = time.time_ns() // 1_000_000
    if _unix_ms("since", since, now) >= _unix_ms("until", until, now):
        raise ConfigurationError(f"since={since!r} is not before until={until!r}")

    async def ask(client: Client) -> History:
        latest = max(now, await read_newest(client, now + _MOST_BEHIND_MS))
        begins, ends = _unix_ms("since", since, latest), _unix_ms("until", until, latest)
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
