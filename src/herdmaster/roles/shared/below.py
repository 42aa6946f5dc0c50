"""Deletes znodes that other programs put below a znode of the protocol, which cannot be deleted before.

A Java worker whose connection broke creates its status a second time as `/status/TASK/status`, and one level deeper
with each further break.
"""

from __future__ import annotations

from typing import Final

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.paths import join

_MAX_DEPTH: Final = 16


async def delete_below(client: Client, path: str, depth: int = _MAX_DEPTH) -> int:
    """Delete the descendants of a znode, as far as permitted. Return how many were deleted. Raises SessionExpired and
    ConnectionLoss."""
    try:
        names = await client.children(path) if depth else ()
    except (errors.NoNode, errors.NoAuth):
        return 0
    count = 0
    for name in names:
        child = join(path, name)
        count += await delete_below(client, child, depth - 1)
        try:
            await client.delete(child)
        except (errors.NoNode, errors.NoAuth, errors.NotEmpty):
            continue
        count += 1
    return count
