"""Add flows to some of the plans, with failures, retries, cancelling, time limits, keys and large graphs."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.faults import AnyFault, When
from herdmaster.simulation.plan.flow_plans import PlannedFlow, PlannedStep
from herdmaster.simulation.plan.jobs import ALWAYS, Code, Job
from herdmaster.simulation.plan.plan import Kind, Plan, Program

_CHANCE: Final = 0.4
_OLD_CHANCE: Final = 0.15
_KEYS: Final = ("a flow", "another flow")
_LARGE: Final = 6_000
"""Bytes of a payload, of which a few dozen do not fit into one transaction."""
_LONGEST_WIDE: Final = 30


def with_flows(plan: Plan) -> Plan:
    """Return the plan, perhaps with flows."""
    rng = random.Random(f"herdmaster/{plan.seed}/flows")
    clients = [each for each in plan.programs if each.kind is Kind.CLIENT and not each.reference and not each.herd]
    if rng.random() >= _CHANCE or not clients:
        return plan
    flows, found = list[PlannedFlow](), list[AnyFault]()
    first = max((job.index for job in plan.jobs), default=-1) + 1
    for number in range(rng.choice((1, 1, 2, 4))):
        flow = _draw_flow(rng, plan, number, rng.choice(clients).name, first)
        first += len(flow.steps)
        flows.append(flow)
        found += _faults(rng, plan, flow)
    programs = tuple(_perhaps_old(rng, program) for program in plan.programs)
    return msgspec.structs.replace(plan, programs=programs, flows=tuple(flows), faults=(*plan.faults, *found))


def draw_flow(seed: object) -> PlannedFlow:
    """Return a flow by itself, for a world without faults."""
    rng = random.Random(f"herdmaster/{seed}/flow")
    return PlannedFlow(0, "client-1", 0.0, _StepDrawing(rng, 0, 0.0).draw(rng.choice((1, 3, 6, 12, 25))))


def _perhaps_old(rng: random.Random, program: Program) -> Program:
    """Return the program, perhaps as a worker that does not know flows. The first worker always knows them."""
    is_old = program.kind is Kind.WORKER and not program.name.endswith("-1") and rng.random() < _OLD_CHANCE
    return msgspec.structs.replace(program, knows_flows=False) if is_old else program


def _draw_flow(rng: random.Random, plan: Plan, number: int, client: str, first: int) -> PlannedFlow:
    at = rng.uniform(0.5, plan.horizon)
    draw = _StepDrawing(rng, first, at)
    steps = draw.draw(rng.choice((1, 3, 6, 6, 12, 25)))
    return PlannedFlow(
        index=number,
        client=client,
        at=at,
        steps=steps,
        stops=rng.random() < 0.25,
        timeout=rng.choice((0.5, 5.0)) if rng.random() < 0.08 else None,
        ttl=rng.choice((1.0, 20.0)) if rng.random() < 0.3 else None,
        key=rng.choice(_KEYS) if rng.random() < 0.2 else None,
        silent=rng.random() < 0.1,
    )


def _faults(rng: random.Random, plan: Plan, flow: PlannedFlow) -> list[AnyFault]:
    found: list[AnyFault] = []
    if rng.random() < 0.1:
        when = When(at=flow.at + rng.choice((0.01, rng.uniform(0.0, 5.0))))
        found.append(faults.ChangeFlow(when=when, flow=flow.index, what=faults.FlowChange.CANCEL))
    fails = any(step.job.code is Code.FAIL for step in flow.steps)
    for _ in range(rng.choice((1, 2, 4) if fails else (0, 0, 1))):
        what = rng.choice((*[faults.FlowChange.RETRY] * 6, faults.FlowChange.CANCEL, faults.FlowChange.REMOVE))
        when = When(at=rng.uniform(flow.at, plan.horizon + 2.0))
        found.append(faults.ChangeFlow(when=when, flow=flow.index, what=what))
    return found


class _StepDrawing:
    """Draws the steps of one flow."""

    def __init__(self, rng: random.Random, first: int, at: float) -> None:
        self._rng = rng
        self._first = first
        self._at = at
        self._fails = rng.choice((0.0, 0.0, 0.1, 0.3))
        self._marked = rng.choice((0.0, 0.3, 0.5) if self._fails else (0.0, 0.0, 0.3))
        self._size = _LARGE if rng.random() < 0.1 else 0
        self._steps: list[PlannedStep] = []

    def draw(self, count: int) -> tuple[PlannedStep, ...]:
        wide = self._rng.random() < 0.2
        while len(self._steps) < (count * 3 if self._size else count):
            self._steps.append(self._draw_each() if self._rng.random() < 0.15 else self._draw_step(wide=wide))
        return tuple(self._steps)

    def _draw_step(self, *, wide: bool) -> PlannedStep:
        rng, before = self._rng, len(self._steps)
        most = _LONGEST_WIDE if wide else 3
        count = min(before, rng.choice((0, 1, 1, 2, most)))
        parents = tuple(sorted(rng.sample(range(before), count)))
        mark = rng.choice("!?") if parents and rng.random() < self._marked else ""
        items = rng.choice((0, 1, 3, 12)) if rng.random() < 0.2 else None
        adds = rng.choice((1, 2)) if rng.random() < 0.08 else 0
        return PlannedStep(self._draw_job(), parents, mark, items, adds=adds)

    def _draw_each(self) -> PlannedStep:
        """Draw a step with items, if a step returns a list."""
        lists = [number for number, step in enumerate(self._steps) if step.items is not None or step.each]
        if not lists:
            return self._draw_step(wide=False)
        parent = self._rng.choice(lists)
        others = [number for number in range(len(self._steps)) if number != parent]
        others = self._rng.sample(others, min(len(others), self._rng.choice((0, 0, 1))))
        return PlannedStep(self._draw_job(), (parent, *others), each=True)

    def _draw_job(self) -> Job:
        rng, code, times = self._rng, Code.RUN, 0
        chance = rng.random()
        if chance < self._fails:
            code, times = Code.FAIL, rng.choice((1, 1, 2, ALWAYS))
        elif chance > 0.98:
            code, times = Code.KILL, 1
        return Job(
            index=self._first + len(self._steps),
            client="",
            at=self._at,
            raw=False,
            code=code,
            seconds=rng.choice((0.01, 0.01, 0.05, rng.uniform(0.1, 3.0))),
            times=times,
            size=self._size,
            priority=rng.choice((5, 5, 0, 9)),
            attempts=rng.choice((1, 1, 1, 2)),
        )
