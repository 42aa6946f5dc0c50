"""Deletes outcomes that were read and left to other waiters, and the folders of waiters that are gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from herdmaster.core import layout
from herdmaster.core.names import has_outcome
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

_AT_ONCE: Final = 200


class WaiterSweep:
    """Sweeps `/waiters`. `take_away` deletes the statuses of the tasks that it is given, if they are there.

    `linger`: how many seconds an outcome stays that was read. A submitter that lost its connection just then reads it
    when it is back.
    """

    def __init__(self, client: Client, take_away: Callable[[list[str]], Awaitable[None]], linger: float) -> None:
        self._client = client
        self._take_away = take_away
        self._linger_ms = linger * 1000

    async def sweep(self, now_ms: int) -> None:
        """Delete what no waiter needs. Raises what reading raises."""
        try:
            names = sorted(await self._client.children(layout.WAITERS))
        except errors.NoNode:
            return  # a namespace that only older programs have used
        names = list(filter(has_outcome, names))
        for start in range(0, len(names), _AT_ONCE):
            await self._sweep(names[start : start + _AT_ONCE], now_ms)

    async def _sweep(self, names: list[str], now_ms: int) -> None:
        replies = await self._client.multi_read(map(layout.waiters_path, names))
        over: dict[str, int] = {}
        read: list[str] = []
        for name, reply in zip(names, replies, strict=True):
            if isinstance(reply, errors.ServerError):
                continue
            data, stat = reply
            if stat.num_children == 0 and stat.mtime + self._linger_ms <= now_ms:
                over[name] = stat.version
                if data == layout.WAS_READ:
                    read.append(name)
        if read:
            await self._take_away(read)
        await asyncio.gather(*(self._delete(name, version) for name, version in over.items()))

    async def _delete(self, name: str, version: int) -> None:
        with contextlib.suppress(errors.NoNode, errors.BadVersion, errors.NotEmpty):  # another client waits by now
            await self._client.delete(layout.waiters_path(name), version)
