"""Scenes: coincidences that are too rare to wait for, staged in some of the worlds beside everything else that happens.

Each has a burst of tasks, short ones first and then long ones, so that workers hold tasks that wait for a thread, and a
fault that strikes right then.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.faults import AnyFault, When
from herdmaster.simulation.plan.plan import Code, Job, Kind, Part, Plan

_CHANCE: Final = 0.12
_SHORT: Final = 12
_LONG: Final = 8


def with_scene(plan: Plan) -> Plan:
    """The plan, perhaps with a scene added."""
    rng = random.Random(f"herdmaster/{plan.seed}/scene")
    clients = [part for part in plan.parts if part.kind is Kind.CLIENT and not part.reference]
    if rng.random() >= _CHANCE or not clients:
        return plan
    at = rng.uniform(1.5, plan.horizon - 2.0)
    jobs = [_job(rng, len(plan.jobs) + number, rng.choice(clients), at, number) for number in range(_SHORT + _LONG)]
    workers = [part for part in plan.parts if part.kind is Kind.WORKER and not part.reference]
    scene = rng.choice((_zombies, _unseen_leave))
    found = [scene(rng, plan, worker, When(at=at)) for worker in workers]
    return msgspec.structs.replace(plan, jobs=(*plan.jobs, *jobs), faults=(*plan.faults, *found))


def _job(rng: random.Random, index: int, client: Part, at: float, number: int) -> Job:
    seconds = rng.uniform(0.001, 0.02) if number < _SHORT else rng.uniform(0.5, 3.0)
    return Job(index, client.slot, at, raw=rng.random() < 0.3, code=Code.RUN, seconds=seconds)


def _zombies(rng: random.Random, plan: Plan, worker: Part, when: When) -> AnyFault:
    """A worker sleeps with tasks in its hands, and wakes when others have had them."""
    seconds = rng.uniform(1.2, 3.0) * plan.session_timeout
    return faults.PauseFull(when=when, slot=worker.slot, seconds=seconds, io_first=rng.random() < 0.5)


def _unseen_leave(rng: random.Random, plan: Plan, worker: Part, when: When) -> AnyFault:
    """Tasks that the primary has assigned come back into `/tasks` while it hears of nothing."""
    seconds = rng.uniform(0.3, 0.8) * plan.session_timeout
    return faults.LeaveUnseen(when=when, slot=worker.slot, seconds=seconds)
