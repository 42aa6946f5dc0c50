"""Submissions that want the same uniqueness keys, in some worlds many of them, and operators who release keys."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.core.keys import KeyHolds, KeyScope
from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.faults import AnyFault, When
from herdmaster.simulation.plan.features import KEYS
from herdmaster.simulation.plan.plan import ALWAYS, Code, Job, Kind, Plan

_CHANCE: Final = 0.12
_RIVALS: Final = 12
_OLD: Final = 0.15
_RELEASED: Final = 0.3


def with_rivals(plan: Plan) -> Plan:
    """The plan with more to say of its keys, from a chance of its own, so that everything else stays as it is."""
    rng = random.Random(f"herdmaster/{plan.seed}/keys")
    clients = [part.slot for part in plan.parts if part.kind is Kind.CLIENT and not part.reference]
    jobs, found = list(plan.jobs), list[AnyFault]()
    if rng.random() < _CHANCE and clients:
        jobs += [_rival(rng, plan, len(jobs) + number, rng.choice(clients)) for number in range(_RIVALS)]
        found.append(faults.Replay(when=When(at=rng.uniform(plan.horizon / 2, plan.horizon))))
    for place, job in enumerate(jobs):
        if job.key is not None:
            jobs[place] = msgspec.structs.replace(
                job,
                key_scope=rng.choice((KeyScope.CALL, KeyScope.CALL, KeyScope.GLOBAL)),
                key_holds=rng.choice((KeyHolds.DONE, KeyHolds.DONE, KeyHolds.ALWAYS)),
                old_key=rng.random() < _OLD,
            )
            if rng.random() < _RELEASED:
                when = When(at=job.at, later=rng.choice((0.0, rng.uniform(0.0, 1.0), rng.uniform(0.0, 6.0))))
                found.append(faults.Release(when=when, job=job.index))
    return msgspec.structs.replace(plan, jobs=tuple(jobs), faults=(*plan.faults, *found))


def _rival(rng: random.Random, plan: Plan, index: int, client: str) -> Job:
    code = rng.choice((Code.RUN, Code.FAIL))
    return Job(
        index,
        client,
        rng.uniform(0.0, plan.horizon),
        raw=False,
        code=code,
        seconds=rng.choice((0.0, rng.uniform(0.0, 2.0))),
        times=ALWAYS if code is Code.FAIL else 0,
        silent=rng.random() < 0.2,
        key=rng.choice(KEYS),
        attempts=rng.choice((1, 2)),
        rare=rng.random() < 0.2,
    )
