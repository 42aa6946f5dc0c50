"""Let some clients of some plans use a Herd, with its I/O thread, and some of them close it now and then."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.faults import AnyFault, Partition, When
from herdmaster.simulation.plan.plan import Kind, Plan, Program

_CHANCE: Final = 0.25
_CLIENT_CHANCE: Final = 0.7
_UNHEARD: Final = 0.3
_CLOSES: Final = (0, 0, 1, 2)


def with_herds(plan: Plan) -> Plan:
    """Return the plan, perhaps with such clients."""
    rng = random.Random(f"herdmaster/{plan.seed}/herds")
    if rng.random() >= _CHANCE:
        return plan
    programs = tuple(_with_herd(rng, plan, program) for program in plan.programs)
    found = [_partition(rng, each.name, at) for each in programs for at in each.closes if rng.random() < _UNHEARD]
    return msgspec.structs.replace(plan, programs=programs, faults=(*plan.faults, *found))


def _partition(rng: random.Random, program: str, at: float) -> AnyFault:
    """Let no server hear that the Herd is closed."""
    when = When(at=at - rng.uniform(0.0, 0.5))
    return Partition(when=when, program=program, seconds=rng.uniform(6.0, 12.0), everywhere=True)


def _with_herd(rng: random.Random, plan: Plan, program: Program) -> Program:
    if program.kind is not Kind.CLIENT or program.reference or rng.random() >= _CLIENT_CHANCE:
        return program
    closes = sorted(rng.uniform(1.0, plan.horizon) for _ in range(rng.choice(_CLOSES)))
    return msgspec.structs.replace(program, herd=True, closes=tuple(closes))
