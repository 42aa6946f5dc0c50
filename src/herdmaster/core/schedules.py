"""The data of `/schedules/SCHEDULE` and of `/ticks/DUE-ID-SCHEDULE`.

A schedule says which task to make and when. Its tick is a znode whose name has the time of the timetable that comes
next; its data says what was done so far. Between two edits of a schedule the time only grows, so a name of a tick that
is gone does not come back. Each schedule has one tick: with the time `UNPLANNED` until the primary has
found the first time, and `NEVER` while the schedule is paused or when it has ended.
"""

from __future__ import annotations

import enum
import hashlib
from typing import Annotated, Final, Literal

import msgspec

from herdmaster.core.bounds import Count, Number, UnixMs
from herdmaster.core.failure import cut_text
from herdmaster.core.keys import KeyRecord, NewKey, encode_record, is_key_hash
from herdmaster.core.layout import NEVER, UNPLANNED, TickName
from herdmaster.core.names import (
    DEFAULT_PRIORITY,
    DEFAULT_QUEUE,
    call_name,
    check_priority,
    check_queue,
    derived_ulid,
)
from herdmaster.core.payload import BIG, Call, Scheduled, decode_call, with_schedule
from herdmaster.core.timetable import Timetable
from herdmaster.core.values import UNREADABLE
from herdmaster.errors import BadPayload, BadSchedule, ConfigurationError, InvalidName, PayloadTooLarge

MAX_SCHEDULE: Final = 128 * 1024
"""Bytes. The arguments of a schedule are stored once more with each task."""
MAX_PROBLEM: Final = 500
"""Bytes."""
MAX_JITTER_MS: Final = 24 * 3600 * 1000
DEFAULT_SKIP_GRACE_MS: Final = 60 * 1000
_VERSION: Final = 1


class Missed(enum.StrEnum):
    """What becomes of several times that are due at once, because no primary acted or the schedule was paused.

    `LATEST`: one task, for the last of them. `ALL`: a task for each, the oldest first; after 1,000 in a row the last of
    them comes next. `SKIP`: as `LATEST`, but only
    if that one is not late by more than the grace, a minute by default.
    """

    LATEST = "latest"
    ALL = "all"
    SKIP = "skip"


class Overlap(enum.StrEnum):
    """What becomes of a time that is due while the task of the time before has not ended.

    `SKIP`: no task. `ALLOW`: a task. `WAIT`: a task, when the other has ended. `CANCEL`: the other is cancelled, then a
    task.
    """

    SKIP = "skip"
    ALLOW = "allow"
    WAIT = "wait"
    CANCEL = "cancel"


class Skip(enum.StrEnum):
    """Why a time had no task."""

    LATE = "late"
    """Later than the grace allows."""
    MISSED = "missed"
    """One of several that were due at once, and a later one had the task."""
    OVERLAP = "overlap"
    """The last task had not ended."""
    KEY = "key"
    """Another task held the uniqueness key."""


class Schedule(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A schedule. `id` is 8 hex digits, new whenever a schedule is made.

    `payload` is that of its tasks, without what differs from tick to tick, `queue` and `priority` are theirs;
    `expires_ms` is the time that a task has to begin. Ticks are made between `starts_ms` and `ends_ms` (unix
    milliseconds, both included), and at most `max_runs`. A tick is late by up to `jitter_ms`, always the same for the
    same time. `grace_ms`: no task is made for a time that is longer ago. `app` is where the schedule was declared.
    """

    herd: Literal[1] = msgspec.field(default_factory=lambda: 1)
    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]
    timetable: Timetable
    payload: msgspec.Raw
    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    expires_ms: Count | None = None
    missed: Missed = Missed.LATEST
    grace_ms: UnixMs | None = None
    overlap: Overlap = Overlap.SKIP
    jitter_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_JITTER_MS)] = 0
    starts_ms: UnixMs | None = None
    ends_ms: UnixMs | None = None
    max_runs: Count | None = None
    paused: bool = False
    app: str | None = None

    @property
    def call(self) -> Call:
        """The call without what differs from tick to tick. Raises BadSchedule."""
        try:
            return decode_call(bytes(self.payload))
        except BadPayload as error:
            raise BadSchedule(f"the task of the schedule is no call: {error}") from None

    @property
    def has_key(self) -> bool:
        """Whether its tasks have a uniqueness key. Raises BadSchedule."""
        return self.call.key is not None


TIMING: Final = ("timetable", "starts_ms", "ends_ms", "max_runs")
"""The fields that say when a schedule is due: where one of them changes, its next tick is planned anew."""
_OF_ITS_LIFE: Final = ("id", "paused")
"""The fields that a declaration does not decide about."""


class Tick(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The data of a tick. `due_ms` is the time of the timetable that comes next; None if it is not planned, or there is
    none. Then the tick is planned from `since_ms` on, or from when its znode was made.

    The rest is what was done: `task`, made for the time `last_ms`, at `made_ms`, which was `late_ms` after it was to be
    made; how many tasks there were, `behind` of them in a row while a later time was due too; how many times had none,
    by reason; and `by_hand`, the last requests that operators made. `problem` is why a primary could not make a task
    for `due_ms`. All times in unix milliseconds.
    """

    herd: Literal[1] = msgspec.field(default_factory=lambda: 1)
    due_ms: UnixMs | None = None
    since_ms: UnixMs | None = None
    task: str | None = None
    last_ms: UnixMs | None = None
    made_ms: UnixMs | None = None
    late_ms: Number = 0
    runs: Number = 0
    behind: Number = 0
    skips: dict[str, Number] = {}
    by_hand: tuple[str, ...] = ()
    problem: str | None = None


_encoder = msgspec.json.Encoder()
_schedule_decoder = msgspec.json.Decoder(Schedule)
_tick_decoder = msgspec.json.Decoder(Tick)


def encode_schedule(schedule: Schedule) -> bytes:
    """Return the data of a schedule. Raises ConfigurationError, InvalidName and PayloadTooLarge for one that cannot
    work."""
    check_queue(schedule.queue)
    check_priority(schedule.priority)
    starts, ends = schedule.starts_ms, schedule.ends_ms
    if starts is not None and ends is not None and ends < starts:
        raise ConfigurationError("the schedule ends before it starts: give ends= a later time than starts=")
    data = _encoder.encode(schedule)
    if len(data) > MAX_SCHEDULE:
        raise PayloadTooLarge(len(data), MAX_SCHEDULE)
    try:
        decode_schedule(data)
    except BadSchedule as error:
        raise ConfigurationError(f"the schedule cannot work: {error}") from None
    return data


def decode_schedule(data: bytes | None) -> Schedule:
    """Return the schedule. Raises BadSchedule, one sentence, for what is none."""
    try:
        schedule = _schedule_decoder.decode(data or b"")
    except UNREADABLE as error:
        raise BadSchedule(_explain(data, error)) from None
    try:
        check_queue(schedule.queue)
        check_priority(schedule.priority)
    except InvalidName as error:
        raise BadSchedule(f"the schedule cannot be used: {error}") from None
    _ = schedule.call
    return schedule


def encode_tick(tick: Tick) -> bytes:
    return _encoder.encode(tick)


def decode_tick(data: bytes | None) -> Tick:
    """Return the tick. Raises BadSchedule for what is none."""
    try:
        return _tick_decoder.decode(data or b"")
    except UNREADABLE as error:
        raise BadSchedule(f"the tick of the schedule cannot be read: {_explain(data, error)}") from None


class _Version(msgspec.Struct):
    herd: int


def _explain(data: bytes | None, error: Exception) -> str:
    try:
        version = msgspec.json.decode(data or b"", type=_Version).herd
    except UNREADABLE:
        return f"it is not JSON of a schedule: {error}"
    if version != _VERSION:
        return f"it is of version {version}, this Herdmaster reads version {_VERSION}: upgrade it"
    return str(error)


def is_same(one: Schedule, other: Schedule) -> bool:
    """Return whether two schedules say the same, whether or not they are paused."""
    return _declared(one) == _declared(other)


def _declared(schedule: Schedule) -> dict[str, object]:
    return {name: getattr(schedule, name) for name in Schedule.__struct_fields__ if name not in _OF_ITS_LIFE}


def is_same_timing(one: Schedule, other: Schedule) -> bool:
    """Return whether two schedules are due at the same times."""
    return all(getattr(one, name) == getattr(other, name) for name in TIMING)


# --- ticks -----------------------------------------------------------------------------------------------------------


def fire_time(name: str, schedule: Schedule, due_ms: int) -> int:
    """Return when the task for a time is to be made: after the jitter, which is the same for the same time."""
    if not schedule.jitter_ms:
        return due_ms
    digest = hashlib.sha256(f"{name} {schedule.id} {due_ms}".encode()).digest()
    return due_ms + int.from_bytes(digest[:6], "big") % (schedule.jitter_ms + 1)


def name_of_tick(name: str, schedule: Schedule, tick: Tick, *, is_over: bool = False) -> TickName:
    """Return the name of the schedule's tick. `is_over`: there is no next time."""
    if schedule.paused or is_over:
        return TickName(NEVER, schedule.id, name)
    return TickName(UNPLANNED if tick.due_ms is None else tick.due_ms, schedule.id, name)


def with_problem(tick: Tick, problem: str) -> Tick:
    return msgspec.structs.replace(tick, problem=cut_text(problem, MAX_PROBLEM))


def describe_skips(tick: Tick) -> str:
    """Return how many times had no task, in words; an empty text if there are none."""
    return ", ".join(f"{count} {why}" for why, count in sorted(tick.skips.items()))


def unplanned(tick: Tick) -> Tick:
    """Return the tick of a schedule whose next time is to be found from now on."""
    return msgspec.structs.replace(tick, due_ms=None, since_ms=None, behind=0, problem=None)


class NewScheduledTask(msgspec.Struct, frozen=True, gc=False):
    """A task to make for the time `due_ms`."""

    name: str
    data: bytes
    due_ms: int
    new_key: NewKey | None = None


def scheduled_task(
    name: str, schedule: Schedule, due_ms: int, previous_ms: int | None, now_ms: int, *, ulid: str | None = None
) -> NewScheduledTask:
    """Return the task of a schedule for one time. Without `ulid`, its name is always the same for the same time.

    Raises BadSchedule.
    """
    call = schedule.call
    expires_ms = None if schedule.expires_ms is None else now_ms + schedule.expires_ms
    data = with_schedule(bytes(schedule.payload), Scheduled(name, due_ms, previous_ms), now_ms, expires_ms)
    ulid = ulid or derived_ulid(due_ms, name, schedule.id, str(due_ms))
    conditional = expires_ms is not None or call.expires is not None
    task = call_name(ulid, schedule.queue, schedule.priority, big=len(data) > BIG, conditional=conditional)
    return NewScheduledTask(task, data, due_ms, _new_key(call))


def _new_key(call: Call) -> NewKey | None:
    if call.key is None or not is_key_hash(call.key):
        return None
    unique = call.unique
    return NewKey(call.key, None if unique is None else encode_record(KeyRecord(unique.key, unique.scope, call.call)))
