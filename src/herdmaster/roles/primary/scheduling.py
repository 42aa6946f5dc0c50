"""Makes the tasks of schedules when they are due, by the servers' time.

A primary of ours does it; under a reference primary, the oldest of our masters does. Should two masters do it for a
moment, the guard of each transaction lets one of them.

What was read of a schedule is kept until its tick goes. Every edit replaces the tick, so then the schedule is read
again. What was decided meanwhile is refused, because the transaction checks the version that was read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from herdmaster.core import layout, schedule_moves
from herdmaster.core.layout import NEVER, TickName
from herdmaster.core.schedule_decisions import (
    CancelLast,
    Fire,
    Later,
    SkipTo,
    Sleep,
    TickDecision,
    Wait,
    decide,
    without_tasks,
)
from herdmaster.core.schedules import Overlap, Schedule, Skip, Tick, decode_schedule, decode_tick, with_problem
from herdmaster.core.table import Verdict
from herdmaster.core.ticks import Ticks
from herdmaster.core.timetable import TimetableError
from herdmaster.core.transitions import Move
from herdmaster.errors import BadSchedule
from herdmaster.roles.primary.cancellation import Pictures
from herdmaster.roles.primary.folder_part import FolderPart
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.primary.part import SET_ASIDE_SECONDS, TRY_LATER_SECONDS
from herdmaster.roles.primary.tick_reader import TickRead, TickReader
from herdmaster.roles.shared.committer import Fate, Settlement
from herdmaster.roles.shared.server_clock import ServerClock
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.recipes.children import ChildChange, Interrupted, Removed

_AT_ONCE: Final = 200
"""Ticks that are decided about in one turn of the loop, so that other parts are not held up."""
_LOOK_SECONDS: Final = 0.1
"""Between two looks whether the last task of a schedule has ended."""
_LOOKS_PER_SECOND: Final = 2000
"""If so many schedules wait that this would be exceeded, they are looked at less often."""


class _Known(msgspec.Struct, frozen=True):
    """A schedule as it was read."""

    version: int
    schedule: Schedule


class _Subject(msgspec.Struct, frozen=True):
    """A tick that is decided about. `name` is that of its znode."""

    name: str
    present: TickName
    known: _Known
    tick: Tick


class Scheduling(FolderPart):
    """Makes the tasks of the ticks that are due. `stands_in`: the primary is a reference primary."""

    def __init__(
        self,
        client: Client,
        server_clock: ServerClock,
        pictures: Pictures,
        report: PrimaryLog,
        wake: Callable[[], None],
        *,
        stands_in: bool = False,
    ) -> None:
        self.ticks = Ticks()
        super().__init__(client, layout.TICKS, self.ticks, report, wake)
        self.stands_in = stands_in
        self._server_clock = server_clock
        self._pictures = pictures
        self._reader = TickReader(client)
        self._schedules: dict[str, _Known] = {}
        self._data: dict[str, Tick] = {}  # of ticks that this term has made, and that are still there
        self._decided: dict[str, tuple[_Subject, Fire | SkipTo | None]] = {}  # what is under way; None: a mark
        self._waiting: set[str] = set()  # names of ticks whose schedule waits for its last task
        self._orphans: set[str] = set()  # ticks that were found without their schedule

    def step(self) -> None:
        self.report.tell_foreign_names(self.ticks.take_foreign_names())
        self.ticks.release_postponed(self.clock())
        if self.room <= 0 or self.ticks.next_due_ms() is None:
            return
        now_ms = self._server_clock.now_ms(self.wake)
        if now_ms is None:
            return
        room = min(self.room, _AT_ONCE)
        due = self.ticks.take_due(now_ms, room)
        if len(due) == room:
            asyncio.get_running_loop().call_soon(self.wake)
        self._forget_old()
        unread: list[tuple[str, TickName]] = []
        for name, present in due:
            known, tick = self._schedules.get(present.schedule), self._data.get(name)
            is_known = known is not None and known.schedule.id == present.id
            if known is not None and is_known and tick is not None and not self._seems_ended(known.schedule, tick):
                self._decide(_Subject(name, present, known, tick), 0)
            else:
                unread.append((name, present))
        self._reader.read(unread, self._handle_read)

    def _seems_ended(self, schedule: Schedule, tick: Tick) -> bool:
        """Return whether it matters that the last task has ended, and the pictures have it nowhere. Between the two
        events of a task that moves they have it nowhere either. So that is decided when a read is answered: all events
        of what the read has seen came before the answer, and none of anything later."""
        matters = tick.task is not None and schedule.overlap is not Overlap.ALLOW
        return matters and self._pictures.where_is(tick.task or "") is None

    def _forget_old(self) -> None:
        """Keep what is known of schedules in proportion to their number: many may have been removed."""
        limit = 2 * len(self.ticks) + _AT_ONCE
        if len(self._schedules) > limit or len(self._data) > limit:
            self._schedules.clear()
            self._data.clear()

    def next_wakeup(self) -> float | None:
        due_ms = self.ticks.next_due_ms() if self.room > 0 else None
        times = (None if due_ms is None else self._server_clock.wakeup(due_ms), self.ticks.next_release())
        return min((time for time in times if time is not None), default=None)

    def _handle_change(self, change: ChildChange) -> None:
        match change:
            case Removed(_, name):
                self._data.pop(name, None)
                self._waiting.discard(name)
                self._orphans.discard(name)
            case Interrupted():  # a tick may go and come back unseen
                self._data.clear()
                self._waiting.clear()
                self._orphans.clear()
        super()._handle_change(change)

    # --- reading -----------------------------------------------------------------------------------------------------

    def _handle_read(self, name: str, present: TickName, read: TickRead) -> None:
        if read.error is not None:
            self.give_up(name, read.error)
            return
        if read.tick is None:
            self.refute(name)
            return
        try:
            schedule = None if read.schedule is None else decode_schedule(read.schedule[0])
            tick = decode_tick(read.tick[0])
        except BadSchedule as error:
            self._set_aside(name, present, str(error))
            return
        if read.schedule is None or schedule is None or schedule.id != present.id:
            self._handle_orphan(name)
            return
        self._orphans.discard(name)
        known = self._schedules[present.schedule] = _Known(read.schedule[1].version, schedule)
        self._decide(_Subject(name, present, known, tick), read.tick[1].ctime)

    def _set_aside(self, name: str, present: TickName, reason: str) -> None:
        self.report.tell_broken_schedule(present.schedule, reason)
        self.postpone(name, SET_ASIDE_SECONDS)

    def _handle_orphan(self, name: str) -> None:
        """A tick goes with its schedule; one that is left alone was made by hand. It is deleted when it has been found
        so twice."""
        if name not in self._orphans:
            self._orphans.add(name)
            self.postpone(name, SET_ASIDE_SECONDS)
            return
        self._orphans.discard(name)

        def done(_result: None, error: Exception | None) -> None:
            if error is None:
                self.finish(name)
            else:
                self.give_up(name, error)

        self.client.delete_nowait(f"{layout.TICKS}/{name}", done)

    # --- deciding ----------------------------------------------------------------------------------------------------

    def _decide(self, subject: _Subject, created_ms: int) -> None:
        name, schedule, tick = subject.name, subject.known.schedule, subject.tick
        now_ms = self._server_clock.now_ms(self.wake)
        is_busy = False
        if tick.task is not None and schedule.overlap is not Overlap.ALLOW:
            if not self._pictures.are_current:
                now_ms = None  # whether the last task has ended is unknown
            else:
                is_busy = self._pictures.where_is(tick.task) is not None
        if now_ms is None:
            self.postpone(name, _LOOK_SECONDS)
            return
        try:
            decision = decide(
                subject.present.schedule, schedule, tick, now_ms=now_ms, created_ms=created_ms, is_busy=is_busy
            )
        except (TimetableError, BadSchedule) as error:
            self._mark(subject, str(error))
            return
        self._carry_out(subject, decision)

    def _mark(self, subject: _Subject, reason: str) -> None:
        """Write into the tick why no task can be made, for people to see, and then leave it for a while."""
        marked = with_problem(subject.tick, reason)
        if marked == subject.tick:
            self._set_aside(subject.name, subject.present, reason)
            return
        self._decided[subject.name] = subject, None
        self.gathering.add(schedule_moves.mark_tick(subject.present, subject.known.version, marked))

    def _carry_out(self, subject: _Subject, decision: TickDecision) -> None:
        name = subject.name
        if not isinstance(decision, (Wait, CancelLast)):
            self._waiting.discard(name)
        match decision:
            case Fire() | SkipTo():
                self._commit(subject, decision)
            case Wait():
                self._look_later(name)
            case CancelLast(task):
                self.client.create_nowait(layout.cancel_path(task), b"", partial(self._handle_cancel, name))
            case Later(at_ms):
                wakeup = self._server_clock.wakeup(at_ms)
                self.postpone(name, _LOOK_SECONDS if wakeup is None else wakeup - self.clock())
            case Sleep():
                self.postpone(name, SET_ASIDE_SECONDS)

    def _look_later(self, name: str) -> None:
        self._waiting.add(name)
        self.postpone(name, max(_LOOK_SECONDS, len(self._waiting) / _LOOKS_PER_SECOND))

    def _handle_cancel(self, name: str, _path: str | None, error: Exception | None) -> None:
        if error is None or isinstance(error, errors.NodeExists):
            self._look_later(name)
            return
        self.is_folder_missing |= isinstance(error, errors.NoNode)
        self.postpone(name, SET_ASIDE_SECONDS if isinstance(error, errors.NoAuth) else TRY_LATER_SECONDS)

    # --- committing --------------------------------------------------------------------------------------------------

    def _commit(self, subject: _Subject, decision: Fire | SkipTo) -> None:
        present, version = subject.present, subject.known.version
        self._decided[subject.name] = subject, decision
        if isinstance(decision, Fire):
            self.gathering.add(schedule_moves.tick(present, version, decision.tasks, decision.next))
        else:
            self.gathering.add(schedule_moves.skip_tick(present, version, decision.next))

    def _settle(self, settlement: Settlement) -> None:
        name = settlement.move.task
        self._data.pop(name, None)
        if settlement.fate is not Fate.COMMITTED:  # what the decision relied on may be old: it is read again
            self._schedules.pop(self._decided[name][0].present.schedule, None)
        if settlement.fate in (Fate.UNKNOWN, Fate.SESSION_OVER):
            del self._decided[name]
        super()._settle(settlement)

    def _handle_committed(self, move: Move) -> None:
        subject, decision = self._decided.pop(move.task)
        if decision is None:
            return
        if decision.next.name.due_ms != NEVER:
            self._data[layout.tick_name(decision.next.name)] = decision.next.tick
        self.report.tell_tick(subject.present.schedule, decision)

    def _handle_refused(self, move: Move, verdict: Verdict) -> None:
        subject, decision = self._decided.pop(move.task)
        if verdict is Verdict.KEY_TAKEN and isinstance(decision, Fire):
            known = subject.known
            skip = without_tasks(subject.present.schedule, known.schedule, subject.tick, decision, Skip.KEY)
            self._commit(subject, skip)
        else:
            super()._handle_refused(move, verdict)
