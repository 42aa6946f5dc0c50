"""Membership: a session announces itself with an ephemeral znode and learns if that vanishes."""

from __future__ import annotations

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.recipes.ownership import claim, wait_while


async def join_group(client: Client, path: str, data: bytes) -> None:
    """Creates the ephemeral `path`. Raises NodeExists where another session owns it."""
    if not await claim(client, path, data):
        raise errors.NodeExists(path)


async def wait_member_lost(client: Client, path: str) -> None:
    """Returns when this session's own ephemeral is gone although the session lives.

    Raises SessionExpired when the session is over.
    """
    await wait_while(client, path, owned=True)
