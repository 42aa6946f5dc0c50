"""Keeps the history small: deletes what is too old, and merges old batches where all together are too large.

ZooKeeper holds every znode in memory, so both limits matter. Merging goes minute by minute, oldest first, and drops the
records of failures; the numbers stay.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from herdmaster.core import layout
from herdmaster.core.history import Batch, batch_name, encode_batch, merge_batches, parse_batch_name, read_batch
from herdmaster.roles.shared.stats import read_stats
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

MERGED: Final = "m"
"""Begins the id of a merged batch; other ids are hexadecimal."""
_STATS_AT_ONCE: Final = 200
_READS_AT_ONCE: Final = 12
"""Batches of one reply: less than 1 MiB, or 12 MiB if other programs put large znodes there."""
_MINUTE_MS: Final = 60_000
_ROOM: Final = 0.9
"""The share of the limit that is left after a round that had to make room, so that not each round has to."""

_log = logging.getLogger("herdmaster.master")


class HistorySweep:
    """`age` in seconds, `size` in bytes of all batches together.

    Batches are merged when they are `merged_after` seconds old. A writer whose reply was lost writes its batch again
    under the same name, which is refused only as long as that is there.
    """

    def __init__(self, client: Client, age: float, size: int, merged_after: float = 600.0) -> None:
        self._client = client
        self._age_ms = age * 1000
        self._size = size
        self._merged_after_ms = int(merged_after * 1000)
        self._sizes: dict[str, int] = {}
        self._total = 0  # of the sizes
        self._written: dict[str, int] = {}  # unix milliseconds of the servers' clock

    async def sweep(self, now_ms: int) -> None:
        """Sweep at `now_ms` of the servers' time. Raises what reading raises.

        The age of a batch counts from when its znode was made, because the clock of its writer, which its name tells,
        may be wrong. The age of a merged batch counts from its name.
        """
        try:
            names = {name for name in await self._client.children(layout.HISTORY) if parse_batch_name(name) is not None}
        except errors.NoNode:
            return  # the next round makes the folder
        for name in self._sizes.keys() - names:
            self._forget(name)
        await self._learn(sorted(names - self._sizes.keys()))
        for name in [name for name, written in self._written.items() if written < now_ms - self._age_ms]:
            await self._delete(name)
        if self._total > self._size:
            try:
                await self._make_room(int(self._size * _ROOM), now_ms - self._merged_after_ms)
            except errors.TransactionFailed as error:
                # Another master sweeps too. The sizes are no longer what there is, so nothing may be deleted for them.
                _log.debug("batches of the history are not merged: %s", error)

    async def _learn(self, names: list[str]) -> None:
        for start in range(0, len(names), _STATS_AT_ONCE):
            batch = names[start : start + _STATS_AT_ONCE]
            stats = await read_stats(self._client, map(layout.history_path, batch))
            for name, stat in zip(batch, stats, strict=True):
                if stat is not None:
                    written = (parse_batch_name(name) or 0) if _is_merged(name) else stat.ctime
                    self._enter(name, stat.data_length, written)

    async def _make_room(self, limit: int, before_ms: int) -> None:
        """Merge batches that were written before `before_ms`, then delete the oldest. Raises TransactionFailed if a
        batch that is to be merged is gone."""
        for minute in _minutes(name for name, written in self._written.items() if written < before_ms):
            if self._total <= limit:
                return
            if len(minute) > 1 or not _is_merged(minute[0]):
                for start in range(0, len(minute), _READS_AT_ONCE):  # a later round merges these with each other
                    await self._merge(minute[start : start + _READS_AT_ONCE])
        for name in sorted(self._sizes):
            if self._total <= limit:
                return
            await self._delete(name)

    async def _merge(self, names: list[str]) -> None:
        replies = await self._client.multi_read(map(layout.history_path, names))
        batches: dict[str, Batch] = {}
        for name, reply in zip(names, replies, strict=True):
            if isinstance(reply, errors.NoNode):
                self._forget(name)
                continue
            batch = None if isinstance(reply, errors.ServerError) else read_batch(name, reply[0])
            if batch is not None:  # one of a later version stays as it is
                batches[name] = batch
        if not batches:
            return
        merged = merge_batches(batches.values())
        data = encode_batch(merged)
        name = batch_name(merged.ends, MERGED + hashlib.sha256("".join(batches).encode()).hexdigest()[:15])
        transaction = self._client.transaction()
        for each in batches:
            transaction.delete(layout.history_path(each))
        transaction.create(layout.history_path(name), data)
        await transaction.commit()
        for each in batches:
            self._forget(each)
        self._enter(name, len(data), merged.ends)

    async def _delete(self, name: str) -> None:
        with contextlib.suppress(errors.NoNode):
            await self._client.delete(layout.history_path(name))
        self._forget(name)

    def _enter(self, name: str, size: int, written: int) -> None:
        self._forget(name)
        self._sizes[name], self._written[name] = size, written
        self._total += size

    def _forget(self, name: str) -> None:
        self._total -= self._sizes.pop(name, 0)
        self._written.pop(name, None)


def _is_merged(name: str) -> bool:
    return name.partition("-")[2].startswith(MERGED)


def _minutes(names: Iterable[str]) -> list[list[str]]:
    """The names of each minute, oldest first."""
    return [
        list(group) for _, group in groupby(sorted(names), lambda name: (parse_batch_name(name) or 0) // _MINUTE_MS)
    ]
