"""Membership: a session announces itself with an ephemeral znode, and is told if that vanishes."""

from __future__ import annotations

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.recipes.ownership import claim, wait_while


async def join_group(client: Client, path: str, data: bytes) -> None:
    """Create the ephemeral `path`. Raises NodeExists if another session owns it."""
    if not await claim(client, path, data):
        raise errors.NodeExists(path)


async def wait_member_lost(client: Client, path: str) -> None:
    """Return when this session's ephemeral is gone although the session lives.

    Raises SessionExpired when the session is over.
    """
    await wait_while(client, path, owned=True)
