"""Takes away what has outlived its time: old statuses, dead tasks, and the journals of clients that are gone.

The primary does it; under a primary of the reference's, the oldest of our masters does. Ages compare a znode's time
with the time of a znode just written, so that it is the servers' clock on both sides.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from herdmaster.core import layout, transitions
from herdmaster.core.members import decode_master
from herdmaster.core.names import parse_client_name, parse_task_name
from herdmaster.roles.committer import Committer, Settlement
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

DAY: Final = 24 * 3600.0
_READ_AT_ONCE: Final = 200

_log = logging.getLogger("herdmaster.master")


class Ages(msgspec.Struct, frozen=True):
    """How long things are kept, in seconds."""

    outcome: float = DAY
    dead: float = 30 * DAY
    journal: float = DAY

    @property
    def interval(self) -> float:
        """Seconds between two rounds: a thing stays at most about a tenth longer than its time."""
        return min(max(min(self.outcome, self.dead, self.journal) / 10, 0.2), 600.0)


class Caretaker:
    """`record` is this master's own znode under `/masters`, whose writing tells the servers' time."""

    def __init__(self, client: Client, record: str, ages: Ages) -> None:
        self._client = client
        self._record = record
        self._ages = ages
        self._committer = Committer(client)
        self._created: dict[str, dict[str, int]] = {layout.STATUS: {}, layout.DEAD: {}}
        self._orphaned: dict[str, tuple[int, int]] = {}  # client: (its mark, first seen so)

    async def run(self) -> None:
        """Until the session is over: raises SessionExpired then."""
        while True:
            await asyncio.sleep(self._ages.interval)
            try:
                if await self._is_on_duty():
                    await self._round()
            except errors.ServerError as error:
                _log.warning("a round of clearing away was cut short: %s", error)
            except errors.ConnectionLoss:
                continue  # what was done was done; the next round sees

    async def _is_on_duty(self) -> bool:
        data, stat = await self._client.get(layout.MASTER)
        if stat.ephemeral_owner == self._client.session_id:
            return True
        if decode_master(data) is not None:
            return False
        mine = await self._client.exists(layout.master_record_path(self._record))
        others = await self._client.children(layout.MASTERS)
        stats = [await self._client.exists(layout.master_record_path(name)) for name in others]
        return mine is not None and all(stat is None or mine.czxid <= stat.czxid for stat in stats)

    async def _round(self) -> None:
        path = layout.master_record_path(self._record)
        data, _ = await self._client.get(path)
        now = (await self._client.set(path, data)).mtime
        for task in await self._outdated(layout.STATUS, now - self._ages.outcome * 1000):
            self._committer.commit((transitions.expire(task),), self._expired)
        for task in await self._outdated(layout.DEAD, now - self._ages.dead * 1000):
            await self._delete(layout.dead_path(task))
        await self._sweep_journals(now)

    def _expired(self, settlement: Settlement) -> None:
        _log.debug("expired %s: %s", settlement.move.task, settlement.fate.value)

    async def _outdated(self, folder: str, limit: float) -> list[str]:
        """The tasks in the folder that were put there before `limit`. Each one's time is read once and remembered."""
        names = set(await self._client.children(folder))
        known = self._created[folder]
        for name in known.keys() - names:
            del known[name]
        unknown = sorted(name for name in names - known.keys() if parse_task_name(name) is not None)
        for start in range(0, len(unknown), _READ_AT_ONCE):
            batch = unknown[start : start + _READ_AT_ONCE]
            stats = await asyncio.gather(*(self._client.exists(f"{folder}/{name}") for name in batch))
            known.update((name, stat.ctime) for name, stat in zip(batch, stats, strict=True) if stat is not None)
        return [name for name, created in known.items() if created < limit]

    async def _sweep_journals(self, now: int) -> None:
        """Deletes a journal by its version: a client that came back meanwhile has written to it."""
        seen: dict[str, tuple[int, int]] = {}
        for name in await self._client.children(layout.CLIENTS):
            if parse_client_name(name) is None:
                continue
            stat = await self._client.exists(layout.client_path(name))
            if stat is None or stat.num_children > 0:
                continue
            seen[name] = self._first_seen(name, stat, now)
            if now - seen[name][1] >= self._ages.journal * 1000:
                await self._delete(layout.client_path(name), stat.version)
        self._orphaned = seen

    def _first_seen(self, name: str, stat: Stat, now: int) -> tuple[int, int]:
        # Any sign of life since, a new session or a batch, changes one of the two.
        mark = stat.version + stat.cversion
        known = self._orphaned.get(name)
        return known if known is not None and known[0] == mark else (mark, now)

    async def _delete(self, path: str, version: int = -1) -> None:
        try:
            await self._client.delete(path, version)
        except (errors.NoNode, errors.BadVersion, errors.NotEmpty):
            return
        _log.debug("deleted %s", path)
