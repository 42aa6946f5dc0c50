"""Add a queue with a rate to some of the plans, whose primaries leave one after the other while tasks wait in it."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.faults import Leave, Limit, LimitQueue, When
from herdmaster.simulation.plan.jobs import OTHER, Code, Job
from herdmaster.simulation.plan.plan import Kind, Plan, Program

_CHANCE: Final = 0.06
_MASTERS: Final = 3
_LEAVES: Final = 8
_JOBS: Final = 16
_SEEN_SECONDS: Final = 2.5
"""Beyond a session timeout, after which every primary has seen a limit."""


def with_rated_takeovers(plan: Plan) -> Plan:
    """Return the plan, perhaps with such a queue, its tasks, enough masters, and masters that leave in turn."""
    rng = random.Random(f"herdmaster/{plan.seed}/rated takeovers")
    clients = [each.name for each in plan.programs if each.kind is Kind.CLIENT and not each.reference]
    if rng.random() >= _CHANCE or not clients or plan.has_reference:
        return plan
    masters = [each.name for each in plan.programs if each.kind is Kind.MASTER]
    added = [f"master-{number}" for number in range(len(masters) + 1, _MASTERS + 1)]
    programs = [Program(name=name, kind=Kind.MASTER, starts=0.5) for name in added]
    at = rng.uniform(1.0, 3.0)
    begins = at + plan.session_timeout + _SEEN_SECONDS + plan.lag
    limit = LimitQueue(when=When(at=at), queue=OTHER, limit=Limit.SLOW, seconds=begins - at + 8.0)
    first, pace = len(plan.jobs), rng.uniform(0.1, 0.4)
    jobs = [
        Job(first + number, clients[0], begins, raw=False, code=Code.RUN, seconds=0.01, queue=OTHER)
        for number in range(_JOBS)
    ]
    leaves = [
        Leave(when=When(at=begins + 0.5 + number * pace), program=name, seconds=0.1)
        for number, name in enumerate((masters + added) * _LEAVES)
    ][:_LEAVES]
    return msgspec.structs.replace(
        plan,
        programs=(*plan.programs, *programs),
        jobs=(*plan.jobs, *jobs),
        faults=(*plan.faults, limit, *leaves),
        horizon=max(plan.horizon, begins + 4.0),
    )
