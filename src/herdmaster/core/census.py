"""Numbers of a primary's picture, for metrics and the history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from herdmaster.core.names import queue_of
from herdmaster.core.queues import QueueSettings
from herdmaster.core.roster import Worker
from herdmaster.core.scaling import slots_wanted_by_queue


class WorkerKind(StrEnum):
    """`LOST`: it is gone, and its inbox is not empty yet."""

    READY = "ready"
    DRAINING = "draining"
    LOST = "lost"


class Census(msgspec.Struct, frozen=True):
    """Tasks by queue, and workers and slots by what they do. `oldest` has the time (unix milliseconds, by the clock of
    its client) in the name of the first task that waits in each queue, where it has one. `busy` counts assigned tasks,
    at most the slots of their worker, `flows` those that run."""

    waiting: dict[str, int]
    delayed: dict[str, int]
    assigned: dict[str, int]
    oldest: dict[str, int]
    wanted: dict[str, int]
    workers: dict[WorkerKind, int]
    slots: int
    busy: int
    flows: int = 0


def take_census(
    waiting: Mapping[str, int],
    delayed: Mapping[str, int],
    oldest: Mapping[str, int],
    workers: Iterable[Worker],
    limits: Mapping[str, QueueSettings],
) -> Census:
    """Count what the workers hold. Takes time in proportion to the assigned tasks."""
    kinds: Counter[WorkerKind] = Counter(dict.fromkeys(WorkerKind, 0))
    assigned: Counter[str] = Counter()
    slots = busy = 0
    for worker in workers:
        assigned.update(queue_of(task) for task in worker.inbox or ())
        if not worker.alive:
            kinds[WorkerKind.LOST] += 1
            continue
        state = worker.state
        kinds[WorkerKind.DRAINING if state is not None and state.draining else WorkerKind.READY] += 1
        if state is not None and not state.draining:
            slots += state.slots
            busy += min(state.slots, len(worker.inbox or ()))
    wanted = slots_wanted_by_queue(assigned, waiting, limits)
    return Census(dict(waiting), dict(delayed), dict(assigned), dict(oldest), wanted, dict(kinds), slots, busy)
