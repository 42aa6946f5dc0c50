"""Reads many records of a flow, whose sizes are only known when they are there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Node

_FIRST: Final = 16
_MOST: Final = 250
_BYTES: Final = 1024 * 1024
"""About the size of a reply."""


async def read_records(client: Client, paths: Sequence[str]) -> AsyncIterator[tuple[str, Node]]:
    """Yield those that exist and can be read. The number in a request follows the size of those before."""
    start, at_once = 0, _FIRST
    while start < len(paths):
        some = paths[start : start + at_once]
        start += len(some)
        size = 1
        for path, reply in zip(some, await client.multi_read(some), strict=True):
            if isinstance(reply, errors.ServerError):
                continue
            size += len(reply[0] or b"")
            yield path, reply
        at_once = max(1, min(_MOST, 2 * at_once, _BYTES * len(some) // size))
