"""What submitters and operators want beyond a task's being run: further attempts, delays, expiry, keys, cancelling,
limits of queues. Added to the plans of half the worlds."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.core.payload import MAX_PAYLOAD
from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.faults import AnyFault, When
from herdmaster.simulation.plan.plan import ALWAYS, DEFAULT, OTHER, Code, Job, Kind, Part, Plan

_CHANCE: Final = 0.5
_KNOWN_SECONDS: Final = 2.5
_CROWD: Final = 12
KEYS: Final = ("the only one", "another one", "a third one")


def with_wishes(plan: Plan) -> Plan:
    """The plan, perhaps with wishes added to it."""
    rng = random.Random(f"herdmaster/{plan.seed}/wishes")
    if rng.random() >= _CHANCE:
        return plan
    much = rng.choice((0.1, 0.3, 0.6))
    ours = {part.slot for part in plan.parts if not part.reference}
    jobs = tuple(_wish(rng, job, much) if job.client in ours else job for job in plan.jobs)
    parts = tuple(_forget(rng, part) for part in plan.parts)
    found = [_cancel(job) for job in jobs if job.cancel is not None]
    if rng.random() < 0.3:
        found += [_govern(rng, plan) for _ in range(rng.choice((1, 1, 2)))]
    if rng.random() < 0.3:
        found.append(faults.Replay(when=When(at=rng.uniform(plan.horizon / 2, plan.horizon))))
    wished = msgspec.structs.replace(plan, jobs=jobs, parts=parts, faults=(*plan.faults, *found))
    return _with_crowds(wished, [fault for fault in found if isinstance(fault, faults.Govern)])


def _wish(rng: random.Random, job: Job, much: float) -> Job:
    changes: dict[str, object] = {}
    if rng.random() < much / 2:
        changes["delay"] = rng.choice((0.001, rng.uniform(0.1, 3.0), rng.uniform(0.1, 12.0)))
    if rng.random() < much / 3:
        changes["key"] = rng.choice(KEYS)
    if rng.random() < much / 3:
        changes["cancel"] = rng.choice((0.0, rng.uniform(0.0, 0.2), rng.uniform(0.0, 5.0)))
    if not job.raw and not job.garbage:
        if rng.random() < much:
            changes["attempts"] = rng.choice((2, 3, 5))
            changes["backoff"] = rng.choice((0.0, 0.01, 1.0))
            if job.code is Code.RUN and rng.random() < 0.6:
                changes["code"], changes["times"] = Code.FAIL, rng.choice((1, 2, ALWAYS))
        if rng.random() < much / 3 and job.size < MAX_PAYLOAD:
            changes["expires"] = rng.choice((0.0, rng.uniform(0.0, 0.5), rng.uniform(0.0, 6.0)))
        if rng.random() < much / 4:
            changes["rare"] = True
        if job.code is Code.HANG and rng.random() < 0.5:
            changes["timeout"] = rng.uniform(0.1, 2.0)
    return msgspec.structs.replace(job, **changes)


def _with_crowds(plan: Plan, limited: list[faults.Govern]) -> Plan:
    """A pace can only be seen where many tasks want to go at once: they come when all know of it."""
    clients = [part.slot for part in plan.parts if part.kind is Kind.CLIENT and not part.reference]
    jobs = list(plan.jobs)
    for fault in limited:
        if fault.limit is faults.Limit.SLOW and clients:
            at = fault.when.at + plan.session_timeout + _KNOWN_SECONDS
            jobs += [
                Job(len(jobs) + number, clients[0], at, raw=False, code=Code.RUN, seconds=0.01, queue=fault.queue)
                for number in range(_CROWD)
            ]
    return msgspec.structs.replace(plan, jobs=tuple(jobs))


def _forget(rng: random.Random, part: Part) -> Part:
    lacks = part.kind is Kind.WORKER and not part.reference and rng.random() < 0.4
    return msgspec.structs.replace(part, lacks=lacks)


def _cancel(job: Job) -> AnyFault:
    return faults.Cancel(when=When(at=job.at, later=job.cancel or 0.0), job=job.index)


def _govern(rng: random.Random, plan: Plan) -> AnyFault:
    return faults.Govern(
        when=When(at=rng.uniform(0.0, plan.horizon)),
        queue=rng.choice((DEFAULT, DEFAULT, OTHER)),
        limit=rng.choice(tuple(faults.Limit)),
        seconds=plan.session_timeout + rng.uniform(1.0, 15.0),
    )
