"""Reference roles with the faults of the real programs, which stay for a while after the other faults are over. Added
to the plans of some worlds that have such roles.

Left out is what loses tasks by itself: two Java masters with one id, and Curator masters. `tests/reference` has them.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.plan import Flaw, Kind, Part, Plan

_CHANCE: Final = 0.6
_MASTERS: Final = (Flaw.JAVA, Flaw.C)


def with_flaws(plan: Plan) -> Plan:
    """The plan, perhaps with such faults in its reference roles."""
    rng = random.Random(f"herdmaster/{plan.seed}/flaws")
    if not plan.has_reference or rng.random() >= _CHANCE:
        return plan
    parts = tuple(_with_flaw(rng, part) if part.reference else part for part in plan.parts)
    return msgspec.structs.replace(plan, parts=parts, lingers=rng.choice((0.0, 6.0)) * plan.session_timeout)


def _with_flaw(rng: random.Random, part: Part) -> Part:
    flaws = _MASTERS if part.kind is Kind.MASTER else (Flaw.JAVA,)
    return msgspec.structs.replace(part, flaw=rng.choice((Flaw.NONE, *flaws)))
