"""Add faults of workers whose threads are all busy to some of the plans; by chance they would be too rare.

A burst of short tasks and then of long ones makes workers hold tasks that wait for a thread. Then the fault happens.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.faults import AnyFault, When
from herdmaster.simulation.plan.jobs import Code, Job
from herdmaster.simulation.plan.plan import Kind, Plan, Program

_CHANCE: Final = 0.12
_SHORT: Final = 12
_LONG: Final = 8


def with_full_workers(plan: Plan) -> Plan:
    """Return the plan, perhaps with a burst of tasks and such faults added."""
    rng = random.Random(f"herdmaster/{plan.seed}/scene")
    clients = [program for program in plan.programs if program.kind is Kind.CLIENT and not program.reference]
    if rng.random() >= _CHANCE or not clients:
        return plan
    at = rng.uniform(1.5, plan.horizon - 2.0)
    jobs = [_job(rng, len(plan.jobs) + number, rng.choice(clients), at, number) for number in range(_SHORT + _LONG)]
    workers = [program for program in plan.programs if program.kind is Kind.WORKER and not program.reference]
    make_fault = rng.choice((_zombies, _unseen_leave))
    found = [make_fault(rng, plan, worker, When(at=at)) for worker in workers]
    return msgspec.structs.replace(plan, jobs=(*plan.jobs, *jobs), faults=(*plan.faults, *found))


def _job(rng: random.Random, index: int, client: Program, at: float, number: int) -> Job:
    seconds = rng.uniform(0.001, 0.02) if number < _SHORT else rng.uniform(0.5, 3.0)
    return Job(index, client.name, at, raw=rng.random() < 0.3, code=Code.RUN, seconds=seconds)


def _zombies(rng: random.Random, plan: Plan, worker: Program, when: When) -> AnyFault:
    """A worker is paused while it holds tasks, and goes on after others have run them."""
    seconds = rng.uniform(1.2, 3.0) * plan.session_timeout
    return faults.PauseFull(when=when, program=worker.name, seconds=seconds, io_first=rng.random() < 0.5)


def _unseen_leave(rng: random.Random, plan: Plan, worker: Program, when: When) -> AnyFault:
    """Tasks that the primary has assigned come back into `/tasks` while the primary is partitioned."""
    seconds = rng.uniform(0.3, 0.8) * plan.session_timeout
    return faults.LeaveUnseen(when=when, program=worker.name, seconds=seconds)
