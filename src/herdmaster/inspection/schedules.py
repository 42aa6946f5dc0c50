"""Reads schedules with their ticks, and what became of their last tasks."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.layout import NEVER, TickName
from herdmaster.core.names import parse_schedule_name
from herdmaster.core.outcome import decode_outcome
from herdmaster.core.schedule_decisions import first_due
from herdmaster.core.schedules import Schedule, Tick, decode_schedule, decode_tick, fire_time
from herdmaster.core.timetable import TimetableError
from herdmaster.errors import BadOutcome, BadSchedule
from herdmaster.inspection.missing import find_missing
from herdmaster.inspection.reading import names_of
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Node

_AT_ONCE: Final = 100
_MAX_TRIES: Final = 10
"""A tick may move on between its listing and its reading. A schedule without a tick is looked for as often."""


class StoredSchedule(msgspec.Struct, frozen=True):
    """A schedule as ZooKeeper has it. `schedule` and `tick` are None if their data cannot be used, which `problem`
    explains; `tick_name` is None if the schedule has no tick. `created_ms` is when the tick was made, by the servers'
    clock."""

    name: str
    version: int
    schedule: Schedule | None
    tick_name: TickName | None
    tick: Tick | None
    created_ms: int
    problem: str | None = None


class ScheduleState(enum.StrEnum):
    """`BROKEN`: it cannot be read, or its timetable is not known here. `ENDED`: there is no next time."""

    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"
    BROKEN = "broken"


class LastTask(enum.StrEnum):
    """What became of the last task. `UNENDED`: it waits, is delayed or runs. `GONE`: it has ended, and its outcome was
    collected or not kept."""

    UNENDED = "unended"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DEAD = "dead"
    GONE = "gone"


class ScheduleSeen(msgspec.Struct, frozen=True):
    """A schedule for people. `due_ms` is its next time, `next_ms` when the task for that is made: later by the jitter.
    Both are estimates as long as no primary has planned the first tick. `last` is None without a last task."""

    name: str
    state: ScheduleState
    schedule: Schedule | None
    tick: Tick
    due_ms: int | None = None
    next_ms: int | None = None
    last: LastTask | None = None
    problem: str | None = None


async def list_schedules(client: Client, names: Collection[str] | None = None) -> list[ScheduleSeen]:
    """Return all schedules, or those of these names, by name. Raises as `read_schedules`."""
    stored = await read_schedules(client, names)
    ends = await _find_ends(client, [each.tick.task for each in stored if each.tick and each.tick.task])
    return [_see(each, ends) for each in stored]


async def find_schedule(client: Client, name: str) -> ScheduleSeen | None:
    """Return a schedule; None if there is none of this name. Raises as `read_schedules`."""
    found = await list_schedules(client, [name])
    return found[0] if found else None


async def read_schedules(client: Client, names: Collection[str] | None = None) -> list[StoredSchedule]:
    """Return all schedules with their ticks, or those of these names, by name.

    The schedule is read before its tick, so a change at the version that was read misses nothing of the tick.
    Raises the errors of ZooKeeper.
    """
    await client.sync()
    found: dict[str, StoredSchedule] = {}
    left = None if names is None else set(names)
    for tries in range(1, _MAX_TRIES + 1):
        schedules, ticks = map(names_of, await client.multi_children((layout.SCHEDULES, layout.TICKS)))
        by_schedule = {tick.schedule: tick for tick in map(layout.parse_tick_name, ticks) if tick is not None}
        wanted = [name for name in schedules if parse_schedule_name(name) and (left is None or name in left)]
        left = set()
        for start in range(0, len(wanted), _AT_ONCE):
            some = [(name, by_schedule.get(name)) for name in wanted[start : start + _AT_ONCE]]
            for (name, _), stored in zip(some, await _read(client, some), strict=True):
                if stored is None or (stored.tick_name is None and tries < _MAX_TRIES):
                    left.add(name)
                else:
                    found[name] = stored
        if not left:
            break
    return [found[name] for name in sorted(found)]


async def _read(client: Client, some: Sequence[tuple[str, TickName | None]]) -> list[StoredSchedule | None]:
    """Read schedules and ticks. None for a schedule that is gone."""
    paths = [
        path
        for name, tick in some
        for path in (layout.schedule_path(name), layout.TICKS if tick is None else layout.tick_path(tick))
    ]
    replies = await client.multi_read(paths)
    return [
        _stored(name, tick, schedule_reply, tick_reply)
        for (name, tick), schedule_reply, tick_reply in zip(some, replies[::2], replies[1::2], strict=True)
    ]


def _stored(
    name: str, tick_name: TickName | None, schedule_reply: Node | errors.ServerError, reply: Node | errors.ServerError
) -> StoredSchedule | None:
    if isinstance(schedule_reply, errors.NoNode):
        return None
    if isinstance(schedule_reply, errors.ServerError):
        raise schedule_reply
    if isinstance(reply, errors.ServerError) and not isinstance(reply, errors.NoNode):
        raise reply
    data, stat = schedule_reply
    problem: str | None = None
    schedule: Schedule | None = None
    tick: Tick | None = None
    try:
        schedule = decode_schedule(data)
    except BadSchedule as error:
        problem = str(error)
    is_of_another = schedule is not None and tick_name is not None and schedule.id != tick_name.id
    if tick_name is None or is_of_another or isinstance(reply, errors.NoNode):
        return StoredSchedule(name, stat.version, schedule, None, None, stat.mtime, problem or _NO_TICK)
    try:
        tick = decode_tick(reply[0])
    except BadSchedule as error:
        problem = problem or str(error)
    return StoredSchedule(name, stat.version, schedule, tick_name, tick, reply[1].ctime, problem)


_NO_TICK: Final = "it has no tick, which a program must have deleted: `herd schedules resume` makes one"


def _see(stored: StoredSchedule, ends: dict[str, LastTask]) -> ScheduleSeen:
    tick = stored.tick or Tick()
    last = None if tick.task is None else ends.get(tick.task)
    schedule, name = stored.schedule, stored.tick_name
    if schedule is None or name is None or stored.problem is not None:
        return ScheduleSeen(stored.name, ScheduleState.BROKEN, schedule, tick, last=last, problem=stored.problem)
    if schedule.paused:
        return ScheduleSeen(stored.name, ScheduleState.PAUSED, schedule, tick, last=last)
    due_ms = tick.due_ms
    try:
        if due_ms is None and name.due_ms != NEVER:
            due_ms = first_due(schedule, tick.since_ms or stored.created_ms)
        else:
            first_due(schedule, stored.created_ms)  # a timetable that is not known here
    except TimetableError as error:
        return ScheduleSeen(stored.name, ScheduleState.BROKEN, schedule, tick, last=last, problem=str(error))
    if tick.problem is not None:
        problem = f"a primary says: {tick.problem}"
        return ScheduleSeen(stored.name, ScheduleState.BROKEN, schedule, tick, due_ms, last=last, problem=problem)
    if due_ms is None:
        return ScheduleSeen(stored.name, ScheduleState.ENDED, schedule, tick, last=last)
    next_ms = fire_time(stored.name, schedule, due_ms)
    return ScheduleSeen(stored.name, ScheduleState.ACTIVE, schedule, tick, due_ms, next_ms, last)


async def _find_ends(client: Client, tasks: Sequence[str]) -> dict[str, LastTask]:
    """Return what became of each task."""
    ends: dict[str, LastTask] = {}
    for start in range(0, len(tasks), _AT_ONCE):
        some = tasks[start : start + _AT_ONCE]
        paths = [path for task in some for path in (layout.dead_path(task), layout.status_path(task))]
        replies = await client.multi_read(paths)
        for task, dead, status in zip(some, replies[::2], replies[1::2], strict=True):
            if isinstance(dead, tuple):
                ends[task] = LastTask.DEAD
            elif isinstance(status, tuple):
                ends[task] = _outcome(task, status[0])
    unknown = [task for task in tasks if task not in ends]
    missing = set(await find_missing(client, unknown)) if unknown else set[str]()
    return ends | _unended(unknown, missing)


def _unended(tasks: Iterable[str], missing: Collection[str]) -> dict[str, LastTask]:
    return {task: LastTask.GONE if task in missing else LastTask.UNENDED for task in tasks}


def _outcome(task: str, data: bytes | None) -> LastTask:
    try:
        return LastTask(decode_outcome(task, data or b"").state.value)
    except (BadOutcome, ValueError):
        return LastTask.GONE
