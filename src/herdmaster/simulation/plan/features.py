"""Add features to the plans of half the worlds: retries, delays, expiry, keys, cancelling, queue limits."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.core.payload import MAX_PAYLOAD
from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.faults import AnyFault, When
from herdmaster.simulation.plan.jobs import ALWAYS, DEFAULT, OTHER, Code, Job
from herdmaster.simulation.plan.plan import Kind, Plan, Program

_CHANCE: Final = 0.5
_SEEN_SECONDS: Final = 2.5
_BURST: Final = 12
KEYS: Final = ("the only one", "another one", "a third one")


def with_features(plan: Plan) -> Plan:
    """Return the plan, perhaps with features added."""
    rng = random.Random(f"herdmaster/{plan.seed}/wishes")
    if rng.random() >= _CHANCE:
        return plan
    share = rng.choice((0.1, 0.3, 0.6))
    ours = {program.name for program in plan.programs if not program.reference}
    jobs = tuple(_with_features(rng, job, share) if job.client in ours else job for job in plan.jobs)
    programs = tuple(_without_rare(rng, program) for program in plan.programs)
    found = [_cancel(job) for job in jobs if job.cancel is not None]
    if rng.random() < 0.3:
        found += [_limit(rng, plan) for _ in range(rng.choice((1, 1, 2)))]
    if rng.random() < 0.3:
        found.append(faults.Replay(when=When(at=rng.uniform(plan.horizon / 2, plan.horizon))))
    extended = msgspec.structs.replace(plan, jobs=jobs, programs=programs, faults=(*plan.faults, *found))
    return _with_bursts(extended, [fault for fault in found if isinstance(fault, faults.LimitQueue)])


def _with_features(rng: random.Random, job: Job, share: float) -> Job:
    changes: dict[str, object] = {}
    if rng.random() < share / 2:
        changes["delay"] = rng.choice((0.001, rng.uniform(0.1, 3.0), rng.uniform(0.1, 12.0)))
    if rng.random() < share / 3:
        changes["key"] = rng.choice(KEYS)
    if rng.random() < share / 3:
        changes["cancel"] = rng.choice((0.0, rng.uniform(0.0, 0.2), rng.uniform(0.0, 5.0)))
    if not job.raw and not job.garbage:
        if rng.random() < share:
            changes["attempts"] = rng.choice((2, 3, 5))
            changes["backoff"] = rng.choice((0.0, 0.01, 1.0))
            if job.code is Code.RUN and rng.random() < 0.6:
                changes["code"], changes["times"] = Code.FAIL, rng.choice((1, 2, ALWAYS))
        if rng.random() < share / 3 and job.size < MAX_PAYLOAD:
            changes["expires"] = rng.choice((0.0, rng.uniform(0.0, 0.5), rng.uniform(0.0, 6.0)))
        if rng.random() < share / 4:
            changes["rare"] = True
        if job.code is Code.HANG and rng.random() < 0.5:
            changes["timeout"] = rng.uniform(0.1, 2.0)
    return msgspec.structs.replace(job, **changes)


def _with_bursts(plan: Plan, limited: list[faults.LimitQueue]) -> Plan:
    """Add a burst of tasks for each rate limit, after every primary has seen the limit."""
    clients = [program.name for program in plan.programs if program.kind is Kind.CLIENT and not program.reference]
    jobs = list(plan.jobs)
    for fault in limited:
        if fault.limit is faults.Limit.SLOW and clients:
            at = fault.when.at + plan.session_timeout + _SEEN_SECONDS
            jobs += [
                Job(len(jobs) + number, clients[0], at, raw=False, code=Code.RUN, seconds=0.01, queue=fault.queue)
                for number in range(_BURST)
            ]
    return msgspec.structs.replace(plan, jobs=tuple(jobs))


def _without_rare(rng: random.Random, program: Program) -> Program:
    lacks = program.kind is Kind.WORKER and not program.reference and rng.random() < 0.4
    return msgspec.structs.replace(program, lacks=lacks)


def _cancel(job: Job) -> AnyFault:
    return faults.Cancel(when=When(at=job.at, later=job.cancel or 0.0), job=job.index)


def _limit(rng: random.Random, plan: Plan) -> AnyFault:
    return faults.LimitQueue(
        when=When(at=rng.uniform(0.0, plan.horizon)),
        queue=rng.choice((DEFAULT, DEFAULT, OTHER)),
        limit=rng.choice(tuple(faults.Limit)),
        seconds=plan.session_timeout + rng.uniform(1.0, 15.0),
    )
