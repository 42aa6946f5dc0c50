"""Moves delayed tasks to `/tasks` when they are due, by the servers' clock.

A primary of ours does it; under a primary of the reference, the oldest of our masters does. Should two do it for a
moment, the guard of each transaction lets one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from herdmaster.core import layout, transitions
from herdmaster.core.conditions import expiry_of
from herdmaster.core.delayed import Delayed, Schedule
from herdmaster.core.endings import expired, freed_key, too_large, unreadable
from herdmaster.core.recovery import MAX_MOVABLE
from herdmaster.core.table import Verdict
from herdmaster.core.transitions import Move
from herdmaster.roles.primary.folder_changes import apply_change
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.shared.committer import Committer, Fate, Gathering, Settlement
from herdmaster.roles.shared.payload_reader import PayloadReader
from herdmaster.roles.shared.server_clock import ServerClock
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat
from herdmaster.zookeeper.recipes.children import ChildChange, ChildStream

MAX_UNDER_WAY: Final = 1000
_SET_ASIDE_SECONDS: Final = 30.0
_TRY_LATER_SECONDS: Final = 1.0


class Promotion:
    """`step` does what is to be done now; `wake` is called when it is worth another step. `stands_in`: the primary is
    of the reference."""

    def __init__(
        self,
        client: Client,
        server_clock: ServerClock,
        report: PrimaryLog,
        wake: Callable[[], None],
        *,
        stands_in: bool = False,
    ) -> None:
        self._stands_in = stands_in
        self._clock = client.clock
        self._server_clock = server_clock
        self._report = report
        self._wake = wake
        self._committer = Committer(client)
        self._gathering = Gathering(partial(self._committer.commit, settled=self._settled))
        self._reader = PayloadReader(client)
        self._under_way: dict[str, Delayed] = {}
        self._may_list_again = 0.0
        self.schedule = Schedule()
        self.stream = ChildStream(client, layout.DELAYED, self._handle)
        self.fault: errors.ServerError | None = None
        self.is_folder_missing = False  # `restore_folders` is wanted

    def step(self) -> None:
        """Raises the session's final error."""
        self._report.tell_foreign_names(self.schedule.take_foreign_names())
        self.schedule.release_postponed(self._clock())
        room = MAX_UNDER_WAY - len(self._under_way)
        if room <= 0 or self.schedule.next_due_ms() is None:
            return
        now_ms = self._server_clock.now_ms(self._wake)
        if now_ms is None:
            return
        # A task that is there twice waits until the other znode's turn is over: one transaction in flight per task.
        due = []
        for item in self.schedule.take_due(now_ms, room):
            if item.task in self._under_way:
                self.schedule.postpone(item, self._clock() + _SET_ASIDE_SECONDS)
            else:
                self._under_way[item.task] = item
                due.append((item, item.task, layout.delayed_path(item.due_ms, item.task)))
        self._reader.read(due, partial(self._read, now_ms))

    def next_wakeup(self) -> float | None:
        """When, on the client's clock, it is time for a step although nothing happens meanwhile."""
        due_ms = self.schedule.next_due_ms() if len(self._under_way) < MAX_UNDER_WAY else None
        times = (None if due_ms is None else self._server_clock.wakeup(due_ms), self.schedule.next_release())
        return min((time for time in times if time is not None), default=None)

    def _handle(self, change: ChildChange) -> None:
        self.fault = apply_change(change, self.schedule) or self.fault
        self._wake()

    # --- one task ------------------------------------------------------------------------------------------------

    def _read(
        self, now_ms: int, item: Delayed, data: bytes | None, _stat: Stat | None, error: Exception | None
    ) -> None:
        due_ms, task = item.due_ms, item.task
        if isinstance(error, errors.NoAuth):
            self._gathering.add(transitions.refuse_delayed(due_ms, task, unreadable(task, error)))
        elif isinstance(error, errors.NoNode):
            self._refuted(item)
        elif isinstance(error, errors.ServerError):
            self._report.tell_unreadable(task, error)
            self._postpone(item, _SET_ASIDE_SECONDS)
        elif data is None:
            self._postpone(item, 0.0)
        elif len(data) > MAX_MOVABLE:
            self._gathering.add(transitions.refuse_delayed(due_ms, task, too_large(task, len(data))))
        else:
            expires = expiry_of(task, data)
            over = expires is not None and expires <= now_ms
            self._gathering.add(
                transitions.refuse_delayed(due_ms, task, expired(task, data), freed_key(task, data))
                if over
                else transitions.promote(due_ms, task, data)
            )

    def _settled(self, settlement: Settlement) -> None:
        move = settlement.move
        item = self._under_way[move.task]
        if settlement.fate is Fate.COMMITTED:
            self._report.tell_committed(move)
            self._finish(item)
        elif settlement.verdict is None:
            self._postpone(item, 0.0)  # its outcome is unknown: the next listing shows it
        else:
            self._refused(move, item, settlement.verdict)

    def _refused(self, move: Move, item: Delayed, verdict: Verdict) -> None:
        match verdict:
            case Verdict.RACE_LOST:
                self._refuted(item)
            case Verdict.WITHOUT_KEY:
                self._gathering.add(transitions.without_key(move))
            case Verdict.DROP_DELAYED_ENDED:
                self._gathering.add(transitions.drop_delayed_because_status(item.due_ms, item.task))
            case Verdict.DROP_DELAYED_WAITING if self._stands_in:
                # The primary may be about to delete the other copy, which it saw assigned when it took over.
                self._postpone(item, _TRY_LATER_SECONDS)
            case Verdict.DROP_DELAYED_WAITING:
                self._gathering.add(transitions.drop_delayed_because_task(item.due_ms, item.task))
            case Verdict.DECIDE_AGAIN:
                self._finish(item)  # the other copy has left meanwhile
            case Verdict.FOLDER_MISSING:
                self.is_folder_missing = True
                self._postpone(item, _TRY_LATER_SECONDS)
            case _:
                self._postpone(item, _SET_ASIDE_SECONDS)

    # Each ends with exactly one of these.

    def _finish(self, item: Delayed) -> None:
        del self._under_way[item.task]
        self.schedule.finish(item)
        self._wake()

    def _postpone(self, item: Delayed, seconds: float) -> None:
        del self._under_way[item.task]
        self.schedule.postpone(item, self._clock() + seconds)
        self._wake()

    def _refuted(self, item: Delayed) -> None:
        del self._under_way[item.task]
        now = self._clock()
        if not self.schedule.refute(item, now + _SET_ASIDE_SECONDS) and now >= self._may_list_again:
            self._may_list_again = now + _SET_ASIDE_SECONDS
            self.stream.list_again()
        self._wake()
