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
_AT_ONCE: Final = 200

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
            except errors.NoNode:
                continue  # nobody is primary at the moment, or this master's own znode went, which ends its session
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
        stats = await asyncio.gather(*(self._client.exists(layout.master_record_path(name)) for name in others))
        alive = (stat for stat in stats if stat is not None and stat.ephemeral_owner)
        return mine is not None and all(mine.czxid <= stat.czxid for stat in alive)

    async def _round(self) -> None:
        path = layout.master_record_path(self._record)
        data, _ = await self._client.get(path)
        now = (await self._client.set(path, data)).mtime
        await self._sweep(layout.STATUS, now - self._ages.outcome * 1000)
        await self._sweep(layout.DEAD, now - self._ages.dead * 1000)
        await self._sweep_journals(now)

    async def _sweep(self, folder: str, limit: float) -> None:
        """Takes away the tasks in the folder that were put there before `limit`. Each one's time is read once and
        remembered, and read again before it goes: it may be another of the same name."""
        known = self._created[folder]
        names = set(await self._client.children(folder))
        for name in known.keys() - names:
            del known[name]
        unknown = sorted(name for name in names - known.keys() if parse_task_name(name) is not None)
        for start in range(0, len(unknown), _AT_ONCE):
            await self._read_times(folder, unknown[start : start + _AT_ONCE])
        outdated = [name for name, created in known.items() if created < limit]
        for start in range(0, len(outdated), _AT_ONCE):
            batch = outdated[start : start + _AT_ONCE]
            await self._read_times(folder, batch)
            await self._take_away(folder, [name for name in batch if known.get(name, limit) < limit])

    async def _read_times(self, folder: str, names: list[str]) -> None:
        stats = await asyncio.gather(*(self._client.exists(f"{folder}/{name}") for name in names))
        self._created[folder].update((name, stat.ctime) for name, stat in zip(names, stats, strict=True) if stat)

    async def _take_away(self, folder: str, names: list[str]) -> None:
        if folder == layout.DEAD:
            await asyncio.gather(*(self._delete(layout.dead_path(name)) for name in names))
            return
        settled: asyncio.Queue[Settlement] = asyncio.Queue()
        self._committer.commit(map(transitions.expire, names), settled.put_nowait)
        for _ in names:
            settlement = await settled.get()
            _log.debug("expired %s: %s", settlement.move.task, settlement.fate.value)

    async def _sweep_journals(self, now: int) -> None:
        """Deletes a journal by its version: a client that came back meanwhile has written to it."""
        seen: dict[str, tuple[int, int]] = {}
        names = [name for name in await self._client.children(layout.CLIENTS) if parse_client_name(name) is not None]
        for start in range(0, len(names), _AT_ONCE):
            batch = names[start : start + _AT_ONCE]
            stats = await asyncio.gather(*(self._client.exists(layout.client_path(name)) for name in batch))
            for name, stat in zip(batch, stats, strict=True):
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
