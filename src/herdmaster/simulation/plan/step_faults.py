"""Add faults between two callbacks of one process to some of the plans: before a given step the process is killed or
paused."""

from __future__ import annotations

import math
import random
from typing import Final

import msgspec

from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.faults import AnyFault, When
from herdmaster.simulation.plan.plan import Plan

_CHANCE: Final = 0.4
_MOST_STEPS: Final = 4000


def with_step_faults(plan: Plan) -> Plan:
    """Return the plan, perhaps with such faults added."""
    rng = random.Random(f"herdmaster/{plan.seed}/steps")
    if rng.random() >= _CHANCE:
        return plan
    found = [_draw(rng, plan) for _ in range(rng.choice((1, 1, 2, 4)))]
    return msgspec.structs.replace(plan, faults=(*plan.faults, *found))


def _draw(rng: random.Random, plan: Plan) -> AnyFault:
    # As often among the first ten steps as among the last thousands: most happens at the start.
    when = When(step=int(math.exp(rng.uniform(0.0, math.log(_MOST_STEPS)))))
    program = rng.choice(plan.programs).name
    if rng.random() < 0.7:
        return faults.Crash(when=when, program=program, seconds=rng.uniform(0.01, 2.0), power=rng.random() < 0.3)
    seconds = rng.uniform(0.1, 2.0) * plan.session_timeout
    return faults.Pause(when=when, program=program, seconds=seconds, io_first=rng.random() < 0.5)
