"""Stats of many znodes, some of which may be hidden."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat


async def read_stats(client: Client, paths: Iterable[str]) -> list[Stat | None]:
    """Return the stats; None for a znode that is gone, or that the server does not show: from 3.9.2 on ZooKeeper checks
    the permission to read here. Raises SessionExpired and ConnectionLoss."""
    return await asyncio.gather(*(_read(client, path) for path in paths))


async def _read(client: Client, path: str) -> Stat | None:
    try:
        return await client.exists(path)
    except errors.NoAuth:
        return None
