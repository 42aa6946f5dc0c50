"""The workers, their inboxes, and the choice of a worker for the next task.

A worker's window is the number of assignments that its inbox may hold: its slots, and as many tasks more as it ends in
a quarter of a second. So short tasks flow without waiting for the primary, and long ones are not hoarded.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain
from typing import Final

import msgspec

from herdmaster.core.names import DEFAULT_QUEUE, is_step, queue_and_priority

PREFETCH_SECONDS: Final = 0.25
MAX_PREFETCH: Final = 1000
REFERENCE_WINDOW: Final = 60
"""A reference worker blocks when its queue of 200 entries is full, and the queue also holds the worker's listings."""

_MEASURE_SECONDS: Final = 0.05


class WorkerState(msgspec.Struct, frozen=True):
    """What a worker's znode says."""

    slots: int
    queues: frozenset[str]
    draining: bool = False
    reference: bool = False
    calls: bool = True
    flows: bool = False


class Kind(enum.IntEnum):
    """What a worker has to be able to run. One that can run a kind can run those before it."""

    RAW = 0
    CALL = 1
    STEP = 2


def kind_of(task: str) -> Kind:
    """Only for names that are known to be task names."""
    if task[-2:] == ".f" and is_step(task):
        return _STEP
    return _CALL if "." in task else _RAW


# Reading an attribute of an enum costs more than the rest.
_RAW, _CALL, _STEP = Kind


class Worker:
    """A worker as the primary sees it: alive or gone, with its inbox. Only the roster changes it."""

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.alive = False
        self.registered = False  # it has been alive under this primary, or must have been earlier
        self.has_drained = False  # its inbox was taken away while it was alive
        self.gone_since = now
        self.state: WorkerState | None = None
        self.inbox: set[str] | None = None  # None: there is no inbox
        self.incoming: set[str] = set()  # assignments under way whose events have not come
        self.ended = 0  # assignments ended since the last measurement
        self.rate = 0.0  # assignments ended per second
        self.measured_at = now
        self.turn = 0  # when it was chosen last
        self.reserved_for: str | None = None  # the suspect that it has, or will have, to itself

    @property
    def load(self) -> int:
        return len(self.inbox or ()) + len(self.incoming)

    @property
    def held(self) -> Iterator[str]:
        """The tasks that `load` counts."""
        return chain(self.inbox or (), self.incoming)

    def measure(self, now: float) -> None:
        """Bring `rate` up to date. Older seconds count less and less."""
        elapsed = now - self.measured_at
        if elapsed < _MEASURE_SECONDS:
            return
        recent = self.ended / elapsed
        weight = min(1.0, elapsed / (2 * PREFETCH_SECONDS))
        # Upwards at once: a window that grows slowly leaves slots idle at the start of every burst.
        self.rate = max(recent, self.rate + (recent - self.rate) * weight)
        self.ended = 0
        self.measured_at = now

    @property
    def takes_tasks(self) -> bool:
        return self.alive and self.state is not None and not self.state.draining and self.inbox is not None

    @property
    def window(self) -> int:
        if self.state is None or self.reserved_for is not None or not self.takes_tasks:
            return 0
        if self.state.reference:
            return REFERENCE_WINDOW
        return self.state.slots + min(MAX_PREFETCH, int(self.rate * PREFETCH_SECONDS))

    def serves(self, queue: str, kind: Kind) -> bool:
        """Whether the worker can run tasks of this kind of the queue.

        Calls are not for a worker without functions, nor for a reference worker, which would just answer `done`. Steps
        are calls, and not for a worker of an older version.
        """
        state = self.state
        if state is None or (kind is not _RAW and (state.reference or not state.calls)):
            return False
        if kind is _STEP and not state.flows:
            return False
        return queue == DEFAULT_QUEUE if state.reference else queue in state.queues


class Roster:
    """The workers that are alive or have left an inbox behind."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}
        self._lost: set[str] = set()
        self.turns = itertools.count(1)

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def get(self, name: str) -> Worker | None:
        return self._workers.get(name)

    # --- workers -----------------------------------------------------------------------------------------------------

    def add(self, name: str, now: float) -> None:
        """The worker is alive."""
        worker = self._find(name, now)
        worker.alive = worker.registered = True
        self._sort(worker)

    def remove(self, name: str, now: float) -> None:
        """The worker is gone. Its inbox may still be there."""
        worker = self._workers.get(name)
        if worker is not None and worker.alive:
            worker.alive = False
            worker.state = None
            worker.gone_since = now
            self._sort(worker)

    def replace_alive(self, names: Iterable[str], now: float) -> None:
        """These workers are alive, and no others."""
        listed = set(names)
        for worker in [worker for worker in self if worker.alive and worker.name not in listed]:
            self.remove(worker.name, now)
        for name in sorted(listed):
            self.add(name, now)

    def set_state(self, name: str, state: WorkerState | None) -> None:
        """Note what the znode of a worker says; None for nothing usable."""
        worker = self._workers.get(name)
        if worker is not None and worker.alive:
            worker.state = state

    def reserve(self, worker: Worker, suspect: str | None) -> None:
        """Keep the worker for one task; None: no longer."""
        worker.reserved_for = suspect

    # --- inboxes -----------------------------------------------------------------------------------------------------

    def add_inbox(self, name: str, now: float) -> None:
        worker = self._find(name, now)
        worker.inbox = worker.inbox or set()
        self._sort(worker)

    def remove_inbox(self, name: str) -> None:
        worker = self._workers.get(name)
        if worker is not None:
            worker.inbox = None
            # A worker that drains takes its inbox away before its znode, in one transaction; a lost one leaves it.
            worker.has_drained |= worker.alive
            self._sort(worker)

    def replace_inboxes(self, names: Iterable[str], now: float) -> None:
        """There are these inboxes, and no others."""
        listed = set(names)
        for worker in [worker for worker in self if worker.inbox is not None and worker.name not in listed]:
            self.remove_inbox(worker.name)
        for name in sorted(listed):
            self.add_inbox(name, now)

    def lost(self) -> list[Worker]:
        """Return the workers that are gone and have left an inbox behind."""
        return [self._workers[name] for name in sorted(self._lost)]

    def has_inbox(self, name: str) -> bool:
        worker = self._workers.get(name)
        return worker is not None and worker.inbox is not None

    def holders_of(self, task: str) -> Iterator[Worker]:
        """Yield the workers, alive or gone, whose inboxes hold the task."""
        return (worker for worker in self if worker.inbox is not None and task in worker.inbox)

    # --- assignments -------------------------------------------------------------------------------------------------

    def begin_assignment(self, worker: Worker, task: str) -> None:
        worker.incoming.add(task)

    def end_assignment(self, name: str, task: str) -> bool:
        """End an assignment under way. Return whether it had not come to the inbox."""
        worker = self._workers.get(name)
        if worker is None or task not in worker.incoming:
            return False
        worker.incoming.discard(task)
        return True

    def add_assignment(self, worker: Worker, task: str) -> bool:
        """The task is in the inbox, which must be known. Return whether the worker's load has grown by that."""
        assert worker.inbox is not None
        is_new = task not in worker.inbox and task not in worker.incoming
        worker.inbox.add(task)
        worker.incoming.discard(task)
        worker.registered = True  # a worker that was given tasks is not about to register
        return is_new

    def remove_assignment(self, name: str, task: str) -> bool:
        """The task has left the inbox. Return whether it was known to be there."""
        worker = self._workers.get(name)
        if worker is None or worker.inbox is None or task not in worker.inbox:
            return False
        worker.inbox.discard(task)
        worker.ended += 1
        return True

    def replace_assignments(self, name: str, tasks: set[str], is_assigning: Callable[[str], bool], now: float) -> None:
        """The inbox holds these tasks. Of `incoming` only those stay whose assignment is under way."""
        worker = self._find(name, now)
        worker.inbox = tasks
        worker.incoming = set(filter(is_assigning, worker.incoming))
        worker.registered |= bool(tasks)
        self._sort(worker)

    def redirect(self, name: str, task: str, asked: Collection[str]) -> str | None:
        """Pass an assignment under way on to a worker that was not asked for the call's function before.

        Return its name. Return the present worker's where it was not asked, or where all were. Return None where those
        that were not asked have no room now.
        """
        place = queue_and_priority(task)
        if name not in asked or place is None:
            return name
        others = [
            each for each in self if each.window and each.name not in asked and each.serves(place[0], kind_of(task))
        ]
        if not others:
            return name
        chosen = min((each for each in others if each.load < each.window), key=_entry, default=None)
        if chosen is None:
            return None
        self.end_assignment(name, task)
        self.begin_assignment(chosen, task)
        return chosen.name

    # --- queues ------------------------------------------------------------------------------------------------------

    def unserved(self, wanted: Iterable[tuple[str, Kind]]) -> dict[str, Kind]:
        """Return the queues that no live worker serves, each with the simplest kind of tasks that none takes.

        `wanted` are queues, each with a kind of its tasks. Empty while no worker is alive.
        """
        alive = [worker for worker in self if worker.alive and worker.state is not None]
        return {
            queue: next(each for each in Kind if not any(worker.serves(queue, each) for worker in alive))
            for queue, kind in (wanted if alive else ())
            if not any(worker.serves(queue, kind) for worker in alive)
        }

    def _find(self, name: str, now: float) -> Worker:
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = Worker(name, now)
        return worker

    def _sort(self, worker: Worker) -> None:
        """Keep `_lost` right, and forget a worker of which nothing is left."""
        if not worker.alive and worker.inbox is not None:
            self._lost.add(worker.name)
            return
        self._lost.discard(worker.name)
        if not worker.alive:
            del self._workers[worker.name]


class Choice:
    """The choice of workers during one round of decisions: the worker with most free slots first, of several the one
    that was chosen longest ago.
    """

    def __init__(self, roster: Roster, now: float) -> None:
        self._turns = roster.turns
        self._workers = [worker for worker in roster if worker.alive]
        for worker in self._workers:
            worker.measure(now)
        self._heaps: dict[tuple[str, Kind], list[tuple[int, int, str, Worker]]] = {}

    def next_worker(self, queue: str, kind: Kind) -> Worker | None:
        """Return a worker that has room, or None. The caller adds to its load before the next call."""
        heap = self._heaps.get((queue, kind))
        if heap is None:
            heap = self._heaps[queue, kind] = [
                _entry(worker) for worker in self._workers if worker.window > worker.load and worker.serves(queue, kind)
            ]
            heapq.heapify(heap)
        while heap:
            key, _, _, worker = heap[0]
            entry = _entry(worker)
            if worker.load >= worker.window:
                heapq.heappop(heap)
            elif key != entry[0]:  # its load has changed since it was put here
                heapq.heapreplace(heap, entry)
            else:
                worker.turn = next(self._turns)
                return worker
        return None


def _entry(worker: Worker) -> tuple[int, int, str, Worker]:
    slots = worker.state.slots if worker.state is not None else 0
    return (worker.load - slots, worker.turn, worker.name, worker)
