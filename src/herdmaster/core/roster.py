"""The workers, what their inboxes hold, and which of them takes the next task.

A worker's window is what may stand in its inbox: its slots, and as many tasks more as it ends in a quarter of a second.
So short tasks flow without waiting for the primary, and long ones are not hoarded.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Final

import msgspec

from herdmaster.core.names import DEFAULT_QUEUE, queue_and_priority

PREFETCH_SECONDS: Final = 0.25
MAX_PREFETCH: Final = 1000
REFERENCE_WINDOW: Final = 60
"""A reference worker's queue of 200 entries also holds its own listings: more than this and it would block."""

_MEASURE_SECONDS: Final = 0.05


class WorkerState(msgspec.Struct, frozen=True):
    """What a worker tells of itself in its znode."""

    slots: int
    queues: frozenset[str]
    draining: bool = False
    reference: bool = False
    calls: bool = True


class Worker:
    """One worker as the primary sees it: alive or gone, with what its inbox holds."""

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.alive = False
        self.registered = False  # it has been alive in this primary's time
        self.gone_since = now
        self.state: WorkerState | None = None
        self.inbox: set[str] | None = None  # None: there is no inbox
        self.incoming: set[str] = set()  # assignments under way whose events have not come
        self.taken = 0  # assignments ended since the last measurement
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
        """Brings `rate` up to date; older seconds count less and less."""
        elapsed = now - self.measured_at
        if elapsed < _MEASURE_SECONDS:
            return
        recent = self.taken / elapsed
        weight = min(1.0, elapsed / (2 * PREFETCH_SECONDS))
        # Upwards at once: a window that grows slowly leaves slots idle at the start of every burst.
        self.rate = max(recent, self.rate + (recent - self.rate) * weight)
        self.taken = 0
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

    def serves(self, queue: str, *, calls: bool) -> bool:
        """Calls are not for a worker without functions, nor for the reference's, which would just answer `done`."""
        state = self.state
        if state is None or (calls and (state.reference or not state.calls)):
            return False
        return queue == DEFAULT_QUEUE if state.reference else queue in state.queues


class Roster:
    """All the workers that are alive or that left an inbox behind."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}
        self.turns = itertools.count(1)

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def get(self, name: str) -> Worker | None:
        return self._workers.get(name)

    def unserved(self, kinds: Iterable[tuple[str, bool]]) -> dict[str, bool]:
        """The queues of these, each with whether it is of calls, that no live worker takes; True where one would take
        raw tasks. None while no worker is there."""
        alive = [worker for worker in self if worker.alive and worker.state is not None]
        return {
            queue: any(worker.serves(queue, calls=False) for worker in alive)
            for queue, calls in (kinds if alive else ())
            if not any(worker.serves(queue, calls=calls) for worker in alive)
        }

    def find(self, name: str, now: float) -> Worker:
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = Worker(name, now)
        return worker

    def joined(self, name: str, now: float) -> None:
        worker = self.find(name, now)
        worker.alive = worker.registered = True

    def left(self, name: str, now: float) -> None:
        worker = self._workers.get(name)
        if worker is not None and worker.alive:
            worker.alive = False
            worker.state = None
            worker.gone_since = now
            self._forget_if_nothing_left(worker)

    def inbox_gone(self, name: str) -> None:
        worker = self._workers.get(name)
        if worker is not None:
            worker.inbox = None
            self._forget_if_nothing_left(worker)

    def replace_alive(self, names: Iterable[str], now: float) -> None:
        listed = set(names)
        for worker in [worker for worker in self if worker.alive and worker.name not in listed]:
            self.left(worker.name, now)
        for name in sorted(listed):
            self.joined(name, now)

    def replace_inboxes(self, names: Iterable[str], now: float) -> None:
        listed = set(names)
        for worker in [worker for worker in self if worker.inbox is not None and worker.name not in listed]:
            self.inbox_gone(worker.name)
        for name in sorted(listed):
            worker = self.find(name, now)
            worker.inbox = worker.inbox or set()

    def instead_of(self, name: str, task: str, asked: Collection[str]) -> str | None:
        """Passes an assignment under way on from a worker that was asked for the call's function before to one that was
        not, as long as there is any; None while none of these has room."""
        place = queue_and_priority(task)
        if name not in asked or place is None:
            return name
        others = [each for each in self if each.window and each.name not in asked and each.serves(place[0], calls=True)]
        if not others:
            return name
        chosen = min((each for each in others if each.load < each.window), key=_entry, default=None)
        if chosen is None:
            return None
        before = self._workers.get(name)
        if before is not None:
            before.incoming.discard(task)
        chosen.incoming.add(task)
        return chosen.name

    def _forget_if_nothing_left(self, worker: Worker) -> None:
        if not worker.alive and worker.inbox is None:
            del self._workers[worker.name]


class Choice:
    """Chooses workers during one round of decisions: the one with most free slots first, of several the one whose turn
    is longest ago.
    """

    def __init__(self, roster: Roster, now: float) -> None:
        self._turns = roster.turns
        self._workers = [worker for worker in roster if worker.alive]
        for worker in self._workers:
            worker.measure(now)
        self._heaps: dict[tuple[str, bool], list[tuple[int, int, str, Worker]]] = {}

    def next_worker(self, queue: str, *, calls: bool) -> Worker | None:
        """None when no worker that serves the queue has room. The caller adds to its load before the next call."""
        heap = self._heaps.get((queue, calls))
        if heap is None:
            heap = self._heaps[queue, calls] = [
                _entry(worker)
                for worker in self._workers
                if worker.window > worker.load and worker.serves(queue, calls=calls)
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
