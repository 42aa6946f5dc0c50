"""Give the reference roles of some plans the defects of the real programs, and let them stay after the last fault.

Left out is what loses tasks by itself: two Java masters with one id, and Curator masters. `tests/reference` has them.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.plan import Defect, Kind, Plan, Program

_CHANCE: Final = 0.6
_MASTERS: Final = (Defect.JAVA, Defect.C)


def with_reference_defects(plan: Plan) -> Plan:
    """Return the plan, perhaps with defects in its reference roles."""
    rng = random.Random(f"herdmaster/{plan.seed}/flaws")
    if not plan.has_reference or rng.random() >= _CHANCE:
        return plan
    programs = tuple(_with_defect(rng, program) if program.reference else program for program in plan.programs)
    return msgspec.structs.replace(plan, programs=programs, lingers=rng.choice((0.0, 6.0)) * plan.session_timeout)


def _with_defect(rng: random.Random, program: Program) -> Program:
    defects = _MASTERS if program.kind is Kind.MASTER else (Defect.JAVA,)
    return msgspec.structs.replace(program, defect=rng.choice((Defect.NONE, *defects)))
