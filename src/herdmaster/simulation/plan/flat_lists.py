"""Let some flows go over lists of lists, and write with a codec what some of their steps take and return."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.flow_plans import PlannedFlow, PlannedStep
from herdmaster.simulation.plan.jobs import ALWAYS, Code, Job
from herdmaster.simulation.plan.plan import Plan

_CHANCE: Final = 0.5
_LENGTHS: Final = (0, 1, 3, 8)
_CHUNKS: Final = (1, 1, 2, 3, 7, 100, None)


def with_flat_lists(plan: Plan) -> Plan:
    """Return the plan, perhaps with more steps in one of its flows, if it has flows."""
    rng = random.Random(f"herdmaster/{plan.seed}/flat lists")
    if not plan.flows or rng.random() >= _CHANCE:
        return plan
    flows = list(plan.flows)
    place = rng.randrange(len(flows))
    flows[place] = _Drawing(rng, plan, flows[place]).draw()
    return msgspec.structs.replace(plan, flows=tuple(flows))


class _Drawing:
    """Draws the steps that follow those of a flow. `codec` is the share of steps that have one."""

    def __init__(self, rng: random.Random, plan: Plan, flow: PlannedFlow) -> None:
        self._rng = rng
        self._flow = flow
        self._first = max(job.index for job in plan.all_jobs) + 1
        self._codec = rng.choice((0.0, 0.3, 1.0))
        self._steps = list(flow.steps)

    def draw(self) -> PlannedFlow:
        rng = self._rng
        items, lists = rng.choice(_LENGTHS), rng.choice(_LENGTHS)
        if rng.random() < 0.3:
            made = self._add(items=items, lists=lists)
        else:
            made = self._add(self._add(items=items), each=True, lists=lists)
        others = [each for each in range(len(self._flow.steps)) if rng.random() < 0.1]
        flat = self._add(made, *others, each=True, flat=True)
        if rng.random() < 0.6:
            self._add(flat, mark=rng.choice(("", "", "?", "!")))
        if rng.random() < 0.3:
            self._add(flat, each=True)
        return msgspec.structs.replace(self._flow, steps=tuple(self._steps))

    def _add(
        self,
        *parents: int,
        items: int | None = None,
        each: bool = False,
        lists: int | None = None,
        flat: bool = False,
        mark: str = "",
    ) -> int:
        """Add a step, and return its number."""
        rng, number = self._rng, len(self._steps)
        chunk, codec = rng.choice(_CHUNKS) if each else 1, rng.random() < self._codec
        job = self._job(fails=each)
        self._steps.append(
            PlannedStep(job, parents, mark, items, each=each, chunk=chunk, lists=lists, flat=flat, codec=codec)
        )
        return number

    def _job(self, *, fails: bool) -> Job:
        rng, code, times = self._rng, Code.RUN, 0
        if fails and rng.random() < 0.3:
            code = rng.choice((Code.FAIL, Code.FAIL, Code.KILL))
            times = 1 if code is Code.KILL else rng.choice((1, 1, 2, ALWAYS))
        return Job(
            index=self._first + len(self._steps) - len(self._flow.steps),
            client="",
            at=self._flow.at,
            raw=False,
            code=code,
            seconds=rng.choice((0.01, 0.05, rng.uniform(0.1, 1.0))),
            times=times,
            attempts=rng.choice((1, 1, 2)) if fails else 1,
        )
