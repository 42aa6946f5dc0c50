"""Add a limit that is set while long tasks run to some of the plans, and short tasks that must wait for them."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.faults import Limit, LimitQueue, When
from herdmaster.simulation.plan.jobs import DEFAULT, Code, Job
from herdmaster.simulation.plan.plan import Kind, Plan

_CHANCE: Final = 0.06
_LONG: Final = 4
_SHORT: Final = 4
_SEEN_SECONDS: Final = 2.5
"""Beyond a session timeout, after which every primary has seen a limit."""


def with_running_limits(plan: Plan) -> Plan:
    """Return the plan, perhaps with such a limit and such tasks added."""
    rng = random.Random(f"herdmaster/{plan.seed}/running limits")
    clients = [each.name for each in plan.programs if each.kind is Kind.CLIENT and not each.reference]
    if rng.random() >= _CHANCE or not clients:
        return plan
    at, seen = rng.uniform(1.5, plan.horizon - 2.0), plan.session_timeout + _SEEN_SECONDS
    first = len(plan.jobs)
    jobs = [_job(first + number, clients[0], at, seconds=seen + rng.uniform(2.0, 6.0)) for number in range(_LONG)]
    limited = at + rng.uniform(0.5, 1.5)
    jobs += [_job(first + _LONG + number, clients[0], limited + seen, seconds=0.01) for number in range(_SHORT)]
    limit = LimitQueue(when=When(at=limited), queue=DEFAULT, limit=Limit.ONE, seconds=seen + rng.uniform(6.0, 10.0))
    return msgspec.structs.replace(plan, jobs=(*plan.jobs, *jobs), faults=(*plan.faults, limit))


def _job(index: int, client: str, at: float, *, seconds: float) -> Job:
    return Job(index, client, at, raw=False, code=Code.RUN, seconds=seconds)
