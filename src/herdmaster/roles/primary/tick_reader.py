"""Reads ticks together with their schedules, many in one request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.layout import TickName
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Node

_AT_ONCE: Final = 32
"""Schedules in one request; each has at most 128 KiB."""


class TickRead(msgspec.Struct, frozen=True):
    """What was read. `schedule` and `tick` are None where there is no such znode; `error` if they cannot be read."""

    schedule: Node | None = None
    tick: Node | None = None
    error: Exception | None = None


Read = Callable[[str, TickName, TickRead], None]


class TickReader:
    """The reads of a master over one session."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def read(self, wanted: Sequence[tuple[str, TickName]], read: Read) -> None:
        """Read ticks, given by the names of their znodes. `read` is called once for each. A schedule is read before its
        tick. Raises the session's final error."""
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            paths = [path for name, tick in some for path in _paths(name, tick)]
            self._client.multi_read_nowait(paths, partial(_done, some, read))


def _paths(name: str, tick: TickName) -> tuple[str, str]:
    return layout.schedule_path(tick.schedule), f"{layout.TICKS}/{name}"


def _done(
    some: Sequence[tuple[str, TickName]],
    read: Read,
    results: list[Node | errors.ServerError] | None,
    error: Exception | None,
) -> None:
    if results is None:
        for name, tick in some:
            read(name, tick, TickRead(error=error or errors.SessionExpired("the session ended")))
        return
    for (name, tick), schedule, data in zip(some, results[::2], results[1::2], strict=True):
        read(name, tick, _pair(schedule, data))


def _pair(schedule: Node | errors.ServerError, tick: Node | errors.ServerError) -> TickRead:
    for each in (schedule, tick):
        if isinstance(each, errors.ServerError) and not isinstance(each, errors.NoNode):
            return TickRead(error=each)
    return TickRead(
        schedule if isinstance(schedule, tuple) else None,
        tick if isinstance(tick, tuple) else None,
    )
