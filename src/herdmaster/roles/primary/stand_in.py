"""Standing in: promoting, cancelling and sweeping under a reference primary, which knows nothing of these.

While a reference program is primary, the oldest of our masters does them.
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
    STAND_IN = "stand-in"  # the oldest of our masters, under a reference primary
    BACKUP = "backup"


class StandIn:
    """Whether a master has to stand in. `record` is its own znode under `/masters`.

    Every method raises what reading raises.
    """

    def __init__(self, client: Client, record: str) -> None:
        self._client = client
        self._record = record
        self._changed = asyncio.Event()

    async def look(self) -> Standing:
        """Return the standing of this master: BACKUP also while there is no primary."""
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
        """Wait until this master stands in or, where `wanted` is false, no longer does. One caller at a time.

        The watches are armed before the look, so no change is missed in between.
        """
        while True:
            self._changed.clear()
            await self._client.exists(layout.MASTER, self._handle)
            await self._client.children(layout.MASTERS, self._handle)
            if (await self.look() is Standing.STAND_IN) is wanted:
                return
            await wait_unless_over(self._client, self._changed)

    def _handle(self, _event: WatchEvent) -> None:
        self._changed.set()
