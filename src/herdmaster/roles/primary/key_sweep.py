"""Deletes uniqueness keys whose tasks are nowhere, and holds without a key: nothing else would ever delete them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.keys import is_key_hash, parse_hold_name
from herdmaster.core.names import parse_task_name
from herdmaster.inspection.missing import find_missing
from herdmaster.roles.shared.old_keys import free_old_key
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

_AT_ONCE: Final = 200


class _Key(msgspec.Struct, frozen=True):
    hash: str
    data: bytes
    version: int

    @property
    def task(self) -> str:
        """The data as text. A text that is not a task's name belongs to no task."""
        return self.data.decode("ascii", "replace")


class KeySweep:
    """Sweeps `/keys`: a key whose task is nowhere in two rounds, and a hold that has no key in two rounds.

    A key and its hold are deleted in one transaction, which is refused if the task does not hold the key any more.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._suspected: set[tuple[str, str]] = set()  # in the round before: hash and data
        self._keyless: set[tuple[str, str]] = set()  # holds of the round before, by hash and task

    async def sweep(self) -> None:
        """Sweep one round. Raises what reading raises."""
        names = await self._client.children(layout.KEYS)
        holds = {hold for name in names if (hold := parse_hold_name(name)) is not None}
        keys, unread = await self._read(sorted(name for name in names if is_key_hash(name)))
        suspected, self._suspected = self._suspected, set()
        for key in await self._find_stale(keys):
            if (key.hash, key.task) in suspected:
                await self._take_away(key, has_hold=(key.hash, key.task) in holds)
            else:
                self._suspected.add((key.hash, key.task))
        # The keys were read after the names. A task takes a key once, and its hold goes with the key. A hold that was
        # made to free a key has to stay for a while.
        keyless, self._keyless = self._keyless, holds - {(key.hash, key.task) for key in keys}
        for found, task in sorted(keyless & self._keyless):
            if found not in unread:
                with contextlib.suppress(errors.NoNode, errors.NotEmpty, errors.NoAuth):
                    await self._client.delete(layout.hold_path(found, task))

    async def _take_away(self, key: _Key, *, has_hold: bool) -> None:
        transaction = self._client.transaction()
        if has_hold:
            transaction.delete(layout.hold_path(key.hash, key.task))
            transaction.delete(layout.key_path(key.hash), key.version)
        else:
            free_old_key(transaction, key.hash, key.task)
        with contextlib.suppress(errors.TransactionFailed):
            await transaction.commit()

    async def _read(self, names: Sequence[str]) -> tuple[list[_Key], set[str]]:
        """Return the keys, and the hashes of those that may not be read."""
        keys: list[_Key] = []
        unread: set[str] = set()
        for start in range(0, len(names), _AT_ONCE):
            batch = names[start : start + _AT_ONCE]
            replies = await self._client.multi_read(map(layout.key_path, batch))
            for name, reply in zip(batch, replies, strict=True):
                if not isinstance(reply, errors.ServerError):
                    data, stat = reply
                    keys.append(_Key(name, data or b"", stat.version))
                elif not isinstance(reply, errors.NoNode):
                    unread.add(name)
        return keys, unread

    async def _find_stale(self, keys: list[_Key]) -> list[_Key]:
        tasks = [key.task for key in keys if parse_task_name(key.task) is not None]
        alive = set(tasks).difference(await find_missing(self._client, tasks))
        return [key for key in keys if key.task not in alive]
