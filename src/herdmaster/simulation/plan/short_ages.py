"""Let sweeps come so early in some of the plans that they race with clients: that collect outcomes, come back to their
journals, or share outcomes. In some of the plans that are swept at last, let batches of the history be merged."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.jobs import DEFAULT, Code, Job
from herdmaster.simulation.plan.plan import Ages, Kind, Plan

_CHANCE: Final = 0.1
_LATE_CHANCE: Final = 0.7
_LATE: Final = 8
_TTLS: Final = (1.0, 3.0)


def with_short_ages(plan: Plan) -> Plan:
    """Return the plan, perhaps with short times to live, or with tasks long after the others, whose batches make the
    history too large."""
    rng = random.Random(f"herdmaster/{plan.seed}/short ages")
    if plan.sweeps:
        return _with_late_jobs(rng, plan)
    if rng.random() >= _CHANCE:
        return plan
    jobs = tuple(_with_ttl(rng, job) for job in plan.jobs)
    ages = Ages(journal=rng.uniform(0.5, 1.5) * plan.session_timeout, linger=rng.uniform(0.5, 3.0))
    return msgspec.structs.replace(plan, jobs=jobs, ages=ages)


def _with_ttl(rng: random.Random, job: Job) -> Job:
    has_ttl = not job.raw and not job.garbage and rng.random() < 0.4
    return msgspec.structs.replace(job, outcome_ttl=rng.choice(_TTLS)) if has_ttl else job


def _with_late_jobs(rng: random.Random, plan: Plan) -> Plan:
    clients = [each.name for each in plan.programs if each.kind is Kind.CLIENT and not each.reference]
    if rng.random() >= _LATE_CHANCE or not clients:
        return plan
    at, jobs = plan.horizon + plan.ages.merged_after + 30.0, list(plan.jobs)
    for number in range(_LATE):
        late = at + number * rng.uniform(1.0, 8.0)
        jobs.append(Job(len(jobs), clients[0], late, raw=False, code=Code.RUN, seconds=0.01, queue=DEFAULT))
    return msgspec.structs.replace(plan, jobs=tuple(jobs))
