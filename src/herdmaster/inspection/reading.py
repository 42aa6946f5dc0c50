"""Reads for listings, where a znode that is gone counts as absent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Node
from herdmaster.zookeeper.model import Stat

_AT_ONCE: Final = 200


class Unreadable:
    """The znodes that listings left out because ZooKeeper refused to show them, for example for an ACL."""

    def __init__(self) -> None:
        self._errors: dict[str, errors.ServerError] = {}

    def __len__(self) -> int:
        return len(self._errors)

    def __str__(self) -> str:
        """Return for people how many znodes were left out, and why the first was."""
        first = next(iter(self._errors.values()), None)
        if first is None:
            return "nothing was left out"
        count = "1 znode was left out, because it cannot be read"
        if len(self) > 1:
            count = f"{len(self)} znodes were left out, because they cannot be read; the first"
        return f"{count}: {first}"

    def add(self, error: errors.ServerError) -> None:
        self._errors.setdefault(error.path, error)


def names_of(result: tuple[str, ...] | errors.ServerError) -> tuple[str, ...]:
    """Return the names in a folder; none if it is absent. Raises the error of a folder that cannot be read."""
    if isinstance(result, errors.NoNode):
        return ()
    if isinstance(result, errors.ServerError):
        raise result
    return result


class ListingReader:
    """Reads over one session. What cannot be read is added to `unreadable`. Methods raise SessionExpired."""

    def __init__(self, client: Client, unreadable: Unreadable | None = None) -> None:
        self._client = client
        self._unreadable = Unreadable() if unreadable is None else unreadable

    async def names(self, folder: str) -> tuple[str, ...]:
        """Return the children of a folder; none where it is absent or cannot be read."""
        try:
            return await self._client.children(folder)
        except errors.NoNode:
            return ()
        except errors.ServerError as error:
            self._unreadable.add(error)
            return ()

    async def count(self, folder: str) -> int:
        """Return the number of children; 0 where the folder is absent or cannot be read."""
        try:
            stat = await self._client.exists(folder)
        except errors.ServerError as error:
            self._unreadable.add(error)
            return 0
        return stat.num_children if stat is not None else 0

    async def stats(self, paths: Sequence[str]) -> list[Stat | errors.ServerError | None]:
        """Return for each path its stat, None if the znode is gone, or the error if it exists and cannot be read."""

        async def stat_of(path: str) -> Stat | errors.ServerError | None:
            try:
                return await self._client.exists(path)
            except errors.ServerError as error:
                return error

        return list(await asyncio.gather(*map(stat_of, paths)))

    async def nodes(self, paths: Sequence[str]) -> dict[str, Node]:
        """Return data and stat by path, without those that are gone or cannot be read."""
        found: dict[str, Node] = {}
        for start in range(0, len(paths), _AT_ONCE):
            some = paths[start : start + _AT_ONCE]
            for path, node in zip(some, await self._client.multi_read(some), strict=True):
                if isinstance(node, tuple):
                    found[path] = node
                elif not isinstance(node, errors.NoNode):
                    self._unreadable.add(node)
        return found
