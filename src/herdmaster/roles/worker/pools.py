"""A worker's slots: the pools that run its tasks, and the room that is left in them.

A pool is made when the first task is to run in it. The slot of a task that is stopped counts as free at once.
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
    """How many tasks may run at a time: `slots` in all, of these at most `threads` on threads and `processes` in
    processes."""

    slots: int
    threads: int
    processes: int

    def of(self, kind: PoolKind) -> int:
        return {PoolKind.THREAD: self.threads, PoolKind.PROCESS: self.processes}.get(kind, self.slots)


class Slots:
    """Hands tasks to pools, and counts the slots that they take. `make_pool` makes the pool of a kind."""

    def __init__(self, capacity: Capacity, make_pool: Callable[[PoolKind, int], Pool[Held]]) -> None:
        self._capacity = capacity.slots
        self._capacities = {kind: capacity.of(kind) for kind in PoolKind}
        self._make_pool = make_pool
        self._pools: dict[PoolKind, Pool[Held]] = {}
        self._taken = dict.fromkeys(PoolKind, 0)
        self._alone = 0  # tasks of these that run alone

    @property
    def running(self) -> list[Held]:
        """The tasks whose code runs now; a snapshot."""
        return [held for pool in self._pools.values() for held in pool.running]

    def find_stalled(self) -> list[Held]:
        """Return the tasks of the pools that are full and in which every task waits for other tasks. Empty while there
        is a free slot, or a task that goes on."""
        running = {kind: pool.running for kind, pool in self._pools.items()}
        tasks = [held for in_pool in running.values() for held in in_pool]
        if len(tasks) >= self._capacity:
            return tasks if all(held.task.waits for held in tasks) else []
        full = [in_pool for kind, in_pool in running.items() if len(in_pool) >= self._capacities[kind]]
        return [held for in_pool in full if all(held.task.waits for held in in_pool) for held in in_pool]

    def room(self, waiting: Iterable[Held]) -> Room:
        """Return the room for the waiting tasks. As long as all tasks are for one pool, that pool keeps their order."""
        kinds = {kind for kind, taken in self._taken.items() if taken} | {held.kind for held in waiting}
        free = {kind: self._capacities[kind] - taken for kind, taken in self._taken.items()}
        taken = sum(self._taken.values())
        return Room(self._capacity - taken, free, len(kinds) <= 1, taken == 0, self._alone > 0)

    def start(self, chosen: list[Held]) -> None:
        """Hand tasks to their pools."""
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
        """Withdraw the job of a task that no slot has begun. Return False if there is none."""
        if held.job is not None and held.job.claim():
            self.release(held)
            return True
        return False

    def stop(self, held: Held) -> None:
        """End the code of a task if that can be done. Its slot counts as free either way."""
        if held.job is not None and not self.withdraw(held):
            self.release(held)
            self._pools[held.kind].stop(held)

    def stop_all(self) -> None:
        """Stop the coroutines and processes. Threads run on."""
        for held in self.running:
            if held.kind in _STOPPABLE:
                self.stop(held)

    def release(self, held: Held) -> None:
        """Free the slot of a task whose job has ended, unless the task was stopped before."""
        if held.job is not None:
            held.job = None
            self._taken[held.kind] -= 1
            self._alone -= held.alone

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
