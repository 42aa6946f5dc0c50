from __future__ import annotations

from collections.abc import Iterable

from herdmaster.core.options import PoolKind
from herdmaster.pools.job import Job
from herdmaster.pools.protocol import Pool
from herdmaster.roles.worker.held import Held
from herdmaster.roles.worker.pools import Capacity, Slots
from herdmaster.running.delivery import Delivered


class ScriptedPool:
    """Begins a job when the test says so."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.jobs: list[Job[Held]] = []
        self.running: list[Held] = []
        self.stopped: list[Held] = []

    def submit(self, items: Iterable[Held], /) -> list[Job[Held]]:
        jobs = [Job(item) for item in items]
        self.jobs += jobs
        return jobs

    def begin_all(self) -> None:
        self.running += [job.item for job in self.jobs if job.claim()]

    def stop(self, item: Held, /) -> bool:
        self.stopped.append(item)
        return True

    def close(self) -> None:
        pass


class Setting:
    def __init__(self, slots: int = 4) -> None:
        self.pools: dict[PoolKind, ScriptedPool] = {}
        self.slots = Slots(Capacity(slots, threads=slots, processes=1), self._make)

    def _make(self, kind: PoolKind, slots: int) -> Pool[Held]:
        return self.pools.setdefault(kind, ScriptedPool(slots))

    def begin_all(self) -> None:
        for pool in self.pools.values():
            pool.begin_all()


def held(number: int, kind: PoolKind = PoolKind.THREAD, *, alone: bool = False) -> Held:
    found = Held(Delivered(f"task-{number}", b"", number), 0.0)
    found.kind, found.alone = kind, alone
    return found


def test_at_the_fence_coroutines_and_processes_are_stopped_and_threads_run_on() -> None:
    setting = Setting()
    tasks = [held(number, kind) for number, kind in enumerate(PoolKind)]
    setting.slots.start(tasks)
    setting.begin_all()
    setting.slots.stop_all()

    stopped = {kind for kind, pool in setting.pools.items() if pool.stopped}
    assert stopped == {PoolKind.ASYNCIO, PoolKind.PROCESS}
    assert setting.slots.room([]).slots == 3, "a task that is stopped has no slot"


def test_a_job_that_no_slot_has_begun_is_withdrawn_and_its_slot_is_free() -> None:
    setting = Setting()
    task = held(1)
    setting.slots.start([task])
    assert setting.slots.room([]).slots == 3

    assert setting.slots.withdraw(task)
    assert not setting.slots.withdraw(task)
    assert setting.slots.room([]).slots == 4


def test_a_job_that_was_begun_is_not_withdrawn() -> None:
    setting = Setting()
    task = held(1)
    setting.slots.start([task])
    setting.begin_all()

    assert not setting.slots.withdraw(task)
    assert setting.slots.room([]).slots == 3


def test_a_task_that_is_stopped_frees_its_slot_once() -> None:
    setting = Setting()
    task = held(1, PoolKind.PROCESS)
    setting.slots.start([task])
    setting.begin_all()
    setting.slots.stop(task)
    setting.slots.release(task)  # as when the pool delivers it

    assert setting.pools[PoolKind.PROCESS].stopped == [task]
    assert (setting.slots.room([]).slots, setting.slots.room([]).of[PoolKind.PROCESS]) == (4, 1)


def test_nothing_is_started_beside_a_task_that_runs_alone() -> None:
    setting = Setting()
    task = held(1, alone=True)
    setting.slots.start([task])
    assert setting.slots.room([]).is_closed
    setting.slots.release(task)

    assert not setting.slots.room([]).is_closed


def test_a_pool_may_prefetch_as_long_as_all_tasks_are_for_it() -> None:
    setting = Setting()
    setting.slots.start([held(1)])

    assert setting.slots.room([held(2)]).prefetches
    assert not setting.slots.room([held(2, PoolKind.PROCESS)]).prefetches
