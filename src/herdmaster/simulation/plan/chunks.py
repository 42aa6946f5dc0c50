"""Let some flows go over lists in chunks, whose elements fail, and whose workers are killed in the middle."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.faults import AnyFault, When
from herdmaster.simulation.plan.flow_plans import PlannedFlow, PlannedStep
from herdmaster.simulation.plan.jobs import ALWAYS, Code, Job
from herdmaster.simulation.plan.plan import Kind, Plan

_REPLACED: Final = 0.4
_CHUNKS: Final = (2, 2, 3, 7, 100, None)
_LARGE: Final = 70_000
"""Bytes that the elements of an `each` share, so that each transaction makes one chunk only."""
_MOST_FAULTS: Final = 5
_ROUND_TRIPS: Final = 80
"""In so many delays of messages all chunks are made."""


def with_chunks(plan: Plan) -> Plan:
    """Return the plan, with chunks in some of its flows, if it has flows."""
    rng = random.Random(f"herdmaster/{plan.seed}/chunks")
    flows = [_with_some(rng, flow) for flow in plan.flows]
    if not flows or rng.random() >= _REPLACED:
        return msgspec.structs.replace(plan, flows=tuple(flows))
    place = rng.randrange(len(flows))
    flow = flows[place] = _Drawing(rng, plan, flows[place]).draw()
    found = _faults(rng, plan, flow)
    return msgspec.structs.replace(plan, flows=tuple(flows), faults=(*plan.faults, *found))


def _with_some(rng: random.Random, flow: PlannedFlow) -> PlannedFlow:
    """Return the flow, with chunks in place of some of its items."""
    steps = tuple(
        msgspec.structs.replace(step, chunk=rng.choice(_CHUNKS)) if step.each and rng.random() < 0.5 else step
        for step in flow.steps
    )
    return msgspec.structs.replace(flow, steps=steps)


def _faults(rng: random.Random, plan: Plan, flow: PlannedFlow) -> list[AnyFault]:
    workers = [each.name for each in plan.programs if each.kind is Kind.WORKER]
    making = _ROUND_TRIPS * plan.latency.typical
    found = [_hit(rng, flow.at, making, rng.choice(workers)) for _ in range(rng.randrange(_MOST_FAULTS))]
    for _ in range(rng.choice((0, 1, 3))):
        when = When(at=flow.at + rng.uniform(0.0, 6.0))
        found.append(faults.ChangeFlow(when=when, flow=flow.index, what=faults.FlowChange.RETRY))
    return found


def _hit(rng: random.Random, at: float, making: float, worker: str) -> AnyFault:
    """Draw a fault of a worker while chunks are made, or run."""
    when = When(at=at + rng.uniform(0.0, rng.choice((making, making, 1.0, 4.0))))
    seconds = rng.uniform(0.01, 12.0)
    return rng.choice((
        faults.Crash(when=when, program=worker, seconds=seconds, power=rng.random() < 0.5),
        faults.Crash(when=when, program=worker, seconds=seconds, power=rng.random() < 0.5),
        faults.Pause(when=when, program=worker, seconds=seconds, io_first=rng.random() < 0.5),
        faults.Cut(when=when, program=worker),
        faults.CutInMessage(when=when, program=worker, up=rng.random() < 0.5),
        faults.Expire(when=when, program=worker),
    ))  # fmt: skip


class _Drawing:
    """Draws a flow that goes over a list in chunks, in place of another one."""

    def __init__(self, rng: random.Random, plan: Plan, flow: PlannedFlow) -> None:
        self._rng = rng
        self._flow = flow
        self._first = max(job.index for job in plan.all_jobs) + 1
        self._steps: list[PlannedStep] = []

    def draw(self) -> PlannedFlow:
        rng = self._rng
        is_large = rng.random() < 0.4
        self._add(items=30 if is_large else rng.choice((0, 1, 5, 12, 30)))
        if rng.random() < 0.3:
            self._add()
        others = tuple(range(1, len(self._steps)))
        chunk, size = (rng.choice((3, 7)), _LARGE) if is_large else (rng.choice(_CHUNKS), 0)
        chunks = self._add(0, *others, chunk=chunk, fails=True, size=size)
        if rng.random() < 0.7:
            self._add(chunks, mark=rng.choice(("", "", "?", "!")))
        if rng.random() < 0.5:
            following = self._add(chunks, chunk=rng.choice(_CHUNKS), fails=True)
            self._add(chunks, following, mark=rng.choice(("", "?")))
        return msgspec.structs.replace(self._flow, steps=tuple(self._steps))

    def _add(
        self,
        *parents: int,
        items: int | None = None,
        chunk: int | None = 1,
        mark: str = "",
        fails: bool = False,
        size: int = 0,
    ) -> int:
        """Add a step, an `each` where it may fail, and return its number."""
        number = len(self._steps)
        job = self._job(number, fails=fails, size=size)
        self._steps.append(PlannedStep(job, parents, mark, items, each=fails, chunk=chunk))
        return number

    def _job(self, number: int, *, fails: bool, size: int) -> Job:
        rng, code, times = self._rng, Code.RUN, 0
        if fails and rng.random() < 0.5:
            code = rng.choice((Code.FAIL, Code.FAIL, Code.KILL))
            times = 1 if code is Code.KILL else rng.choice((1, 1, 2, ALWAYS))
        return Job(
            index=self._first + number,
            client="",
            at=self._flow.at,
            raw=False,
            code=code,
            seconds=rng.choice((0.01, 0.05, rng.uniform(0.1, 2.0))) if number else 0.0,
            times=times,
            size=size,
            attempts=rng.choice((1, 1, 2)) if fails else 1,
        )
