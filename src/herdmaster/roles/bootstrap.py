"""What every role needs before it starts: the namespace and its folders."""

from __future__ import annotations

from herdmaster.core.layout import FOLDERS
from herdmaster.roles.system import System
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, ConnectString
from herdmaster.zookeeper.paths import Chroot


async def make_namespace(
    hosts: ConnectString, system: System, *, session_timeout: float, connect_timeout: float | None
) -> None:
    """Creates the chroot of a connect string, level by level. It takes a session of its own without the chroot.

    Raises NoServerReachable.
    """
    outside = ConnectString(hosts.addresses, Chroot())
    async with _client(outside, system, session_timeout, connect_timeout) as client:
        path = ""
        for segment in hosts.chroot.prefix.split("/")[1:]:
            path = f"{path}/{segment}"
            await _ensure(client, path)


async def make_folders(client: Client) -> None:
    """Creates the folders that are absent. Raises NoNode where the namespace itself is absent."""
    for folder in FOLDERS:
        await _ensure(client, folder)


async def _ensure(client: Client, path: str) -> None:
    while True:
        if await client.exists(path) is not None:
            return
        try:
            await client.create(path)
        except (errors.NodeExists, errors.ConnectionLoss):
            continue
        return


def _client(hosts: ConnectString, system: System, session_timeout: float, connect_timeout: float | None) -> Client:
    return Client(
        hosts, session_timeout=session_timeout, connect_timeout=connect_timeout, clock=system.clock, rng=system.rng
    )


async def open_client(
    hosts: ConnectString, system: System, *, session_timeout: float, connect_timeout: float | None
) -> Client:
    """A session in a namespace whose folders exist. Raises NoServerReachable, AuthenticationFailed."""
    client = _client(hosts, system, session_timeout, connect_timeout)
    await client.open()
    try:
        try:
            await make_folders(client)
        except errors.NoNode:
            await make_namespace(hosts, system, session_timeout=session_timeout, connect_timeout=connect_timeout)
            await make_folders(client)
    except BaseException:
        await client.close()
        raise
    return client
