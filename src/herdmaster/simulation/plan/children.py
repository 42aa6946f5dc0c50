"""Let the code of some tasks submit children, and cancel some of these parents or give them a time limit."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.faults import Cancel, RestartServer, When
from herdmaster.simulation.plan.jobs import Code, Job
from herdmaster.simulation.plan.plan import Kind, Plan

_CHANCE: Final = 0.3
_PARENTS: Final = (1, 2, 4)
_LARGE: Final = 100_000
_LONG: Final = 25.0
"""Seconds that most children run: longer than it takes to cancel them."""


def with_children(plan: Plan) -> Plan:
    """Return the plan, perhaps with parents and their children."""
    rng = random.Random(f"herdmaster/{plan.seed}/children")
    clients = [each.name for each in plan.programs if each.kind is Kind.CLIENT and not each.reference and not each.herd]
    fit = [job for job in plan.jobs if job.client in clients and _is_fit(job)]
    if rng.random() >= _CHANCE or not fit:
        return plan
    parents = [_parent(rng, job) for job in rng.sample(fit, min(len(fit), rng.choice(_PARENTS)))]
    first = max(job.index for job in plan.all_jobs) + 1
    children = [_child(rng, job, rng.choice(clients)) for job in parents for _ in range(rng.choice((1, 1, 3)))]
    has_other_clocks = any(isinstance(fault, RestartServer) and fault.clock_ms for fault in plan.faults)
    children = [
        # A delay counts from the clock of one server.
        msgspec.structs.replace(child, index=first + number, delay=None if has_other_clocks else child.delay)
        for number, child in enumerate(children)
    ]
    by_index = {job.index: job for job in parents}
    jobs = (*(by_index.get(job.index, job) for job in plan.jobs), *children)
    found = [_cancel(job) for job in parents if job.cancel is not None]
    return msgspec.structs.replace(plan, jobs=jobs, faults=(*plan.faults, *found))


def _is_fit(job: Job) -> bool:
    return job.code is Code.RUN and not job.raw and not job.garbage and job.size < _LARGE and job.key is None


def _parent(rng: random.Random, job: Job) -> Job:
    seconds, cancel, timeout = rng.uniform(0.5, 5.0), job.cancel, None
    if rng.random() < 0.5:
        cancel = rng.uniform(0.0, seconds)
    elif rng.random() < 0.5:
        timeout = rng.uniform(0.2, seconds)
    attempts = rng.choice((1, 1, 2))
    return msgspec.structs.replace(
        job, code=Code.PARENT, seconds=seconds, cancel=cancel, timeout=timeout, attempts=attempts, expires=None
    )


def _child(rng: random.Random, parent: Job, client: str) -> Job:
    """Return a child that is submitted `at` seconds after its parent has noted its name."""
    return Job(
        index=-1,
        client=client,
        at=rng.choice((0.0, 0.0, rng.uniform(0.0, parent.seconds))),
        raw=False,
        code=Code.RUN,
        seconds=rng.choice((0.01, _LONG, _LONG)),
        delay=rng.choice((None, None, 1.0)),
        parent=parent.index,
    )


def _cancel(job: Job) -> Cancel:
    return Cancel(when=When(at=job.at + (job.cancel or 0.0)), job=job.index)
