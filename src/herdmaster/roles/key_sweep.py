"""Takes away uniqueness keys whose tasks are nowhere, which nobody else would ever delete."""

from __future__ import annotations

import contextlib
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.keys import is_key_hash
from herdmaster.core.names import parse_task_name
from herdmaster.roles.whereabouts import find_missing
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

_AT_ONCE: Final = 200


class _Key(msgspec.Struct, frozen=True):
    hash: str
    data: bytes
    version: int

    @property
    def task(self) -> str:
        """Who holds it; what is no task's name is nowhere."""
        return self.data.decode("ascii", "replace")


class KeySweep:
    """A key whose task is nowhere is marked first, by writing to it what it holds. If its task is nowhere in the next
    round, too, it is deleted at the version that it has from its mark. So a key that another task got meanwhile stays.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._marked: dict[str, int] = {}  # in the round before: the versions since

    async def sweep(self) -> None:
        """One round. Raises what reading raises."""
        marked, self._marked = self._marked, {}
        for key in await self._find_stale():
            with contextlib.suppress(errors.NoNode, errors.BadVersion):
                path = layout.key_path(key.hash)
                if marked.get(key.hash) == key.version:
                    await self._client.delete(path, key.version)
                else:
                    self._marked[key.hash] = (await self._client.set(path, key.data, key.version)).version

    async def _find_stale(self) -> list[_Key]:
        keys: list[_Key] = []
        names = sorted(name for name in await self._client.children(layout.KEYS) if is_key_hash(name))
        for start in range(0, len(names), _AT_ONCE):
            batch = names[start : start + _AT_ONCE]
            replies = await self._client.multi_read(map(layout.key_path, batch))
            for name, reply in zip(batch, replies, strict=True):
                if not isinstance(reply, errors.ServerError):
                    data, stat = reply
                    keys.append(_Key(name, data or b"", stat.version))
        tasks = [key.task for key in keys if parse_task_name(key.task) is not None]
        alive = set(tasks).difference(await find_missing(self._client, tasks))
        return [key for key in keys if key.task not in alive]
