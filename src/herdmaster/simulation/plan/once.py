"""Let the code of some tasks save a result with `once`, and fail or lose its worker afterwards."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.faults import AnyFault, Crash, Cut, CutInMessage, Expire, Pause, When
from herdmaster.simulation.plan.jobs import Code, Job
from herdmaster.simulation.plan.plan import Kind, Plan

_CHANCE: Final = 0.3
_SHARES: Final = (0.2, 0.6, 1.0)
_MOST_FAULTS: Final = 6
_LARGE: Final = 500_000
"""Characters from which on a payload may be too large."""


def with_once(plan: Plan) -> Plan:
    """Return the plan, perhaps with such code, and with faults of workers while it runs."""
    rng = random.Random(f"herdmaster/{plan.seed}/once")
    if rng.random() >= _CHANCE:
        return plan
    share = rng.choice(_SHARES)
    ours = {each.name for each in plan.programs if each.kind is Kind.CLIENT and not each.reference}
    jobs = tuple(
        _save(rng, job) if job.client in ours and _is_plain(job) and rng.random() < share else job for job in plan.jobs
    )
    workers = [each.name for each in plan.programs if each.kind is Kind.WORKER]
    times = [job.at for job in jobs if job.code is Code.ONCE]
    found = [_hit(rng, rng.choice(times), rng.choice(workers)) for _ in range(rng.randrange(_MOST_FAULTS)) if times]
    return msgspec.structs.replace(plan, jobs=jobs, faults=(*plan.faults, *found))


def _is_plain(job: Job) -> bool:
    return job.code is Code.RUN and not job.raw and not job.garbage and job.size < _LARGE


def _save(rng: random.Random, job: Job) -> Job:
    attempts = rng.choice((1, 2, 3))
    return msgspec.structs.replace(
        job,
        code=Code.ONCE,
        attempts=attempts,
        times=rng.randrange(attempts),
        backoff=rng.choice((0.0, 0.01)),
        seconds=rng.choice((job.seconds, rng.uniform(0.1, 3.0))),
    )


def _hit(rng: random.Random, at: float, worker: str) -> AnyFault:
    when = When(at=at + rng.uniform(0.0, rng.choice((0.1, 1.0))))
    seconds = rng.uniform(0.01, 12.0)
    return rng.choice((
        Pause(when=when, program=worker, seconds=seconds, io_first=rng.random() < 0.5),
        Crash(when=when, program=worker, seconds=seconds, power=rng.random() < 0.5),
        Cut(when=when, program=worker),
        CutInMessage(when=when, program=worker, up=rng.random() < 0.5),
        Expire(when=when, program=worker),
    ))  # fmt: skip
