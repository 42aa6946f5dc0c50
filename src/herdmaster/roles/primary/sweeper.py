"""The sweeper: deletes old outcomes, flows and dead tasks, keys of lost tasks, and journals of lost clients.

The primary sweeps; under a reference primary, the oldest of our masters. An age is the difference between the times of
a znode and of one just written, so both are by the servers' clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.names import parse_client_name, parse_task_name
from herdmaster.core.outcome import KEPT_SECONDS
from herdmaster.roles.primary.flow_sweep import FlowSweep
from herdmaster.roles.primary.history_sweep import HistorySweep
from herdmaster.roles.primary.key_sweep import KeySweep
from herdmaster.roles.primary.outcome_sweep import OutcomeSweep
from herdmaster.roles.primary.stand_in import StandIn, Standing
from herdmaster.roles.primary.waiter_sweep import WaiterSweep
from herdmaster.roles.shared.bootstrap import restore_folders
from herdmaster.roles.shared.lacked_rights import LackedRights
from herdmaster.roles.shared.server_clock import ServerClock
from herdmaster.roles.shared.stats import read_stats
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

_DAY: Final = 24 * 3600.0
_AT_ONCE: Final = 200
_MIN_INTERVAL: Final = 0.2
_MAX_INTERVAL: Final = 600.0
"""Seconds between two sweeps of keys, at most; between two rounds, at most a tenth of it."""

_log = logging.getLogger("herdmaster.master")


class Ages(msgspec.Struct, frozen=True):
    """How long things are kept, in seconds; and how many bytes of the history.

    `linger` is for an outcome that was read and left to others, at most as long as `outcome`. Batches of the history
    are merged when they are `merged_after` old. Flows are kept as outcomes are, from their end on; `building` is for a
    flow whose client has not completed it.
    """

    outcome: float = KEPT_SECONDS
    dead: float = 30 * _DAY
    journal: float = _DAY
    history: float = _DAY
    history_size: int = 16 * 1024 * 1024
    linger: float = 60.0
    merged_after: float = 600.0
    building: float = 3600.0

    @property
    def interval(self) -> float:
        """Seconds between two rounds.

        So a thing stays at most about a tenth longer than its age, and an outcome with its own time to live at most a
        minute longer.
        """
        return min(
            max(min(self.outcome, self.dead, self.journal, self.building) / 10, _MIN_INTERVAL), _MAX_INTERVAL / 10
        )


class Sweeper:
    """Sweeps in rounds, for one session of a master."""

    def __init__(self, client: Client, stand_in: StandIn, server_clock: ServerClock, ages: Ages) -> None:
        self._client = client
        self._stand_in = stand_in
        self._server_clock = server_clock
        self._ages = ages
        self._outcomes = OutcomeSweep(client, ages.outcome)
        self._waiters = WaiterSweep(client, self._outcomes.take_away, min(ages.linger, ages.outcome))
        self._history = HistorySweep(client, ages.history, ages.history_size, ages.merged_after)
        self._flows = FlowSweep(client, ages.outcome, ages.building)
        self._died: dict[str, int] = {}
        self._keys = KeySweep(client)
        self._next_keys = 0
        self._lacked = LackedRights()
        self._orphaned: dict[str, tuple[int, int]] = {}  # client: (its mark, first seen so)

    async def run(self) -> None:
        """Sweep until the session is over. Raises SessionExpired then."""
        while True:
            await self._sleep()
            try:
                if await self._stand_in.look() is not Standing.BACKUP:
                    await restore_folders(self._client)
                    await self._round()
            except errors.NoNode:
                continue  # this master's own znode is gone, say, which ends its session
            except errors.ServerError as error:
                self._tell(error)
            except errors.ConnectionLoss:
                continue  # the next round sees what was applied

    async def _round(self) -> None:
        now = await self._server_clock.read()
        sweeps: list[Callable[[], Awaitable[None]]] = [
            partial(self._outcomes.sweep, now),
            partial(self._waiters.sweep, now),
            partial(self._flows.sweep, now),
            partial(self._sweep_dead, now - self._ages.dead * 1000),
            partial(self._sweep_journals, now),
            partial(self._history.sweep, now),
        ]
        if now >= self._next_keys:
            self._next_keys = now + int(min(10 * self._ages.interval, _MAX_INTERVAL) * 1000)
            sweeps.append(self._keys.sweep)
        for sweep in sweeps:
            try:
                await sweep()
            except errors.ServerError as error:  # the other folders are swept all the same
                self._tell(error)

    def _tell(self, error: errors.ServerError) -> None:
        if self._lacked.is_news(error):
            _log.warning("a round of sweeping was cut short: %s", error)

    async def _sleep(self) -> None:
        """Sleep until the next round, or until an outcome with a shorter time to live ends.

        Such an outcome hurries one round only: a master that is a backup by then, or is refused, would hurry for ever.
        """
        seconds = self._ages.interval
        end, self._outcomes.next_end = self._outcomes.next_end, None
        if end is not None:
            seconds = min(seconds, max((end - self._server_clock.estimate_ms()) / 1000, _MIN_INTERVAL))
        await asyncio.sleep(seconds)

    async def _sweep_dead(self, limit: float) -> None:
        """Delete old dead tasks.

        The time of each is read once and remembered, and read again before the delete: it may be another znode of the
        same name.
        """
        names = set(await self._client.children(layout.DEAD))
        for name in self._died.keys() - names:
            del self._died[name]
        unknown = sorted(name for name in names - self._died.keys() if parse_task_name(name) is not None)
        await self._read_times(unknown)
        outdated = [name for name, created in self._died.items() if created < limit]
        await self._read_times(outdated)
        for name in outdated:
            if self._died.get(name, limit) < limit:
                await self._delete(layout.dead_path(name))

    async def _read_times(self, names: list[str]) -> None:
        for start in range(0, len(names), _AT_ONCE):
            batch = names[start : start + _AT_ONCE]
            stats = await read_stats(self._client, map(layout.dead_path, batch))
            self._died.update((name, stat.ctime) for name, stat in zip(batch, stats, strict=True) if stat)

    async def _sweep_journals(self, now: int) -> None:
        """Delete old journals, each by its version: a client that came back meanwhile has written to it."""
        seen: dict[str, tuple[int, int]] = {}
        names = [name for name in await self._client.children(layout.CLIENTS) if parse_client_name(name) is not None]
        for start in range(0, len(names), _AT_ONCE):
            batch = names[start : start + _AT_ONCE]
            stats = await read_stats(self._client, map(layout.client_path, batch))
            orphaned = {
                name: stat
                for name, stat in zip(batch, stats, strict=True)
                if stat is not None and not stat.num_children
            }
            # The round may have stood still between its beginning and this reading.
            is_known = all(self._mark_known(name) == _mark_of(stat) for name, stat in orphaned.items())
            read_at = now if is_known else await self._server_clock.read()
            for name, stat in orphaned.items():
                seen[name] = self._first_seen(name, stat, read_at)
                if now - seen[name][1] >= self._ages.journal * 1000:
                    await self._delete(layout.client_path(name), stat.version)
        self._orphaned = seen

    def _mark_known(self, name: str) -> int | None:
        known = self._orphaned.get(name)
        return None if known is None else known[0]

    def _first_seen(self, name: str, stat: Stat, now: int) -> tuple[int, int]:
        mark = _mark_of(stat)
        return self._orphaned[name] if self._mark_known(name) == mark else (mark, now)

    async def _delete(self, path: str, version: int = -1) -> None:
        try:
            await self._client.delete(path, version)
        except (errors.NoNode, errors.BadVersion, errors.NotEmpty):
            return
        _log.debug("deleted %s", path)


def _mark_of(stat: Stat) -> int:
    """Return a number that any sign of life changes: a new session, or a batch."""
    return stat.version + stat.cversion
