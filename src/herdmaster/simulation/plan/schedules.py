"""Add schedules to some of the plans, and operators who pause, edit, run and remove them."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.core.schedules import Missed, Overlap
from herdmaster.core.timetable import Cron, Every
from herdmaster.simulation.plan.faults import AnyFault, ChangeSchedule, ScheduleChange, StoreSchedule, When
from herdmaster.simulation.plan.jobs import Code, Job
from herdmaster.simulation.plan.plan import Plan

_CHANCE: Final = 0.15
_CHANGES: Final = (
    ScheduleChange.PAUSE,
    ScheduleChange.PAUSE,
    ScheduleChange.RESUME,
    ScheduleChange.CATCH_UP,
    ScheduleChange.EDIT,
    ScheduleChange.RUN,
    ScheduleChange.REMOVE,
)


def with_schedules(plan: Plan) -> Plan:
    """Return the plan, perhaps with schedules. All end when the faults do."""
    rng = random.Random(f"herdmaster/{plan.seed}/schedules")
    if rng.random() >= _CHANCE:
        return plan
    jobs, found = list(plan.jobs), list[AnyFault]()
    for _ in range(rng.choice((1, 1, 2, 4))):
        overlap = rng.choice(tuple(Overlap))
        job = Job(
            index=len(jobs),
            client="",
            at=0.0,
            raw=False,
            code=rng.choice((Code.RUN, Code.RUN, Code.RUN, Code.FAIL)),
            seconds=rng.choice((0.01, 0.01, rng.uniform(0.1, 4.0))),
            silent=rng.random() < 0.5,
            cancel=0.0 if overlap is Overlap.CANCEL else None,
        )
        jobs.append(job)
        found += _faults(rng, plan, job.index, overlap)
    return msgspec.structs.replace(plan, jobs=tuple(jobs), faults=(*plan.faults, *found))


def _faults(rng: random.Random, plan: Plan, job: int, overlap: Overlap) -> list[AnyFault]:
    at, name = rng.uniform(1.0, plan.horizon / 2), f"schedule-{job}"
    store = StoreSchedule(
        when=When(at=at),
        name=name,
        job=job,
        timetable=rng.choice((Every(1000), Every(1000), Every(1700), Every(3000), Cron("*/2 * * * * *", "Asia/Tokyo"))),
        missed=rng.choice(tuple(Missed)),
        overlap=overlap,
        jitter_ms=rng.choice((0, 0, 0, 400, 2500)),
        grace_ms=rng.choice((None, None, 0, 1500)),
        ends=plan.horizon,
    )
    changes = [
        ChangeSchedule(when=When(at=rng.uniform(at, plan.horizon)), name=name, what=rng.choice(_CHANGES))
        for _ in range(rng.choice((0, 0, 1, 3)))
    ]
    return [store, *changes]
