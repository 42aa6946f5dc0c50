"""Let servers lag behind each other in some of the plans that have several."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.faults import Cut, When
from herdmaster.simulation.plan.plan import Plan

_CHANCE: Final = 0.3
_CUTS: Final = (0, 2, 6)


def with_lagging_servers(plan: Plan) -> Plan:
    """Return the plan, perhaps with lags, and with lost connections: what a session sees may go back only where it
    reconnects to another server."""
    rng = random.Random(f"herdmaster/{plan.seed}/lagging servers")
    behind = len(plan.addresses) - 1
    if rng.random() >= _CHANCE or not behind:
        return plan
    lags = tuple(rng.uniform(0.05, 1.5) for _ in range(behind))
    last = 40 + 4 * len(plan.jobs)
    cuts = [Cut(when=When(transaction=rng.randrange(10, last)), program="") for _ in range(rng.choice(_CUTS))]
    return msgspec.structs.replace(plan, lags=lags, faults=(*plan.faults, *cuts))
