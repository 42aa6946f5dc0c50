"""Operations of people on schedules: add, edit, pause, resume, remove, run now, make up for past times.

Each is one transaction of the table at the version that was read. It is decided anew where another change came first,
and where a reply was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec

from herdmaster.core import schedule_moves
from herdmaster.core.layout import NEVER, UNPLANNED
from herdmaster.core.names import check_schedule_name, derived_ulid, raw_name, ulid_time_ms
from herdmaster.core.operations import Move
from herdmaster.core.schedule_decisions import MAX_TASKS, NextTick, first_due
from herdmaster.core.schedules import (
    NewScheduledTask,
    Schedule,
    Tick,
    encode_schedule,
    is_same_timing,
    name_of_tick,
    scheduled_task,
    unplanned,
)
from herdmaster.errors import ConfigurationError, HerdError, SubmissionUnknown
from herdmaster.inspection.schedules import StoredSchedule, read_schedules
from herdmaster.operations.committing import commit
from herdmaster.roles.shared.committer import MAX_BATCH_BYTES
from herdmaster.zookeeper.client import Client

MAX_BACKFILL: Final = 1000
"""The number of times that one request makes up for."""
_MAX_TRIES: Final = 20
_REQUESTS_REMEMBERED: Final = 8
_MAX_BYTES: Final = MAX_BATCH_BYTES * 3 // 4
_BYTES_BESIDE_PAYLOAD: Final = 400

Change = Callable[[Schedule], Schedule]
"""Returns a schedule with changes. It may be called several times, with newer schedules."""


class NoSuchSchedule(HerdError):
    """There is no schedule of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no schedule {name!r}: `herd schedules list` shows all")


class ScheduleExists(HerdError):
    """There is a schedule of this name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a schedule {name!r} already: edit it, or choose another name")


# --- one schedule ----------------------------------------------------------------------------------------------------


async def add_schedule(client: Client, name: str, schedule: Schedule) -> None:
    """Store a new schedule. Raises ScheduleExists; InvalidName, ConfigurationError and PayloadTooLarge for one that
    cannot work; and the errors of ZooKeeper, as all of these do."""
    move = creation(name, schedule)
    for _ in range(_MAX_TRIES):
        if await commit(client, [move]):
            return
        for stored in await read_schedules(client, [name]):
            if stored.schedule is not None and stored.schedule.id == schedule.id:
                return  # by a request whose reply was lost
            raise ScheduleExists(name)
    raise _uncertain(name)


async def edit_schedule(client: Client, name: str, change: Change, *, catch_up: bool = False) -> Schedule:
    """Change a schedule, and return it. If that changes when it is due, or ends a pause, its next time is found from
    now on; with `catch_up` a pause ends with the first time that was missed. Raises NoSuchSchedule, HerdError for a
    schedule that cannot be read, and as `add_schedule`."""
    for _ in range(_MAX_TRIES):
        stored = await _read_one(client, name)
        schedule = _readable(stored)
        changed = msgspec.structs.replace(change(schedule), id=schedule.id)
        if changed == schedule and stored.tick is not None:
            return schedule
        if await commit(client, [replacement(stored, changed, catch_up=catch_up)]):
            return changed
    raise _uncertain(name)


async def pause_schedule(client: Client, name: str) -> Schedule:
    """Let a schedule make no tasks. Raises as `edit_schedule`."""
    return await edit_schedule(client, name, lambda schedule: msgspec.structs.replace(schedule, paused=True))


async def resume_schedule(client: Client, name: str, *, catch_up: bool = False) -> Schedule:
    """End a pause. The times in the pause are left out; with `catch_up` they are missed times like any other, and the
    schedule's `missed` and `grace_ms` say what becomes of them. Raises as `edit_schedule`."""
    return await edit_schedule(
        client, name, lambda schedule: msgspec.structs.replace(schedule, paused=False), catch_up=catch_up
    )


async def remove_schedule(client: Client, name: str, *, removed: set[str] | None = None) -> bool:
    """Delete a schedule and its tick; its tasks go on. Return False if there is none. `removed` is to be an empty set,
    and the same one where this is called again after the end of a session: it keeps the ids of what was deleted."""
    removed = set() if removed is None else removed
    for _ in range(_MAX_TRIES):
        found = await read_schedules(client, [name])
        if not found:
            return bool(removed)
        (stored,) = found
        known = _id_of(stored)
        if removed and known not in removed:
            return True  # it was removed, and another one was made
        removed.add(known)
        if await commit(client, [removal(stored)]):
            return True
    raise _uncertain(name)


async def run_schedule(client: Client, name: str, ulid: str, now_ms: int) -> str:
    """Make a task of the schedule now, whether or not it is paused, and return its name. `ulid` is the unique part of
    the name, `now_ms` the time that the task is told it is scheduled for. Raises HerdError if another task holds the
    uniqueness key of the schedule, SubmissionUnknown, and as `edit_schedule`."""

    def build(schedule: Schedule, tick: Tick) -> list[NewScheduledTask]:
        return [scheduled_task(name, schedule, now_ms, tick.last_ms, now_ms, ulid=ulid)]

    (task,) = await _make(client, name, _Request(ulid), build)
    return task


async def backfill_schedule(
    client: Client, name: str, first_ms: int, last_ms: int, *, ulid: str, now_ms: int
) -> list[str]:
    """Make a task for each time of the timetable from `first_ms` to `last_ms`, both included, and return their names.
    Times that had a task have another one then. `ulid` is unique to the request. Raises ConfigurationError for more
    than `MAX_BACKFILL` times, and as `run_schedule`."""
    schedule = await read_usable(client, name)
    dues = backfill_times(schedule, first_ms, last_ms)
    size = 1 if schedule.has_key else max(_MAX_BYTES // (len(bytes(schedule.payload)) + _BYTES_BESIDE_PAYLOAD), 1)
    size = min(size, MAX_TASKS)
    made: list[str] = []
    for start in range(0, len(dues), size):
        build = partial(_backfilled, name, dues[start : start + size], ulid, now_ms)
        made += await _make(client, name, _Request(ulid, start), build)
    return made


def _backfilled(
    name: str, dues: Sequence[int], request: str, now_ms: int, schedule: Schedule, _tick: Tick
) -> list[NewScheduledTask]:
    asked_ms = ulid_time_ms(raw_name(request)) or 0  # so that the tasks do not look as if they had waited since then
    ulids = [derived_ulid(asked_ms, name, schedule.id, str(due_ms), "backfill", request) for due_ms in dues]
    return [
        scheduled_task(name, schedule, due_ms, None, now_ms, ulid=ulid)
        for due_ms, ulid in zip(dues, ulids, strict=True)
    ]


def backfill_times(schedule: Schedule, first_ms: int, last_ms: int) -> list[int]:
    """Return the times of a schedule in a range. Raises ConfigurationError for more than `MAX_BACKFILL`,
    TimetableError."""
    dues: list[int] = []
    due_ms = first_due(schedule, first_ms - 1)
    while due_ms is not None and due_ms <= last_ms:
        if len(dues) >= MAX_BACKFILL:
            raise ConfigurationError(f"the range has more than {MAX_BACKFILL} times: choose a shorter one")
        dues.append(due_ms)
        due_ms = first_due(schedule, due_ms)
    return dues


class _Request(NamedTuple):
    """A request to make tasks. `part` counts up: a part that was made implies those before it."""

    ulid: str
    part: int = 0

    def is_in(self, notes: Sequence[str]) -> bool:
        """Return whether the notes of a tick say that this part was made."""
        noted = [note.partition(".") for note in notes]
        return any(ulid == self.ulid and (int(part) if part.isdecimal() else 0) >= self.part for ulid, _, part in noted)

    def added_to(self, notes: Sequence[str]) -> tuple[str, ...]:
        others = [note for note in notes if note.partition(".")[0] != self.ulid]
        return (*others, f"{self.ulid}.{self.part}" if self.part else self.ulid)[-_REQUESTS_REMEMBERED:]


async def _make(
    client: Client, name: str, request: _Request, build: Callable[[Schedule, Tick], list[NewScheduledTask]]
) -> list[str]:
    """Make tasks once, however often this is sent: the tick remembers the last requests."""
    sent: int | None = None  # the version at which a request was sent whose reply was lost
    names: list[str] = []
    for _ in range(_MAX_TRIES):
        try:
            stored = await _read_one(client, name)
        except NoSuchSchedule:
            if sent is None:
                raise
            raise SubmissionUnknown(names) from None
        schedule, tick = _readable(stored), stored.tick or Tick()
        tasks = build(schedule, tick)
        names = [task.name for task in tasks]
        if request.is_in(tick.by_hand):
            return names
        if sent is not None and stored.version - sent > _REQUESTS_REMEMBERED:
            raise SubmissionUnknown(names)
        following = following_tick(stored, schedule)
        noted = msgspec.structs.replace(following.tick, by_hand=request.added_to(tick.by_hand))
        following = NextTick(following.name, noted)
        data = encode_schedule(schedule)
        edit = schedule_moves.edit_schedule(name, stored.version, data, stored.tick_name, following)
        done = await commit(client, [schedule_moves.run_now(edit, tasks)])
        if done:
            return names
        if done is None and sent is None:
            sent = stored.version
    raise SubmissionUnknown(names) if sent is not None else _uncertain(name)


# --- moves -----------------------------------------------------------------------------------------------------------


def creation(name: str, schedule: Schedule) -> Move:
    """Return the move that stores a new schedule. Raises as `add_schedule`."""
    check_schedule_name(name)
    first = NextTick(name_of_tick(name, schedule, Tick()), Tick())
    return schedule_moves.create_schedule(name, encode_schedule(schedule), first)


def replacement(stored: StoredSchedule, schedule: Schedule, *, catch_up: bool = False) -> Move:
    """Return the move that puts a schedule in the place of the stored one. Raises as `add_schedule`."""
    following = following_tick(stored, schedule, catch_up=catch_up)
    data = encode_schedule(schedule)
    return schedule_moves.edit_schedule(stored.name, stored.version, data, stored.tick_name, following)


def removal(stored: StoredSchedule) -> Move:
    return schedule_moves.remove_schedule(stored.name, stored.version, stored.tick_name)


def following_tick(stored: StoredSchedule, schedule: Schedule, *, catch_up: bool = False) -> NextTick:
    """Return the tick that follows an edit of the stored schedule: the same as before, or one that is to be planned."""
    before, known, tick, is_over = stored.schedule, stored.tick_name, stored.tick or Tick(), False
    if before is None or known is None or _is_planned_anew(before, schedule, catch_up=catch_up):
        tick = unplanned(tick)
    elif known.due_ms == UNPLANNED:
        tick = msgspec.structs.replace(tick, since_ms=tick.since_ms or stored.created_ms)
    elif known.due_ms == NEVER and not before.paused:
        is_over = True
    return NextTick(name_of_tick(stored.name, schedule, tick, is_over=is_over), tick)


def _is_planned_anew(before: Schedule, schedule: Schedule, *, catch_up: bool) -> bool:
    if not is_same_timing(before, schedule):
        return True
    return before.paused and not schedule.paused and not catch_up


async def read_usable(client: Client, name: str) -> Schedule:
    """Return a stored schedule. Raises NoSuchSchedule, HerdError for one that cannot be read, and what ZooKeeper
    raises."""
    return _readable(await _read_one(client, name))


async def _read_one(client: Client, name: str) -> StoredSchedule:
    for stored in await read_schedules(client, [name]):
        return stored
    raise NoSuchSchedule(name)


def _readable(stored: StoredSchedule) -> Schedule:
    if stored.schedule is None:
        raise HerdError(f"schedule {stored.name!r} cannot be used: {stored.problem}. Remove it, and add it again")
    return stored.schedule


def _id_of(stored: StoredSchedule) -> str:
    if stored.schedule is not None:
        return stored.schedule.id
    return stored.tick_name.id if stored.tick_name is not None else ""


def _uncertain(name: str) -> HerdError:
    return HerdError(f"{name}: no certain answer after {_MAX_TRIES} tries; `herd schedules show {name}` tells")


def by_name(stored: Iterable[StoredSchedule]) -> dict[str, StoredSchedule]:
    """Return the schedules by name."""
    return {each.name: each for each in stored}
