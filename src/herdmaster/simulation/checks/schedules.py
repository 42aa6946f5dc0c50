"""Check that each time of a schedule has one task or is counted as skipped, and that no task is early.

Part of the ledger. Each transaction that moves a tick on is judged by itself: the times between the old and the new
tick are its tasks and what it has counted as skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from herdmaster.core import layout
from herdmaster.core.layout import NEVER, TickName, parse_tick_name
from herdmaster.core.names import parse_task_name
from herdmaster.core.payload import Call, Scheduled, decode_call
from herdmaster.core.schedule_decisions import MAX_BEHIND, first_due
from herdmaster.core.schedules import Missed, Overlap, Schedule, Skip, Tick, decode_schedule, decode_tick, fire_time
from herdmaster.errors import BadPayload
from herdmaster.simulation.checks.effects import Actor, Effects
from herdmaster.simulation.checks.history import Node, TaskHistory
from herdmaster.simulation.checks.task_index import TaskIndex
from herdmaster.simulation.plan.jobs import Job
from herdmaster.simulation.plan.plan import Kind

_UNENDED = ("tasks", "assign", "delayed")


class _Made(msgspec.Struct, frozen=True):
    """A task that a transaction makes for a schedule."""

    task: str
    call: Call
    scheduled: Scheduled


class ScheduleCheck:
    """`jobs` are the jobs by their index. `where` and `history` are those of the ledger."""

    def __init__(
        self,
        jobs: Mapping[int, Job],
        tasks: TaskIndex,
        nodes: Mapping[str, Node],
        history: Callable[[str], TaskHistory],
        where: Callable[[str], tuple[str, ...]],
        report: Callable[[str], None],
    ) -> None:
        self._jobs = jobs
        self._tasks = tasks
        self._nodes = nodes
        self._history = history
        self._where = where
        self._report = report
        self._done: set[tuple[str, int]] = set()  # ids of schedules with the times that had a task
        self._busy: dict[str, bool] = {}  # by the last task of a tick that is moved on: whether it had not ended
        self._made: dict[str, _Made] = {}  # by the present transaction

    def begin(self, effects: Effects) -> dict[str, bytes]:
        """Look at a transaction before it is applied: announce the tasks that it makes, and return the data of the
        ticks that it deletes, by path."""
        self._made = {each.task: each for each in _made(effects)}
        for each in self._made.values():
            index = msgspec.json.decode(each.call.args)[0]
            self._tasks.announced(each.task, self._jobs[index], effects.time)
        ticks = {path: self._nodes[path].data for path in effects.deleted if path.startswith(f"{layout.TICKS}/")}
        self._busy = {
            task: any(path.split("/")[1] in _UNENDED for path in self._where(task))
            for task in (decode_tick(data).task for data in ticks.values())
            if task is not None
        }
        return ticks

    def is_made(self, task: str) -> bool:
        """Return whether the present transaction makes the task for a schedule."""
        return task in self._made

    def check(self, effects: Effects, actor: Actor, ticks: Mapping[str, bytes]) -> None:
        """Check a transaction that was applied. `ticks` is what `begin` returned."""
        before = {tick.schedule: (tick, data) for path, data in ticks.items() if (tick := _tick_of(path)) is not None}
        after = {
            tick.schedule: (tick, data) for path, data, _ in effects.created if (tick := _tick_of(path)) is not None
        }
        for name in sorted({*before, *after}):
            self._check_one_tick(name)
        if actor.kind is not Kind.MASTER:
            return
        for name, (tick, data) in before.items():
            node = self._nodes.get(layout.schedule_path(name))
            if node is None or name not in after:
                if node is not None:
                    self._report(f"deleted the tick of {name} and made no other")
                continue
            schedule = decode_schedule(node.data)
            if schedule.id != tick.id or schedule.paused:
                self._report(f"moved a tick of {name}, which is {'paused' if schedule.paused else 'another schedule'}")
                continue
            self._check_move(name, schedule, decode_tick(data), decode_tick(after[name][1]), effects.time)

    def _check_one_tick(self, name: str) -> None:
        exists = layout.schedule_path(name) in self._nodes
        count = sum(1 for tick in self._ticks() if tick.schedule == name)
        if count != int(exists):
            self._report(f"left {count} ticks of {name}, which {'exists' if exists else 'is gone'}")

    def _ticks(self) -> Iterator[TickName]:
        return (tick for path in self._nodes if (tick := _tick_of(path)) is not None)

    # --- one tick is moved on ----------------------------------------------------------------------------------------

    def _check_move(self, name: str, schedule: Schedule, old: Tick, new: Tick, now_ms: int) -> None:
        dues = [each.scheduled.due for each in self._made.values() if each.scheduled.schedule == name]
        if old.due_ms is None:
            if dues:
                self._report(f"made a task of {name}, whose tick was not planned")
            return
        for due_ms in dues:
            self._check_due(name, schedule, due_ms, now_ms)
        times = list(_times(schedule, old.due_ms, new.due_ms))
        skipped = sum(new.skips.values()) - sum(old.skips.values())
        if not set(dues) <= set(times) or len(times) != len(dues) + skipped:
            self._report(f"made {len(dues)} tasks of {name} and skipped {skipped} for {len(times)} times")
        if dues and new.last_ms != max(dues):
            self._report(f"noted that the last task of {name} was for {new.last_ms}, and it was for {max(dues)}")
        self._check_policy(name, schedule, old, new, dues)

    def _check_due(self, name: str, schedule: Schedule, due_ms: int, now_ms: int) -> None:
        early_ms = fire_time(name, schedule, due_ms) - now_ms
        if early_ms > 0:
            self._report(f"made the task of {name} for {due_ms}, {early_ms} ms early")
        if (schedule.id, due_ms) in self._done:
            self._report(f"made the task of {name} for {due_ms} a second time")
        self._done.add((schedule.id, due_ms))

    def _check_policy(self, name: str, schedule: Schedule, old: Tick, new: Tick, dues: list[int]) -> None:
        reasons = {reason for reason, count in new.skips.items() if count > old.skips.get(reason, 0)}
        allowed = {Skip.OVERLAP} if schedule.overlap is Overlap.SKIP else set[Skip]()
        makes_all = schedule.missed is Missed.ALL and schedule.overlap is not Overlap.CANCEL
        allowed |= {Skip.MISSED} if not makes_all or old.behind >= MAX_BEHIND else set()
        allowed |= {Skip.LATE} if schedule.grace_ms is not None or schedule.missed is Missed.SKIP else set()
        if not reasons <= allowed:
            self._report(f"skipped times of {name} as {', '.join(sorted(reasons - allowed))}, which it does not want")
        if len(dues) > 1 and (schedule.missed is not Missed.ALL or schedule.overlap is not Overlap.ALLOW):
            self._report(f"made {len(dues)} tasks of {name} at once")
        is_beside = bool(dues) and old.task is not None and self._busy.get(old.task, False)
        if is_beside and schedule.overlap is not Overlap.ALLOW and not self._history(old.task or "").excused:
            self._report(f"made a task of {name} beside {old.task}, which has not ended")

    def last_ticks(self) -> dict[str, Tick]:
        """Return the tick of each schedule that is there, by name."""
        found = {tick.schedule: layout.tick_path(tick) for tick in self._ticks()}
        return {name: decode_tick(self._nodes[path].data) for name, path in found.items()}

    # --- at the end --------------------------------------------------------------------------------------------------

    def unsettled(self) -> list[str]:
        """Return the schedules that still have a time to come."""
        return [f"{tick.schedule} has a tick at {tick.due_ms}" for tick in self._ticks() if tick.due_ms != NEVER]


def _times(schedule: Schedule, first_ms: int, end_ms: int | None) -> Iterator[int]:
    """Yield the times from `first_ms` to before `end_ms`, or to the last."""
    due_ms: int | None = first_ms
    while due_ms is not None and (end_ms is None or due_ms < end_ms):
        yield due_ms
        due_ms = first_due(schedule, due_ms)


def _made(effects: Effects) -> Iterator[_Made]:
    """Yield the tasks of schedules that a transaction creates beside moving their ticks."""
    if not any(path.startswith(f"{layout.TICKS}/") for path in effects.deleted):
        return
    for path, data, _ in effects.created:
        task = path.removeprefix(f"{layout.TASKS}/")
        if task == path or parse_task_name(task) is None:
            continue
        try:
            call = decode_call(data)
        except BadPayload:
            continue
        if call.scheduled is not None:
            yield _Made(task, call, call.scheduled)


def _tick_of(path: str) -> TickName | None:
    return parse_tick_name(path.removeprefix(f"{layout.TICKS}/")) if path.startswith(f"{layout.TICKS}/") else None
