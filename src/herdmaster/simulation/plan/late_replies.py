"""Let what was on its way arrive at a client after it gave the connection up, in some plans."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.faults import AnyFault, Stall, When
from herdmaster.simulation.plan.plan import Plan

_CHANCE: Final = 0.3
_STALLS: Final = (1, 2, 4)


def with_late_replies(plan: Plan) -> Plan:
    """Return the plan, perhaps with connections that stall for longer than a client waits for an answer."""
    rng = random.Random(f"herdmaster/{plan.seed}/late arrivals")
    if rng.random() >= _CHANCE:
        return plan
    stalls = tuple(_stall(rng, plan) for _ in range(rng.choice(_STALLS)))
    return msgspec.structs.replace(plan, late_replies=True, faults=(*plan.faults, *stalls))


def _stall(rng: random.Random, plan: Plan) -> AnyFault:
    """A client gives a connection up after two thirds of its session timeout."""
    when = When(transaction=rng.randrange(5, 20 + 4 * len(plan.jobs)))
    return Stall(when=when, program="", seconds=rng.uniform(0.5, 1.2) * plan.session_timeout, up=rng.random() < 0.5)
