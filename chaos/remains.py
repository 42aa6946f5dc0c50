"""Looks at a namespace from outside: who is there, and what should not be."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.members import decode_master
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.paths import join

_EMPTY_AT_REST: Final = (layout.TASKS, layout.DELAYED, layout.STATUS, layout.CANCEL, layout.KEYS, layout.DEAD)


class Scene(msgspec.Struct, frozen=True):
    """What one server shows. `left` are paths. `orphaned_journals` belong to clients that were killed; they are swept a
    day later. `empty_inboxes` belong to no worker; a primary that did not know their workers waits for a minute with
    them, as a reference worker makes its inbox before it registers.
    """

    primary_pid: int | None
    masters: int
    workers: int
    left: tuple[str, ...]
    orphaned_journals: int
    empty_inboxes: int


async def look(client: Client) -> Scene:
    """One look, over a session of the caller's. Raises what reading raises."""
    await client.sync()
    left = [join(folder, name) for folder in _EMPTY_AT_REST for name in await _children(client, folder)]
    left = [path for path in left if not await _is_to_be_swept(client, path)]
    workers = set(await _children(client, layout.WORKERS))
    empty = 0
    for inbox in await _children(client, layout.ASSIGN):
        path = layout.inbox_path(inbox)
        tasks = await _children(client, path)
        left += [join(path, task) for task in tasks]
        empty += inbox not in workers and not tasks
    orphans = 0
    for name in await _children(client, layout.CLIENTS):
        if await _children(client, layout.client_path(name)):
            left.append(layout.client_path(name))
        else:
            orphans += 1
    masters = await _children(client, layout.MASTERS)
    return Scene(await _primary(client), len(masters), len(workers), tuple(left), orphans, empty)


async def _is_to_be_swept(client: Client, path: str) -> bool:
    """Whether it is an outcome that was read by name: such a one stays for a minute."""
    folder, _, name = path.rpartition("/")
    if folder != layout.STATUS:
        return False
    try:
        return (await client.get(layout.waiters_path(name)))[0] == layout.WAS_READ
    except errors.NoNode:
        return False


async def _children(client: Client, path: str) -> tuple[str, ...]:
    try:
        return await client.children(path)
    except errors.NoNode:
        return ()


async def _primary(client: Client) -> int | None:
    try:
        data, _ = await client.get(layout.MASTER)
    except errors.NoNode:
        return None
    record = decode_master(data)
    return None if record is None else record.pid


class Lookout:
    """Looks over a session for each look, so that no fault of the servers outlives it."""

    def __init__(self, servers: Sequence[str]) -> None:
        """`servers` are the connect strings of each alone, with the namespace."""
        self._servers = tuple(servers)

    def look(self) -> Scene | None:
        """As some server shows it; None when none does."""
        return next((scene for scene in self.look_everywhere() if scene is not None), None)

    def look_everywhere(self) -> list[Scene | None]:
        """As each server shows it, None for one that does not."""
        return asyncio.run(self._look_everywhere())

    async def _look_everywhere(self) -> list[Scene | None]:
        return await asyncio.gather(*map(_look_at, self._servers))


async def _look_at(server: str) -> Scene | None:
    try:
        async with asyncio.timeout(5.0), Client(server, session_timeout=4.0, connect_timeout=1.0) as client:
            return await look(client)
    except (errors.ZooKeeperError, TimeoutError):
        return None


def remains(scenes: Sequence[Scene | None], clients_killed: int) -> tuple[str, ...]:
    """What is left behind as most of the servers show it."""
    shown = Counter(path for scene in scenes if scene is not None for path in scene.left)
    left = sorted(path for path, count in shown.items() if count > len(scenes) // 2)
    if sum(scene.orphaned_journals > clients_killed for scene in scenes if scene is not None) > len(scenes) // 2:
        left.append("the journal of a client that was not killed")
    return tuple(left)


def diverging(scenes: Sequence[Scene | None]) -> dict[int, tuple[str, ...]]:
    """The servers, from 0, that show what no other does, and what that is."""
    shown = Counter(path for scene in scenes if scene is not None for path in scene.left)
    alone = {
        number: tuple(path for path in scene.left if shown[path] == 1)
        for number, scene in enumerate(scenes)
        if scene is not None
    }
    return {number: paths for number, paths in alone.items() if paths}
