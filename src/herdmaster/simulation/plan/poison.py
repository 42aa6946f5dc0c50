"""Add a task that kills every worker that runs it, and harmless ones beside it, to some of the plans."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.jobs import ALWAYS, Code, Job
from herdmaster.simulation.plan.plan import Kind, Plan

_CHANCE: Final = 0.08
_HARMLESS: Final = 10


def with_poison(plan: Plan) -> Plan:
    """Return the plan, perhaps with such tasks added."""
    rng = random.Random(f"herdmaster/{plan.seed}/fatal")
    clients = [program for program in plan.programs if program.kind is Kind.CLIENT and not program.reference]
    if rng.random() >= _CHANCE or not clients:
        return plan
    at = rng.uniform(1.5, plan.horizon - 2.0)
    client = rng.choice(clients).name
    jobs = [
        Job(len(plan.jobs) + number, client, at, raw=False, code=Code.RUN, seconds=rng.uniform(0.05, 1.0))
        for number in range(_HARMLESS)
    ]
    poison = Job(len(plan.jobs) + _HARMLESS, client, at + 0.01, raw=False, code=Code.KILL, seconds=0.0, times=ALWAYS)
    return msgspec.structs.replace(plan, jobs=(*plan.jobs, *jobs, poison))
