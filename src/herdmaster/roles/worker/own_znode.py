"""The worker's own znode: the worker writes its record there, and an operator a request into that record."""

from __future__ import annotations

import asyncio

from herdmaster.core import layout
from herdmaster.core.members import decode_worker
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat, WatchEvent
from herdmaster.zookeeper.recipes.ownership import wait_unless_over


class OwnZnode:
    """The znode of a worker in one session. All writes name the version that was last read, so that a worker does not
    overwrite a request that it has not read yet."""

    def __init__(self, client: Client, worker: str) -> None:
        self._client = client
        self._path = layout.worker_path(worker)
        self._version = 0

    async def wait_request(self, known: str) -> str | None:
        """Wait for a request other than `known`, and return it. Return None when the znode does not belong to this
        session any more. Raises SessionExpired."""
        while True:
            changed = asyncio.Event()

            def handle(_event: WatchEvent, changed: asyncio.Event = changed) -> None:
                changed.set()

            try:
                data, stat = await self._client.get(self._path, handle)
            except errors.NoNode:
                return None
            if stat.ephemeral_owner != self._client.session_id:
                return None
            self._version = stat.version
            record = decode_worker(data)
            if record is not None and record.request not in (known, None):
                return record.request
            await wait_unless_over(self._client, changed)

    async def write(self, data: bytes) -> Stat | None:
        """Write the record. Return None if it was changed meanwhile, or is gone, or the reply was lost: `wait_request`
        then reads what is there. Raises SessionExpired."""
        try:
            stat = await self._client.set(self._path, data, self._version)
        except (errors.BadVersion, errors.NoNode, errors.ConnectionLoss):
            return None
        self._version = stat.version
        return stat
