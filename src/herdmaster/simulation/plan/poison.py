"""Worlds in which one task kills every worker that runs it, beside innocent ones. Added to some of the plans."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.plan import ALWAYS, Code, Job, Kind, Plan

_CHANCE: Final = 0.08
_INNOCENT: Final = 10


def with_poison(plan: Plan) -> Plan:
    """The plan, perhaps with such tasks added."""
    rng = random.Random(f"herdmaster/{plan.seed}/fatal")
    clients = [part for part in plan.parts if part.kind is Kind.CLIENT and not part.reference]
    if rng.random() >= _CHANCE or not clients:
        return plan
    at = rng.uniform(1.5, plan.horizon - 2.0)
    client = rng.choice(clients).slot
    jobs = [
        Job(len(plan.jobs) + number, client, at, raw=False, code=Code.RUN, seconds=rng.uniform(0.05, 1.0))
        for number in range(_INNOCENT)
    ]
    poison = Job(len(plan.jobs) + _INNOCENT, client, at + 0.01, raw=False, code=Code.KILL, seconds=0.0, times=ALWAYS)
    return msgspec.structs.replace(plan, jobs=(*plan.jobs, *jobs, poison))
