"""What operators do to schedules."""

from __future__ import annotations

from typing import Final

import msgspec

from herdmaster.core.names import UlidFactory
from herdmaster.core.payload import Call, encode_call
from herdmaster.core.schedules import Schedule
from herdmaster.core.timetable import Every
from herdmaster.operations import schedules
from herdmaster.simulation.plan.faults import ScheduleChange
from herdmaster.simulation.plan.jobs import CALL
from herdmaster.simulation.world.errands import AddSchedule, EditSchedule
from herdmaster.simulation.world.process import UNIX_EPOCH_MS, Process
from herdmaster.zookeeper.client import Client

_OTHER_PERIOD_MS: Final = 1300


async def run_errand(client: Client, process: Process, errand: AddSchedule | EditSchedule) -> None:
    """Store or change a schedule. Raises as the operations do."""
    if isinstance(errand, AddSchedule):
        schedule = _planned(errand, process.rng.randbytes(4).hex())
        await schedules.add_schedule(client, errand.planned.name, schedule)
        return
    name = errand.name
    match errand.what:
        case ScheduleChange.PAUSE:
            await schedules.pause_schedule(client, name)
        case ScheduleChange.RESUME:
            await schedules.resume_schedule(client, name)
        case ScheduleChange.CATCH_UP:
            await schedules.resume_schedule(client, name, catch_up=True)
        case ScheduleChange.EDIT:
            await schedules.edit_schedule(client, name, _with_other_period)
        case ScheduleChange.RUN:
            ulid = UlidFactory(process.unix_ms, process.rng.randbytes).new()
            await schedules.run_schedule(client, name, ulid, process.unix_ms())
        case ScheduleChange.REMOVE:
            await schedules.remove_schedule(client, name)


def _planned(errand: AddSchedule, identity: str) -> Schedule:
    planned, job = errand.planned, errand.job
    args = msgspec.Raw(msgspec.json.encode([job.index, "x" * job.size]))
    call = Call(1, CALL, args, msgspec.Raw(b"{}"), outcome=not job.silent)
    return Schedule(
        id=identity,
        timetable=planned.timetable,
        payload=msgspec.Raw(encode_call(call)),
        missed=planned.missed,
        grace_ms=planned.grace_ms,
        overlap=planned.overlap,
        jitter_ms=planned.jitter_ms,
        ends_ms=UNIX_EPOCH_MS + round(planned.ends * 1000),
    )


def _with_other_period(schedule: Schedule) -> Schedule:
    return msgspec.structs.replace(schedule, timetable=Every(_OTHER_PERIOD_MS))
