"""Which tasks hold which keys, read from their holds."""

from __future__ import annotations

from collections.abc import Sequence

from herdmaster.core import layout
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

HoldReply = tuple[bytes | None, Stat] | errors.ServerError


async def read_holds(client: Client, holders: Sequence[tuple[str, str]]) -> list[HoldReply | None]:
    """Read the hold of each (key hash, task). Return by hash the reply for the hold; None if the task does not hold the
    key. Raises the errors of the reads.

    A hold is read before its key. The two are created and deleted together, so if the key still exists, its hold would.
    """
    paths = (path for key, task in holders for path in (layout.hold_path(key, task), layout.key_path(key)))
    replies = await client.multi_read(paths)
    return [
        hold if not isinstance(key, errors.ServerError) and key[0] == task.encode() else None
        for (_, task), hold, key in zip(holders, replies[::2], replies[1::2], strict=True)
    ]
