"""What is to be done about the tick of a schedule, at a given time of the servers. Pure: no clock, no randomness."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from typing import Final

import msgspec

from herdmaster.core.due_counts import count_due
from herdmaster.core.layout import NEVER, TickName
from herdmaster.core.schedules import (
    DEFAULT_SKIP_GRACE_MS,
    Missed,
    NewScheduledTask,
    Overlap,
    Schedule,
    Skip,
    Tick,
    fire_time,
    name_of_tick,
    scheduled_task,
)
from herdmaster.core.timetable import Cron, Every, Times, Timetable, next_due

MAX_TASKS: Final = 100
"""In one transaction, which has an ACL for each as well."""
MAX_BEHIND: Final = 1000
"""Tasks in a row for times that were missed. Then the others are skipped up to the last, so that a long downtime does
not flood the queue."""
_MAX_LATE: Final = 1000
_MAX_BYTES: Final = 96 * 1024
_BYTES_BESIDE_PAYLOAD: Final = 400
_MAX_STEPS: Final = 100
"""So many missed times of a cron expression are looked for one by one, in some milliseconds. Beyond that the latest is
looked for at once, and the others are counted by days."""


class NextTick(msgspec.Struct, frozen=True):
    """The tick that takes the place of the present one."""

    name: TickName
    tick: Tick


class Skipped(msgspec.Struct, frozen=True):
    """How many times have no task, by reason."""

    counts: dict[Skip, int] = {}

    def and_also(self, reason: Skip, count: int) -> Skipped:
        return Skipped({**self.counts, reason: self.counts.get(reason, 0) + count})


class Fire(msgspec.Struct, frozen=True):
    """Make these tasks. `late_ms`: by how much each is later than it was to be made."""

    tasks: tuple[NewScheduledTask, ...]
    late_ms: tuple[int, ...]
    next: NextTick
    skipped: Skipped = Skipped()


class SkipTo(msgspec.Struct, frozen=True):
    """Make no task: plan the first tick, or skip some times."""

    next: NextTick
    skipped: Skipped = Skipped()


class Wait(msgspec.Struct, frozen=True):
    """Wait until the last task has ended, and decide again."""

    task: str


class CancelLast(msgspec.Struct, frozen=True):
    """Request that the last task is cancelled; then wait as for `Wait`."""

    task: str


class Later(msgspec.Struct, frozen=True):
    """Decide again at `at_ms`, when the jitter is over."""

    at_ms: int


class Sleep(msgspec.Struct, frozen=True):
    """Nothing is to be done until the schedule is edited: it is paused, or has ended."""


TickDecision = Fire | SkipTo | Wait | CancelLast | Later | Sleep


def decide(name: str, schedule: Schedule, tick: Tick, *, now_ms: int, created_ms: int, is_busy: bool) -> TickDecision:
    """Decide about a tick whose time has come. `created_ms` is when its znode was made, `is_busy` whether its last task
    has not ended. All times by the servers' clock.

    Raises TimetableError for a timetable that cannot be read on this machine, BadSchedule for a task that is no call.
    """
    if schedule.paused:
        return Sleep()
    case = _Case(name, schedule, tick, now_ms)
    if tick.due_ms is None:
        since_ms = created_ms if tick.since_ms is None else tick.since_ms
        return SkipTo(case.next(tick, since_ms if tick.last_ms is None else max(since_ms, tick.last_ms)))
    at_ms = fire_time(name, schedule, tick.due_ms)
    if at_ms > now_ms:
        return Later(at_ms)
    if is_busy and tick.task is not None:
        match schedule.overlap:
            case Overlap.WAIT:
                return Wait(tick.task)
            case Overlap.CANCEL:
                return CancelLast(tick.task)
            case Overlap.SKIP:
                latest_ms, skipped = case.latest(tick.due_ms, Skip.OVERLAP)
                return case.skip(latest_ms, skipped.and_also(Skip.OVERLAP, 1))
    if schedule.missed is Missed.ALL and schedule.overlap is not Overlap.CANCEL and tick.behind < MAX_BEHIND:
        return case.decide_all(tick.due_ms)
    latest_ms, skipped = case.latest(tick.due_ms, Skip.MISSED)
    if case.is_late(latest_ms):
        return case.skip(latest_ms, skipped.and_also(Skip.LATE, 1))
    return case.fire([latest_ms], latest_ms, skipped)


def without_tasks(name: str, schedule: Schedule, tick: Tick, fire: Fire, reason: Skip) -> SkipTo:
    """Return the decision to make none of the tasks, for this reason."""
    skipped = fire.skipped.and_also(reason, len(fire.tasks))
    return _Case(name, schedule, tick, 0).skip(fire.tasks[-1].due_ms, skipped)


def first_due(schedule: Schedule, after_ms: int) -> int | None:
    """Return the first time of a schedule after `after_ms`; None if there is none. Raises TimetableError."""
    if schedule.starts_ms is not None:
        after_ms = max(after_ms, schedule.starts_ms - 1)
    due_ms = next_due(schedule.timetable, after_ms)
    if due_ms is None or due_ms >= NEVER or (schedule.ends_ms is not None and due_ms > schedule.ends_ms):
        return None
    return due_ms


class _Case(msgspec.Struct, frozen=True):
    """A tick that is decided about."""

    name: str
    schedule: Schedule
    tick: Tick
    now_ms: int

    # --- decisions ---------------------------------------------------------------------------------------------------

    def decide_all(self, first_ms: int) -> TickDecision:
        """Make a task for each time, as many as fit one transaction: only one, if each waits for the one before or
        needs the key."""
        schedule = self.schedule
        room = 1
        if schedule.overlap is Overlap.ALLOW and not schedule.has_key:
            room = min(MAX_TASKS, max(_MAX_BYTES // (len(bytes(schedule.payload)) + _BYTES_BESIDE_PAYLOAD), 1))
        if schedule.max_runs is not None:
            room = min(room, schedule.max_runs - self.tick.runs)
        room = min(room, MAX_BEHIND - self.tick.behind)
        late, last_ms = 0, first_ms
        dues: list[int] = []
        for due_ms in self._due_from(first_ms):
            if len(dues) >= room or late >= _MAX_LATE:
                break
            last_ms = due_ms
            if self.is_late(due_ms):
                late += 1
            else:
                dues.append(due_ms)
        skipped = Skipped({Skip.LATE: late}) if late else Skipped()
        return self.fire(dues, last_ms, skipped) if dues else self.skip(last_ms, skipped)

    def fire(self, dues: list[int], last_ms: int, skipped: Skipped) -> Fire:
        """Make these tasks. `last_ms` is the last time that was considered."""
        tasks: list[NewScheduledTask] = []
        previous_ms = self.tick.last_ms
        for due_ms in dues:
            tasks.append(scheduled_task(self.name, self.schedule, due_ms, previous_ms, self.now_ms))
            previous_ms = due_ms
        late_ms = tuple(max(self.now_ms - fire_time(self.name, self.schedule, due_ms), 0) for due_ms in dues)
        done = msgspec.structs.replace(
            _with_skips(self.tick, skipped),
            task=tasks[-1].name,
            last_ms=dues[-1],
            made_ms=self.now_ms,
            late_ms=late_ms[-1],
            runs=self.tick.runs + len(tasks),
            behind=self.tick.behind + len(tasks),
        )
        return Fire(tuple(tasks), late_ms, self.next(done, last_ms), skipped)

    def skip(self, last_ms: int, skipped: Skipped) -> SkipTo:
        return SkipTo(self.next(_with_skips(self.tick, skipped), last_ms), skipped)

    def next(self, tick: Tick, after_ms: int) -> NextTick:
        """Return the tick of the first time after `after_ms`."""
        limit = self.schedule.max_runs
        due_ms = None if limit is not None and tick.runs >= limit else first_due(self.schedule, after_ms)
        is_behind = due_ms is not None and fire_time(self.name, self.schedule, due_ms) <= self.now_ms
        behind = tick.behind if is_behind else 0
        tick = msgspec.structs.replace(tick, due_ms=due_ms, since_ms=None, behind=behind, problem=None)
        return NextTick(name_of_tick(self.name, self.schedule, tick, is_over=due_ms is None), tick)

    # --- times that are due ------------------------------------------------------------------------------------------

    def is_late(self, due_ms: int) -> bool:
        grace_ms = self.schedule.grace_ms
        if grace_ms is None and self.schedule.missed is Missed.SKIP:
            grace_ms = DEFAULT_SKIP_GRACE_MS
        return grace_ms is not None and self.now_ms - fire_time(self.name, self.schedule, due_ms) > grace_ms

    def latest(self, first_ms: int, reason: Skip) -> tuple[int, Skipped]:
        """Return the last time that is due, and how many were before it, which are skipped for this reason."""
        schedule = self.schedule
        until_ms = self.now_ms - schedule.jitter_ms
        if schedule.ends_ms is not None:
            until_ms = min(until_ms, schedule.ends_ms)
        latest_ms, passed = _passed(schedule.timetable, first_ms, until_ms)
        for steps, due_ms in enumerate(self._due_from(latest_ms)):
            latest_ms = due_ms
            if steps:
                passed += 1
            if steps >= _MAX_STEPS:
                last_ms = _last_before(schedule.timetable, latest_ms, until_ms)
                if isinstance(schedule.timetable, Cron):
                    passed += count_due(schedule.timetable, latest_ms, last_ms)
                return last_ms, Skipped({reason: passed})
        return latest_ms, Skipped({reason: passed} if passed else {})

    def _due_from(self, first_ms: int) -> Iterator[int]:
        """Yield the first time, which is due, and those after it that are due."""
        due_ms: int | None = first_ms
        while due_ms is not None:
            yield due_ms
            due_ms = first_due(self.schedule, due_ms)
            if due_ms is not None and fire_time(self.name, self.schedule, due_ms) > self.now_ms:
                return


def _with_skips(tick: Tick, skipped: Skipped) -> Tick:
    if not skipped.counts:
        return tick
    counts = Counter(tick.skips)
    counts.update({reason.value: count for reason, count in skipped.counts.items()})
    return msgspec.structs.replace(tick, skips=dict(counts))


def _passed(timetable: Timetable, first_ms: int, until_ms: int) -> tuple[int, int]:
    """Return a time from `first_ms`, which is due, to `until_ms`, and how many are before it: the last one, unless they
    would have to be looked for one by one."""
    if until_ms > first_ms:
        match timetable:
            case Every(period_ms):
                count = (until_ms - first_ms) // period_ms
                return first_ms + count * period_ms, count
            case Times(unix_ms):
                first, last = bisect_left(unix_ms, first_ms), bisect_right(unix_ms, until_ms) - 1
                if last > first:
                    return unix_ms[last], last - first
    return first_ms, 0


def _last_before(timetable: Timetable, low_ms: int, until_ms: int) -> int:
    """Return the last time up to `until_ms`, or `low_ms` if that is later."""
    window_ms = 1000
    while True:
        after_ms = max(until_ms - window_ms, low_ms)
        due_ms = next_due(timetable, after_ms)
        if due_ms is not None and due_ms <= until_ms:
            break
        if after_ms <= low_ms:
            return low_ms
        window_ms *= 2
    while (following := next_due(timetable, due_ms)) is not None and following <= until_ms:
        due_ms = following
    return due_ms
