"""Make some flows children: the code of a task, or of a step of another flow, submits them. Cancel some of these
parents, or give them a time limit."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.faults import AnyFault, Cancel, ChangeFlow, FlowChange, When
from herdmaster.simulation.plan.jobs import Code, Job
from herdmaster.simulation.plan.plan import Kind, Plan

_CHANCE: Final = 0.5
_LARGE: Final = 100_000
_LONG: Final = 25.0
"""Seconds that some of their steps run: longer than it takes to cancel them."""


def with_child_flows(plan: Plan) -> Plan:
    """Return the plan, perhaps with flows of which some are children, if it has flows."""
    rng = random.Random(f"herdmaster/{plan.seed}/child flows")
    if not plan.flows or rng.random() >= _CHANCE:
        return plan
    return _Drawing(rng, plan).draw()


class _Drawing:
    """Makes the flows of a plan children, one after the other."""

    def __init__(self, rng: random.Random, plan: Plan) -> None:
        self._rng = rng
        self._plan = plan
        self._jobs = {job.index: job for job in plan.jobs}
        self._flows = {flow.index: flow for flow in plan.flows}
        self._found: list[AnyFault] = []
        self._ours = {each.name for each in plan.programs if each.kind is Kind.CLIENT and not each.reference}
        self._herds = {each.name for each in plan.programs if each.herd}

    def draw(self) -> Plan:
        rng, fit = self._rng, [flow.index for flow in self._plan.flows if flow.key is None]
        for index in rng.sample(fit, min(len(fit), rng.choice((1, 1, 2)))):
            parent = self._perhaps_step(index) if rng.random() < 0.4 else None
            if parent is None:
                parent = self._perhaps_job()
            if parent is not None:
                self._adopt(index, parent)
        jobs, flows = tuple(self._jobs.values()), tuple(self._flows.values())
        faults = (*self._plan.faults, *self._found)
        return msgspec.structs.replace(self._plan, jobs=jobs, flows=flows, faults=faults)

    def _perhaps_job(self) -> int | None:
        """Let the code of a task submit a child. Return its job, None if none is fit."""
        rng, clients = self._rng, self._ours - self._herds
        fit = [job for job in self._jobs.values() if job.client in clients and _is_fit(job)]
        if not fit:
            return None
        job = rng.choice(fit)
        if job.code is Code.PARENT:
            return job.index
        seconds, cancel, timeout = rng.uniform(0.5, 5.0), job.cancel, None
        chance = rng.random()
        if chance < 0.5:
            cancel = rng.uniform(0.0, seconds)
        elif chance < 0.75:
            timeout = rng.uniform(0.2, seconds)
        attempts = rng.choice((1, 1, 2))
        parent = self._jobs[job.index] = msgspec.structs.replace(
            job, code=Code.PARENT, seconds=seconds, cancel=cancel, timeout=timeout, attempts=attempts, expires=None
        )
        if cancel is not None:
            self._found.append(Cancel(when=When(at=parent.at + cancel), job=parent.index))
        return parent.index

    def _perhaps_step(self, child: int) -> int | None:
        """Let the code of a step of another flow submit a child. Return its job, None if there is none."""
        rng = self._rng
        others = [flow for flow in self._flows.values() if flow.index != child and flow.parent is None]
        fit = [
            (flow, number)
            for flow in others
            for number, step in enumerate(flow.steps)
            if step.job.code in {Code.RUN, Code.PARENT} and not step.each
        ]
        if not fit:
            return None
        flow, number = rng.choice(fit)
        step = flow.steps[number]
        job = msgspec.structs.replace(step.job, code=Code.PARENT, seconds=rng.uniform(0.5, 5.0))
        steps = (*flow.steps[:number], msgspec.structs.replace(step, job=job), *flow.steps[number + 1 :])
        self._flows[flow.index] = msgspec.structs.replace(flow, steps=steps)
        if rng.random() < 0.6:
            when = When(at=flow.at + rng.uniform(0.0, 5.0))
            self._found.append(ChangeFlow(when=when, flow=flow.index, what=FlowChange.CANCEL))
        return job.index

    def _adopt(self, index: int, parent: int) -> None:
        rng, flow = self._rng, self._flows[index]
        at = rng.choice((0.0, 0.0, rng.uniform(0.0, 2.0)))
        steps = tuple(
            msgspec.structs.replace(step, job=msgspec.structs.replace(step.job, seconds=_LONG))
            if rng.random() < 0.3 and not step.each
            else step
            for step in flow.steps
        )
        self._flows[index] = msgspec.structs.replace(flow, parent=parent, at=at, steps=steps)


def _is_fit(job: Job) -> bool:
    is_plain = job.code is Code.RUN and not job.raw and not job.garbage and job.size < _LARGE and job.key is None
    return job.parent is None and (is_plain or job.code is Code.PARENT)
