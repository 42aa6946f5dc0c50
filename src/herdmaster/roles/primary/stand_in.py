"""Who does what a primary of ours does beside placing tasks: promoting, cancelling, sweeping.

A primary of the reference knows nothing of that. While one is in office the oldest of our masters does it.
"""

from __future__ import annotations

import asyncio
import enum

from herdmaster.core import layout
from herdmaster.core.members import decode_master
from herdmaster.roles.shared.stats import read_stats
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import WatchEvent
from herdmaster.zookeeper.recipes.ownership import wait_unless_over


class Standing(enum.Enum):
    PRIMARY = "primary"
    STAND_IN = "stand-in"  # the oldest of our masters, under a primary of the reference
    BACKUP = "backup"


class StandIn:
    """`record` is this master's own znode under `/masters`. All of it raises what reading raises."""

    def __init__(self, client: Client, record: str) -> None:
        self._client = client
        self._record = record
        self._changed = asyncio.Event()

    async def look(self) -> Standing:
        """BACKUP also while there is no primary."""
        try:
            data, stat = await self._client.get(layout.MASTER)
        except errors.NoNode:
            return Standing.BACKUP
        if stat.ephemeral_owner == self._client.session_id:
            return Standing.PRIMARY
        if decode_master(data) is not None:
            return Standing.BACKUP
        mine = await self._client.exists(self._record)
        others = await self._client.children(layout.MASTERS)
        stats = await read_stats(self._client, map(layout.master_record_path, others))
        alive = (stat for stat in stats if stat is not None and stat.ephemeral_owner)
        is_oldest = mine is not None and all(mine.czxid <= stat.czxid for stat in alive)
        return Standing.STAND_IN if is_oldest else Standing.BACKUP

    async def wait(self, *, wanted: bool) -> None:
        """Returns when this master stands in, or (`wanted` false) does so no longer. One waits at a time."""
        while True:
            self._changed.clear()
            await self._client.exists(layout.MASTER, self._handle)
            await self._client.children(layout.MASTERS, self._handle)
            if (await self.look() is Standing.STAND_IN) is wanted:
                return
            await wait_unless_over(self._client, self._changed)

    def _handle(self, _event: WatchEvent) -> None:
        self._changed.set()
