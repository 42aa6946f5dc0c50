"""Let the server come back with another clock in some of the plans with schedules, as if another server led."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.faults import LimitQueue, RestartServer, StoreSchedule, When
from herdmaster.simulation.plan.plan import Plan

_CHANCE: Final = 0.3
_LONGEST_MS: Final = 5000


def with_other_server_clocks(plan: Plan) -> Plan:
    """Return the plan, perhaps with restarts after which the server's clock is another one.

    What is due or limited by the clock of more than one server is left out, schedules aside.
    """
    rng = random.Random(f"herdmaster/{plan.seed}/server clocks")
    has_schedules = any(isinstance(fault, StoreSchedule) for fault in plan.faults)
    if not has_schedules or plan.ages.are_short or plan.sweeps or rng.random() >= _CHANCE:
        return plan
    restarts = [
        RestartServer(
            when=When(at=rng.uniform(1.0, plan.horizon)),
            seconds=rng.uniform(0.1, 2.0),
            clock_ms=rng.choice((-1, 1)) * rng.randint(1, _LONGEST_MS),
        )
        for _ in range(rng.choice((1, 2, 4)))
    ]
    jobs = tuple(msgspec.structs.replace(job, delay=None, expires=None) for job in plan.jobs)
    others = (fault for fault in plan.faults if not isinstance(fault, LimitQueue))
    return msgspec.structs.replace(plan, jobs=jobs, faults=(*others, *restarts))
