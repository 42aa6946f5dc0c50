"""Ephemerals of a session: claim one, and wait until it is gone.

The owner of a znode is its `ephemeral_owner`, whatever its data says.
"""

from __future__ import annotations

import asyncio

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import CreateMode, WatchEvent


async def claim(client: Client, path: str, data: bytes) -> bool:
    """Create the ephemeral. Return True if it belongs to this session now, False if it belongs to another.

    Raises SessionExpired when the session is over.
    """
    while True:
        try:
            await client.create(path, data, mode=CreateMode.EPHEMERAL)
        except (errors.NodeExists, errors.ConnectionLoss):
            # An earlier request of this session may have created it, if only the reply was lost.
            stat = await client.exists(path)
            if stat is not None:
                return stat.ephemeral_owner == client.session_id
        else:
            return True


async def wait_while(client: Client, path: str, *, owned: bool) -> None:
    """Wait while the znode exists and does (`owned`) or does not belong to this session.

    Raises SessionExpired when the session is over.
    """
    while True:
        changed = asyncio.Event()

        def handle(_event: WatchEvent, changed: asyncio.Event = changed) -> None:
            changed.set()

        stat = await client.exists(path, handle)
        if stat is None or (stat.ephemeral_owner == client.session_id) is not owned:
            return
        await wait_unless_over(client, changed)


async def wait_unless_over(client: Client, event: asyncio.Event) -> None:
    """Wait for the event. Raises SessionExpired if the session ends first."""
    over = asyncio.Event()

    def listen(_state: object = None) -> None:
        if client.state.is_final:
            over.set()

    client.add_listener(listen)
    listen()
    waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(over.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        client.remove_listener(listen)
        for wait in waits:
            wait.cancel()
    if not event.is_set():
        raise errors.SessionExpired("the session ended")
