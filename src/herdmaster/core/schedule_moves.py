"""The transactions of schedules: one function per row of the transition table. In place of a task a `Move` of the
primary has the name of the tick that it consumes, any other the name of the schedule.
"""

from __future__ import annotations

from collections.abc import Iterable

from herdmaster.core import layout
from herdmaster.core.layout import TickName
from herdmaster.core.operations import CheckNode, CreateNode, DeleteNode, Move, Operation, SetNode
from herdmaster.core.schedule_decisions import NextTick
from herdmaster.core.schedules import NewScheduledTask, Tick, encode_tick
from herdmaster.core.table import TransitionName


def tick(present: TickName, version: int, tasks: Iterable[NewScheduledTask], following: NextTick) -> Move:
    """`version` is that of the schedule that was read."""
    return _move(
        TransitionName.TICK,
        layout.tick_name(present),
        1,
        CheckNode(layout.schedule_path(present.schedule), version),
        DeleteNode(layout.tick_path(present)),
        *_creations(tasks),
        _creation(following),
    )


def skip_tick(present: TickName, version: int, following: NextTick) -> Move:
    return _move(
        TransitionName.SKIP_TICK,
        layout.tick_name(present),
        1,
        CheckNode(layout.schedule_path(present.schedule), version),
        DeleteNode(layout.tick_path(present)),
        _creation(following),
    )


def mark_tick(present: TickName, version: int, marked: Tick) -> Move:
    return _move(
        TransitionName.MARK_TICK,
        layout.tick_name(present),
        1,
        CheckNode(layout.schedule_path(present.schedule), version),
        SetNode(layout.tick_path(present), encode_tick(marked)),
    )


def create_schedule(schedule: str, data: bytes, first: NextTick) -> Move:
    path = layout.schedule_path(schedule)
    return _move(TransitionName.CREATE_SCHEDULE, schedule, 0, CreateNode(path, data), _creation(first))


# An operator's change of a schedule whose tick was deleted by hand goes without one: `present` is None then.


def edit_schedule(schedule: str, version: int, data: bytes, present: TickName | None, following: NextTick) -> Move:
    change = SetNode(layout.schedule_path(schedule), data, version)
    guard = 0 if present is None else 1
    return _move(TransitionName.EDIT_SCHEDULE, schedule, guard, change, *_deletion(present), _creation(following))


def run_now(edit: Move, tasks: Iterable[NewScheduledTask]) -> Move:
    """`edit` changes nothing in the schedule, but gives it a new version: a tick that is under way meanwhile is
    refused, and the note of who asked, in the tick of `edit`, is not lost."""
    *before, creation = edit.operations
    return Move(TransitionName.RUN_NOW, edit.task, (*before, *_creations(tasks), creation), edit.guard)


def remove_schedule(schedule: str, version: int, present: TickName | None) -> Move:
    path = layout.schedule_path(schedule)
    return _move(TransitionName.REMOVE_SCHEDULE, schedule, 0, *_deletion(present), DeleteNode(path, version))


def _move(name: TransitionName, schedule: str, guard: int, *operations: Operation) -> Move:
    return Move(name, schedule, operations, guard)


def _deletion(present: TickName | None) -> tuple[Operation, ...]:
    return () if present is None else (DeleteNode(layout.tick_path(present)),)


def _creation(tick: NextTick) -> CreateNode:
    return CreateNode(layout.tick_path(tick.name), encode_tick(tick.tick))


def _creations(tasks: Iterable[NewScheduledTask]) -> list[Operation]:
    made: list[Operation] = []
    for task in tasks:
        made.append(CreateNode(layout.task_path(task.name), task.data))
        if task.new_key is not None:
            made.append(CreateNode(layout.key_path(task.new_key.hash), task.name.encode()))
            if task.new_key.record is not None:
                made.append(CreateNode(layout.hold_path(task.new_key.hash, task.name), task.new_key.record))
    return made
