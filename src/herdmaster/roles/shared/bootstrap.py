"""Creates what every role needs before it starts: the namespace and its folders. Where the namespace has an access
policy, both exist, and only a master may create a folder that was deleted."""

from __future__ import annotations

import logging
from functools import partial

from herdmaster.core.layout import FOLDERS
from herdmaster.roles.shared.access import Access
from herdmaster.roles.shared.system import System
from herdmaster.roles.shared.until_certain import until_certain
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, ConnectString, Predecessors
from herdmaster.zookeeper.paths import Chroot

_log = logging.getLogger("herdmaster")
_connecting = logging.getLogger("herdmaster.connecting")  # the command line shows these lines in a place of their own


async def make_namespace(
    hosts: ConnectString, system: System, *, session_timeout: float, connect_timeout: float | None
) -> None:
    """Create the chroot of a connect string, level by level, over a session without the chroot.

    Raises NoServerReachable.
    """
    outside = ConnectString(hosts.addresses, Chroot())
    async with _client(outside, system, session_timeout, connect_timeout) as client:
        path = ""
        for segment in hosts.chroot.prefix.split("/")[1:]:
            path = f"{path}/{segment}"
            await _ensure(client, path)


async def make_folders(client: Client) -> list[str]:
    """Create the folders that are absent, as far as permitted, and return them. Raises NoNode if the namespace itself
    is absent."""
    present = await _present(client)
    return [folder for folder in FOLDERS if folder not in present and await _ensure(client, folder)]


async def _present(client: Client) -> set[str]:
    """Return the names in the namespace with one request: the sweeping master asks in every round."""
    try:
        return {f"/{name}" for name in await client.children("/")}
    except errors.NoAuth:
        return set()


async def restore_folders(client: Client) -> None:
    """Create the folders that were deleted while roles work, and log which. Raises as `make_folders`."""
    there = {f"/{name}" for name in await client.children("/")}
    if there.issuperset(FOLDERS):
        return
    made = await make_folders(client)
    if made:
        _log.warning("recreated %s, which had been deleted", ", ".join(made))


async def _ensure(client: Client, path: str) -> bool:
    """Create a znode unless it exists. Return whether this call created it."""
    if await client.exists(path) is not None:
        return False
    try:
        await until_certain(partial(client.create, path))
    except errors.NodeExists:
        return False
    except errors.NoAuth as error:
        if client.default_acls is None:
            raise
        _log.debug("a master has to create the folder: %s", error)
        return False
    return True


def _client(
    hosts: ConnectString,
    system: System,
    session_timeout: float,
    connect_timeout: float | None,
    predecessors: Predecessors | None = None,
    *,
    says_late: bool = True,
) -> Client:
    return Client(
        hosts,
        session_timeout=session_timeout,
        connect_timeout=connect_timeout,
        security=system.security,
        clock=system.clock,
        rng=system.rng,
        predecessors=predecessors,
        says_late=says_late,
        measure=system.instruments.measure_requests,
    )


def _servers(hosts: ConnectString) -> str:
    return ",".join(map(str, hosts.addresses))


async def open_client(
    hosts: ConnectString,
    system: System,
    *,
    session_timeout: float,
    connect_timeout: float | None,
    predecessors: Predecessors | None = None,
    says_late: bool = True,
    is_founder: bool = False,
    access: Access | None = None,
) -> Client:
    """Open a session in a namespace whose folders exist; it closes its predecessors. If the namespace has to be
    created, that is logged, as a warning unless the caller `is_founder`: its name may be a mistake. Raises
    NoServerReachable, AuthenticationFailed, and NoAuth and BadPolicy as `read_policy`."""
    client = _client(hosts, system, session_timeout, connect_timeout, predecessors, says_late=says_late)
    await client.open()
    try:
        await (access or Access()).begin(client)
        try:
            await make_folders(client)
        except errors.NoNode:
            _connecting.log(
                logging.INFO if is_founder else logging.WARNING,
                "namespace %s does not exist yet: it is created on %s", hosts.chroot.prefix, _servers(hosts),
            )  # fmt: skip
            await make_namespace(hosts, system, session_timeout=session_timeout, connect_timeout=connect_timeout)
            await client.sync()  # the namespace was made through another session, maybe on another server
            await make_folders(client)
    except BaseException:
        await client.close()
        raise
    return client
