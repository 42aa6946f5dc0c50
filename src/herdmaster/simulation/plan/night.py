"""The plan of a night: schedules for eight hours, during which masters, servers and operators do what they do."""

from __future__ import annotations

import random
from typing import Final

from herdmaster.core.schedules import Missed, Overlap
from herdmaster.core.timetable import Cron, Every, Timetable
from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.faults import AnyFault, ChangeSchedule, ScheduleChange, StoreSchedule, When
from herdmaster.simulation.plan.hardware import Disk, Latency
from herdmaster.simulation.plan.jobs import Code, Job
from herdmaster.simulation.plan.plan import Kind, Plan, Program

HOURS: Final = 8
ZONE: Final = "Europe/Berlin"
_HOUR: Final = 3600.0
_BEGINS: Final = 30.0
_FAULTS_APART: Final = (600.0, 2400.0)
_OUTAGE: Final = 1500.0
_MASTERS: Final = ("master-1", "master-2")

_SCHEDULES: Final[tuple[tuple[str, Timetable, float, Missed, Overlap], ...]] = (
    # name, when, how long its task runs in seconds, missed, overlap
    ("hourly", Cron("@hourly", ZONE), 20.0, Missed.ALL, Overlap.ALLOW),
    ("often", Every(600_000), 1.0, Missed.LATEST, Overlap.SKIP),
    ("backup", Cron("30 2 * * *", ZONE), 900.0, Missed.LATEST, Overlap.WAIT),
    ("long", Cron("15 */2 * * *", ZONE), 1800.0, Missed.LATEST, Overlap.CANCEL),
)


def night_plan(seed: int) -> Plan:
    """Return the plan. The seed decides which faults happen, and when."""
    rng = random.Random(f"herdmaster/{seed}/night")
    horizon = HOURS * _HOUR
    jobs = tuple(
        Job(index, "", 0.0, raw=False, code=Code.RUN, seconds=seconds, silent=True, cancel=0.0)
        for index, (_, _, seconds, _, _) in enumerate(_SCHEDULES)
    )
    return Plan(
        seed=seed,
        addresses=("zk1:2181", "zk2:2181", "zk3:2181"),
        namespace="",
        latency=Latency(0.0005, 0.05),
        disk=Disk(0.002),
        session_timeout=10.0,
        outcome_ttl=90.0,
        max_deliveries=5,
        horizon=horizon,
        programs=(
            Program("master-1", Kind.MASTER, 0.0, skew_ms=40_000),
            Program("master-2", Kind.MASTER, 1.0, skew_ms=-3_600_000),
            Program("worker-1", Kind.WORKER, 0.0, slots=4),
        ),
        jobs=jobs,
        faults=(*_stored(horizon), *_outage(rng, horizon), *_pause(rng, horizon), *_others(rng, horizon)),
        sweeps=False,
    )


def _stored(horizon: float) -> list[AnyFault]:
    return [
        StoreSchedule(
            when=When(at=_BEGINS + index),
            name=name,
            job=index,
            timetable=timetable,
            missed=missed,
            overlap=overlap,
            jitter_ms=0,
            grace_ms=None,
            ends=horizon,
        )
        for index, (name, timetable, _, missed, overlap) in enumerate(_SCHEDULES)
    ]


def _outage(rng: random.Random, horizon: float) -> list[AnyFault]:
    """Both masters lose power for long."""
    at = rng.uniform(0.4, 0.6) * horizon
    return [
        faults.Crash(when=When(at=at + number), program=name, seconds=_OUTAGE, power=True)
        for number, name in enumerate(_MASTERS)
    ]


def _pause(rng: random.Random, horizon: float) -> list[AnyFault]:
    """An operator pauses a schedule, and resumes it after half an hour."""
    at = rng.uniform(0.7, 0.85) * horizon
    return [
        ChangeSchedule(when=When(at=at), name="often", what=ScheduleChange.PAUSE),
        ChangeSchedule(when=When(at=at + _HOUR / 2), name="often", what=ScheduleChange.RESUME),
        ChangeSchedule(when=When(at=at + _HOUR / 2 + 60.0), name="hourly", what=ScheduleChange.RUN),
    ]


def _others(rng: random.Random, horizon: float) -> list[AnyFault]:
    found: list[AnyFault] = []
    at = rng.uniform(*_FAULTS_APART)
    while at < horizon:
        found.append(_draw(rng, When(at=at)))
        at += rng.uniform(*_FAULTS_APART)
    return found


def _draw(rng: random.Random, when: When) -> AnyFault:
    master = rng.choice(_MASTERS)
    return rng.choice((
        faults.Crash(when=when, program=master, seconds=rng.uniform(30.0, 600.0), power=True),
        faults.Leave(when=when, program=master, seconds=rng.uniform(5.0, 60.0)),
        faults.Partition(when=when, program=master, seconds=rng.uniform(5.0, 40.0), everywhere=True),
        faults.Pause(when=when, program=master, seconds=rng.uniform(5.0, 40.0), io_first=False),
        faults.JumpClock(when=when, program=master, milliseconds=rng.choice((-86_400_000, 86_400_000))),
        faults.Crash(when=when, program="worker-1", seconds=rng.uniform(5.0, 60.0), power=False),
        faults.RestartServer(when=when, seconds=rng.uniform(0.5, 5.0)),
    ))  # fmt: skip
