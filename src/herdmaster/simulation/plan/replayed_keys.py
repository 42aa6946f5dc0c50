"""Add dead tasks with keys to some of the plans, and replays of them while clients claim the same keys."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.core.keys import KeyHolds
from herdmaster.simulation.plan.faults import AnyFault, Replay, When
from herdmaster.simulation.plan.features import KEYS
from herdmaster.simulation.plan.jobs import ALWAYS, Code, Job
from herdmaster.simulation.plan.plan import Kind, Plan

_CHANCE: Final = 0.08
_CLAIMS: Final = 4
_ATTEMPTS: Final = 2
_ROUNDS: Final = 2


def with_replayed_keys(plan: Plan) -> Plan:
    """Return the plan, perhaps with a task for each of two keys that dies and runs well after its replay, with replays
    by several operators, and with claims at about the same moments."""
    rng = random.Random(f"herdmaster/{plan.seed}/replayed keys")
    clients = [each.name for each in plan.programs if each.kind is Kind.CLIENT and not each.reference]
    if rng.random() >= _CHANCE or not clients:
        return plan
    at = rng.uniform(1.0, plan.horizon / 2)
    jobs, found = list(plan.jobs), list[AnyFault]()
    for key in rng.sample(KEYS, 2):
        times = rng.choice((_ATTEMPTS, 2 * _ATTEMPTS, ALWAYS))
        jobs.append(_job(rng, len(jobs), rng.choice(clients), at, key, times))
    for _ in range(_ROUNDS):
        at += rng.uniform(0.5, 3.0)
        found += [Replay(when=When(at=at + rng.uniform(0.0, 0.05))) for _ in range(rng.choice((1, 2)))]
        for _ in range(_CLAIMS):
            times = rng.choice((0, 0, ALWAYS))
            claimed = at + rng.uniform(-0.05, 0.2)
            jobs.append(_job(rng, len(jobs), rng.choice(clients), claimed, rng.choice(KEYS), times))
    return msgspec.structs.replace(plan, jobs=tuple(jobs), faults=(*plan.faults, *found))


def _job(rng: random.Random, index: int, client: str, at: float, key: str, times: int) -> Job:
    return Job(
        index,
        client,
        at,
        raw=False,
        code=Code.FAIL if times else Code.RUN,
        seconds=rng.uniform(0.0, 0.5),
        times=times,
        key=key,
        key_holds=rng.choice((KeyHolds.DONE, KeyHolds.DONE, KeyHolds.ALWAYS)),
        attempts=_ATTEMPTS,
    )
