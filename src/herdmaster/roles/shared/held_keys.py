"""Which tasks hold which keys, read from their holds."""

from __future__ import annotations

from collections.abc import Sequence

from herdmaster.core import layout
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

HoldReply = tuple[bytes | None, Stat] | errors.ServerError


async def read_holds(client: Client, holders: Sequence[tuple[str, str]]) -> list[HoldReply | None]:
    """Of each key, by its hash, with a task: the reply for the hold of that task; None where the task does not hold the
    key. Raises what reading raises.

    A hold is read before its key. The two come and go together, so where the key is still there, its hold would be.
    """
    paths = (path for key, task in holders for path in (layout.hold_path(key, task), layout.key_path(key)))
    replies = await client.multi_read(paths)
    return [
        hold if not isinstance(key, errors.ServerError) and key[0] == task.encode() else None
        for (_, task), hold, key in zip(holders, replies[::2], replies[1::2], strict=True)
    ]
