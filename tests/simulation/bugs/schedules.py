"""Planted bugs of schedules."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import msgspec

from herdmaster.core import schedule_decisions, schedule_moves
from herdmaster.core.operations import DeleteNode, Move
from herdmaster.core.schedule_decisions import decide
from herdmaster.core.schedules import Missed, name_of_tick
from herdmaster.core.ticks import Ticks
from herdmaster.operations import schedules as operations
from herdmaster.roles.primary import scheduling
from herdmaster.roles.shared.server_clock import ServerClock


def ticks_too_early() -> Any:
    """The primary takes a later time for that of the servers."""

    def early(*args: Any, now_ms: int, **rest: Any) -> Any:
        return decide(*args, now_ms=now_ms + 900, **rest)

    take_due = Ticks.take_due
    take = patch.object(Ticks, "take_due", lambda self, now_ms, most: take_due(self, now_ms + 900, most))
    return _both(take, patch.object(scheduling, "decide", early))


def tick_left_behind() -> Any:
    """A tick makes the next one and is not deleted itself."""
    tick = schedule_moves.tick

    def keep(*args: Any) -> Move:
        move = tick(*args)
        kept = tuple(each for each in move.operations if not isinstance(each, DeleteNode))
        return Move(move.transition, move.task, kept, 0)

    return patch.object(schedule_moves, "tick", keep)


def time_given_twice() -> Any:
    """The next tick is for the time that has just had its task."""
    find = schedule_decisions._Case.next

    def repeat(self: Any, tick: Any, after_ms: int) -> Any:
        return find(self, tick, after_ms - 1 if tick.last_ms == after_ms else after_ms)

    return patch.object(schedule_decisions._Case, "next", repeat)


def skips_forgotten() -> Any:
    """What is skipped is not counted."""
    return patch.object(schedule_decisions, "_with_skips", lambda tick, _skipped: tick)


def overlap_ignored() -> Any:
    """A task is made beside the last one, whatever the schedule says."""

    def ignore(*args: Any, **rest: Any) -> Any:
        return decide(*args, **{**rest, "is_busy": False})

    return patch.object(scheduling, "decide", ignore)


def all_means_latest() -> Any:
    """Of several missed times only the last has a task, although all are wanted."""

    def latest(name: str, schedule: Any, *args: Any, **rest: Any) -> Any:
        return decide(name, msgspec.structs.replace(schedule, missed=Missed.LATEST), *args, **rest)

    return patch.object(scheduling, "decide", latest)


def paused_without_its_tick() -> Any:
    """A pause does not move the tick out of the primary's way."""

    def due(name: str, schedule: Any, *args: Any, **rest: Any) -> Any:
        return name_of_tick(name, msgspec.structs.replace(schedule, paused=False), *args, **rest)

    return patch.object(operations, "name_of_tick", due)


def reading_outlives_its_connection() -> Any:
    """What a master has read of the servers' clock holds over the next connection, where another server leads."""
    return patch.object(ServerClock, "_handle_state", lambda _self, _state: None)


def _both(*patches: Any) -> Any:
    stack = ExitStack()
    for each in patches:
        stack.enter_context(each)
    return stack


BUGS: dict[str, Callable[[], Any]] = {
    bug.__name__: bug
    for bug in (
        ticks_too_early,
        tick_left_behind,
        time_given_twice,
        skips_forgotten,
        overlap_ignored,
        all_means_latest,
        paused_without_its_tick,
        reading_outlives_its_connection,
    )
}
