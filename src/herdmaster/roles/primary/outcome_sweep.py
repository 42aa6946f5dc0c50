"""Deletes outcomes whose time to live is over, each with the uniqueness key that its task holds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from herdmaster.core import layout, transitions
from herdmaster.core.keys import HeldKey, is_key_hash
from herdmaster.core.names import has_outcome, is_raw
from herdmaster.core.outcome import decode_outcome
from herdmaster.core.transitions import Move, Verdict
from herdmaster.errors import BadOutcome
from herdmaster.roles.shared.below import delete_below
from herdmaster.roles.shared.committer import Committer, Settlement
from herdmaster.roles.shared.held_keys import read_holds
from herdmaster.roles.shared.old_keys import free_old_key
from herdmaster.roles.shared.stats import read_stats
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

_AT_ONCE: Final = 200
_READ_BYTES: Final = 1024 * 1024

_log = logging.getLogger("herdmaster.master")


class _Kept(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of an outcome. `until`: when its time to live is over, in unix milliseconds. `stays`: it is
    kept for that time, however many clients have read it."""

    until: float
    key: str | None = None
    stays: bool = False


class OutcomeSweep:
    """Sweeps `/status`. `ttl`, in seconds, is for outcomes that name no time to live.

    An outcome is read when it is first seen, and again before it is deleted: it may be another of the same name.
    """

    def __init__(self, client: Client, ttl: float) -> None:
        self._client = client
        self._ttl = ttl
        self._committer = Committer(client)
        self._kept: dict[str, _Kept] = {}
        self.next_end: float | None = None  # when the first of those that stay is over, in unix milliseconds

    async def sweep(self, now_ms: int) -> None:
        """Delete what is over. Raises what reading raises."""
        names = set(await self._client.children(layout.STATUS))
        for name in self._kept.keys() - names:
            del self._kept[name]
        await self._learn(sorted(name for name in names - self._kept.keys() if has_outcome(name)))
        over = [name for name, kept in self._kept.items() if kept.until <= now_ms]
        for start in range(0, len(over), _AT_ONCE):
            batch = over[start : start + _AT_ONCE]
            await self._learn(batch)
            await self._take_away([name for name in batch if self._is_over(name, now_ms)])
        # What is over and cannot be deleted waits for the next round.
        self.next_end = min((kept.until for kept in self._kept.values() if kept.until > now_ms), default=None)

    async def take_away(self, names: list[str]) -> None:
        """Delete these outcomes before their time, as far as they are there and need not stay. Raises what reading
        raises."""
        await self._learn(names)
        # A client of an older version marks an outcome as read although it has to stay.
        await self._take_away([name for name in names if name in self._kept and not self._kept[name].stays])

    def _is_over(self, name: str, now_ms: int) -> bool:
        kept = self._kept.get(name)
        return kept is not None and kept.until <= now_ms

    async def _learn(self, names: list[str]) -> None:
        for start in range(0, len(names), _AT_ONCE):
            batch = names[start : start + _AT_ONCE]
            stats = await read_stats(self._client, map(layout.status_path, batch))
            found = {name: stat for name, stat in zip(batch, stats, strict=True) if stat is not None}
            for name in batch:
                self._kept.pop(name, None)
            for name, stat in found.items():
                if is_raw(name):
                    self._kept[name] = _Kept(stat.ctime + self._ttl * 1000)
            for group in _groups((name, stat) for name, stat in found.items() if not is_raw(name)):
                await self._read(group)

    async def _read(self, names: list[str]) -> None:
        replies = await self._client.multi_read(map(layout.status_path, names))
        for name, reply in zip(names, replies, strict=True):
            if isinstance(reply, errors.NoNode):
                continue
            if isinstance(reply, errors.ServerError):
                (stat,) = await read_stats(self._client, [layout.status_path(name)])
                if stat is not None:  # unreadable, so it names no time to live
                    self._kept[name] = _Kept(stat.ctime + self._ttl * 1000)
                continue
            data, stat = reply
            try:
                outcome = decode_outcome(name, data or b"")
            except BadOutcome:
                self._kept[name] = _Kept(stat.ctime + self._ttl * 1000)
            else:
                ttl = self._ttl if outcome.ttl is None else outcome.ttl
                key = outcome.key if outcome.key is not None and is_key_hash(outcome.key) else None
                self._kept[name] = _Kept(stat.ctime + ttl * 1000, key, outcome.keep)

    async def _take_away(self, names: list[str]) -> None:
        held = await self._keys_held(names)
        settled = await self._commit([transitions.expire(name, held.get(name)) for name in names])
        again: dict[str, HeldKey | None] = {}
        for each in settled:
            name = each.move.task
            if each.verdict is Verdict.WITHOUT_KEY:
                again[name] = None
            if each.verdict is Verdict.UNEXPECTED and await delete_below(self._client, layout.status_path(name)):
                again[name] = held.get(name)
        await self._commit(transitions.expire(name, key) for name, key in again.items())

    async def _keys_held(self, names: list[str]) -> dict[str, HeldKey]:
        """Return the keys that these tasks hold, by task.

        A key without a hold is freed at once, because no transaction could free it safely together with the outcome.
        """
        wanted = [(name, key) for name in names if (key := self._kept[name].key) is not None]
        holds = await read_holds(self._client, [(key, name) for name, key in wanted])
        held: dict[str, HeldKey] = {}
        for (name, key), hold in zip(wanted, holds, strict=True):
            if isinstance(hold, errors.NoNode):
                with contextlib.suppress(errors.TransactionFailed):
                    await free_old_key(self._client.transaction(), key, name).commit()
            elif hold is not None:
                held[name] = HeldKey(key)
        return held

    async def _commit(self, moves: Iterable[Move]) -> list[Settlement]:
        moves = list(moves)
        settled: asyncio.Queue[Settlement] = asyncio.Queue()
        self._committer.commit(moves, settled.put_nowait)
        settlements = [await settled.get() for _ in moves]
        for settlement in settlements:
            _log.debug("expired %s: %s", settlement.move.task, settlement.fate.value)
        return settlements


def _groups(found: Iterable[tuple[str, Stat]]) -> Iterator[list[str]]:
    """Yield groups of names whose data together is small enough for one reply."""
    group: list[str] = []
    size = 0
    for name, stat in found:
        if group and size + stat.data_length > _READ_BYTES:
            yield group
            group, size = [], 0
        group.append(name)
        size += stat.data_length
    if group:
        yield group
