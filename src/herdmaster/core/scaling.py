"""How many slots the tasks of a queue could use now, for what starts and stops workers."""

from __future__ import annotations

import math
from collections.abc import Mapping

from herdmaster.core.queues import UNLIMITED, QueueSettings


def slots_wanted(assigned: int, waiting: int, settings: QueueSettings = UNLIMITED) -> int:
    """Return the tasks that are assigned, and those that may be assigned now: none of a paused queue, no more than its
    limits let through. Delayed tasks do not count."""
    if settings.paused:
        return assigned
    if settings.rate is not None:
        waiting = min(waiting, math.ceil(settings.rate))
    wanted = assigned + waiting
    return wanted if settings.max_running is None else max(assigned, min(wanted, settings.max_running))


def slots_wanted_by_queue(
    assigned: Mapping[str, int], waiting: Mapping[str, int], settings: Mapping[str, QueueSettings]
) -> dict[str, int]:
    """Return `slots_wanted` of every queue that has tasks."""
    return {
        queue: slots_wanted(assigned.get(queue, 0), waiting.get(queue, 0), settings.get(queue, UNLIMITED))
        for queue in sorted(assigned.keys() | waiting.keys())
    }
