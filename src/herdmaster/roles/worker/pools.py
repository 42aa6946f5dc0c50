"""A worker's slots: which pool runs what, and how much room there is.

A pool is made when something is to run in it. One whose task is stopped counts the slot as free from that moment on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from herdmaster.core.options import PoolKind
from herdmaster.pools.protocol import Pool
from herdmaster.roles.worker.held import Held
from herdmaster.roles.worker.starts import Room

_STOPPABLE: Final = (PoolKind.ASYNCIO, PoolKind.PROCESS)


class Capacity(msgspec.Struct, frozen=True):
    """`slots`: tasks that run at a time, in all; of these so many at most on threads, and in processes."""

    slots: int
    threads: int
    processes: int

    def of(self, kind: PoolKind) -> int:
        return {PoolKind.THREAD: self.threads, PoolKind.PROCESS: self.processes}.get(kind, self.slots)


class Slots:
    def __init__(self, capacity: Capacity, make_pool: Callable[[PoolKind, int], Pool[Held]]) -> None:
        self._capacity = capacity.slots
        self._capacities = {kind: capacity.of(kind) for kind in PoolKind}
        self._make_pool = make_pool
        self._pools: dict[PoolKind, Pool[Held]] = {}
        self._taken = dict.fromkeys(PoolKind, 0)
        self._alone = 0  # of these, suspects that nothing may run beside

    @property
    def running(self) -> list[Held]:
        """Those whose code runs now; a snapshot."""
        return [held for pool in self._pools.values() for held in pool.running]

    def find_stalled(self) -> list[Held]:
        """What runs in pools that are full and all of whose tasks wait for others; empty if there is a slot left, or
        one that goes on."""
        running = {kind: pool.running for kind, pool in self._pools.items()}
        everything = [held for some in running.values() for held in some]
        if len(everything) >= self._capacity:
            return everything if all(held.task.waits for held in everything) else []
        full = [some for kind, some in running.items() if len(some) >= self._capacities[kind]]
        return [held for some in full if all(held.task.waits for held in some) for held in some]

    def room(self, waiting: Iterable[Held]) -> Room:
        """What may be handed over of these. As long as all is for one pool, that pool itself keeps the order."""
        kinds = {kind for kind, taken in self._taken.items() if taken} | {held.kind for held in waiting}
        free = {kind: self._capacities[kind] - taken for kind, taken in self._taken.items()}
        taken = sum(self._taken.values())
        return Room(self._capacity - taken, free, len(kinds) <= 1, taken == 0, self._alone > 0)

    def start(self, chosen: list[Held]) -> None:
        """Hands them to their pools."""
        by_kind: dict[PoolKind, list[Held]] = {}
        for held in chosen:
            by_kind.setdefault(held.kind, []).append(held)
        for kind, items in by_kind.items():
            pool = self._pools.get(kind)
            if pool is None:
                pool = self._pools[kind] = self._make_pool(kind, self._capacities[kind])
            self._taken[kind] += len(items)
            for held, job in zip(items, pool.submit(items), strict=True):
                held.job = job
                self._alone += held.alone

    def withdraw(self, held: Held) -> bool:
        """Withdraws a job that no slot has begun."""
        if held.job is not None and held.job.claim():
            self.release(held)
            return True
        return False

    def stop(self, held: Held) -> None:
        """Ends what can be ended, and counts the slot as free."""
        if held.job is not None and not self.withdraw(held):
            self.release(held)
            self._pools[held.kind].stop(held)

    def stop_all(self) -> None:
        """Coroutines and processes; a thread runs on."""
        for held in self.running:
            if held.kind in _STOPPABLE:
                self.stop(held)

    def release(self, held: Held) -> None:
        """Its job has ended. Once it has been stopped, that changes nothing."""
        if held.job is not None:
            held.job = None
            self._taken[held.kind] -= 1
            self._alone -= held.alone

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
