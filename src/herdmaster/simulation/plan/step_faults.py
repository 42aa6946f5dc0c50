"""Faults between two callbacks of one process: after so many of them it is killed, or stands still, whatever it was in
the middle of. Added to the plans of some worlds."""

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


def with_steps(plan: Plan) -> Plan:
    """The plan, perhaps with such faults added."""
    rng = random.Random(f"herdmaster/{plan.seed}/steps")
    if rng.random() >= _CHANCE:
        return plan
    found = [_draw(rng, plan) for _ in range(rng.choice((1, 1, 2, 4)))]
    return msgspec.structs.replace(plan, faults=(*plan.faults, *found))


def _draw(rng: random.Random, plan: Plan) -> AnyFault:
    # As often among the first ten steps as among the last thousands: much happens at the beginning.
    when = When(step=int(math.exp(rng.uniform(0.0, math.log(_MOST_STEPS)))))
    slot = rng.choice(plan.parts).slot
    if rng.random() < 0.7:
        return faults.Crash(when=when, slot=slot, seconds=rng.uniform(0.01, 2.0), power=rng.random() < 0.3)
    seconds = rng.uniform(0.1, 2.0) * plan.session_timeout
    return faults.Pause(when=when, slot=slot, seconds=seconds, io_first=rng.random() < 0.5)
