"""Add scopes, holds and releases of keys to the plans; to some also many jobs for the same keys."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.core.keys import KeyHolds, KeyScope
from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.faults import AnyFault, When
from herdmaster.simulation.plan.features import KEYS
from herdmaster.simulation.plan.jobs import ALWAYS, Code, Job
from herdmaster.simulation.plan.plan import Kind, Plan

_CHANCE: Final = 0.12
_CONTENDERS: Final = 12
_OLD_CHANCE: Final = 0.15
_RELEASE_CHANCE: Final = 0.3


def with_contested_keys(plan: Plan) -> Plan:
    """Return the plan with scopes, holds and releases of keys, perhaps with jobs that contend for keys."""
    rng = random.Random(f"herdmaster/{plan.seed}/keys")
    clients = [program.name for program in plan.programs if program.kind is Kind.CLIENT and not program.reference]
    jobs, found = list(plan.jobs), list[AnyFault]()
    if rng.random() < _CHANCE and clients:
        jobs += [_contender(rng, plan, len(jobs) + number, rng.choice(clients)) for number in range(_CONTENDERS)]
        found.append(faults.Replay(when=When(at=rng.uniform(plan.horizon / 2, plan.horizon))))
    for place, job in enumerate(jobs):
        if job.key is not None:
            jobs[place] = msgspec.structs.replace(
                job,
                key_scope=rng.choice((KeyScope.CALL, KeyScope.CALL, KeyScope.GLOBAL)),
                key_holds=rng.choice((KeyHolds.DONE, KeyHolds.DONE, KeyHolds.ALWAYS)),
                old_key=rng.random() < _OLD_CHANCE,
            )
            if rng.random() < _RELEASE_CHANCE:
                when = When(at=job.at, later=rng.choice((0.0, rng.uniform(0.0, 1.0), rng.uniform(0.0, 6.0))))
                found.append(faults.Release(when=when, job=job.index))
    return msgspec.structs.replace(plan, jobs=tuple(jobs), faults=(*plan.faults, *found))


def _contender(rng: random.Random, plan: Plan, index: int, client: str) -> Job:
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
