"""Carries out what the dispatcher decides: reads what a decision needs, and commits the move that follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from herdmaster.core import layout, transitions
from herdmaster.core.conditions import expiry_of
from herdmaster.core.decisions import (
    Assign,
    Decision,
    DropAssignment,
    DropTask,
    ReadHeader,
    Recover,
    RefuseExpired,
    RemoveInbox,
)
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.ending_moves import refuse
from herdmaster.core.endings import EXPIRED, too_large, unreadable
from herdmaster.core.names import is_step
from herdmaster.core.payload import asked_of
from herdmaster.core.recovery import MAX_MOVABLE, Recovery
from herdmaster.core.table import TransitionName
from herdmaster.core.transitions import Move
from herdmaster.core.whereabouts import Assigned, Waiting
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.primary.part import SET_ASIDE_SECONDS, TRY_LATER_SECONDS, Part
from herdmaster.roles.shared.server_clock import ServerClock
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

_CLOCK_SECONDS: Final = 0.05


class Dispatch(Part):
    """Assigns waiting tasks, recovers those of lost workers, and drops copies. `list_again` makes the picture anew."""

    def __init__(
        self,
        client: Client,
        dispatcher: Dispatcher,
        server_clock: ServerClock,
        *,
        recovery: Recovery,
        report: PrimaryLog,
        wake: Callable[[], None],
        list_again: Callable[[], None],
    ) -> None:
        super().__init__(client, dispatcher, report, wake, list_again)
        self._dispatcher = dispatcher
        self._server_clock = server_clock
        self._recovery = recovery

    def step(self) -> None:
        now_ms = None if self._dispatcher.next_expiry_ms() is None else self._server_clock.now_ms(self.wake)
        decisions = self._dispatcher.decide(self.clock(), self.room, now_ms)
        self._carry_out(decisions)
        if not decisions:
            self.report.tell_foreign_names(self._dispatcher.take_foreign_names())
            self.report.tell_unserved_queues(self._dispatcher.unserved_queues())

    def next_wakeup(self) -> float | None:
        expiry = self._dispatcher.next_expiry_ms()
        times = (self._dispatcher.next_wakeup(), None if expiry is None else self._server_clock.wakeup(expiry))
        return min((time for time in times if time is not None), default=None)

    def _carry_out(self, decisions: list[Decision]) -> None:
        assigns: list[tuple[Assign, str, str]] = []
        recovers: list[Recover] = []
        headers: list[tuple[ReadHeader, str, str]] = []
        expiries: list[tuple[RefuseExpired, str, str]] = []
        drops: list[Move] = []
        for decision in decisions:
            match decision:
                case Assign(task):
                    assigns.append((decision, task, layout.task_path(task)))
                case ReadHeader(task):
                    headers.append((decision, task, layout.task_path(task)))
                case RefuseExpired(task):
                    expiries.append((decision, task, layout.task_path(task)))
                case Recover():
                    recovers.append(decision)
                case DropTask(task, worker) if worker is not None:
                    drops.append(transitions.drop_task_because_assigned(worker, task))
                case DropTask(task):
                    drops.append(transitions.drop_task_because_status(task))
                case DropAssignment(task, worker):
                    drops.append(transitions.drop_assignment_because_task(worker, task))
                case RemoveInbox(worker):
                    self._remove_inbox(worker)
        self.commit(drops)
        self.reader.read(headers, self._handle_header)
        self.reader.read(expiries, self._refuse_expired)
        self.reader.read(assigns, self._assign)
        self._recover(recovers)

    # --- waiting tasks -----------------------------------------------------------------------------------------------

    def _assign(self, decision: Assign, data: bytes | None, _stat: Stat | None, error: Exception | None) -> None:
        task = decision.task
        if isinstance(error, errors.NoAuth) and not is_step(task):
            self.end(refuse(Waiting(task), b"", unreadable(error)))
        elif data is None:
            self.give_up(task, error)
        elif len(data) > MAX_MOVABLE:
            self.end(refuse(Waiting(task), data, too_large(len(data))), data)
        else:
            self._place(decision, data)

    def _place(self, decision: Assign, data: bytes) -> None:
        task, asked = decision.task, asked_of(data)
        worker: str | None = decision.worker
        if self._recovery.runs_alone(task, data):
            self.report.tell_isolated(task)
            if not self._dispatcher.isolate(task, asked):
                self.finish(task)
                return
        elif asked:
            worker = self._dispatcher.redirect(task, asked)
        if worker is None:
            self.postpone(task, TRY_LATER_SECONDS)
        else:
            self.gathering.add(transitions.assign(task, worker, data))

    def _handle_header(
        self, decision: ReadHeader, data: bytes | None, _stat: Stat | None, error: Exception | None
    ) -> None:
        task = decision.task
        if data is None and not isinstance(error, errors.NoAuth):
            self.give_up(task, error)
            return
        expires = None if data is None else expiry_of(task, data)  # what may not be read is refused when it is assigned
        if expires is not None and self._server_clock.now_ms(self.wake) is None:
            self.postpone(task, _CLOCK_SECONDS)  # whether it has expired is unknown
            return
        self._dispatcher.set_expiry(task, expires)
        self.finish(task)

    def _refuse_expired(
        self, decision: RefuseExpired, data: bytes | None, _stat: Stat | None, error: Exception | None
    ) -> None:
        task = decision.task
        if data is None:
            self.give_up(task, error)
            return
        # The header that was read before may be that of an earlier attempt.
        expires, now_ms = expiry_of(task, data), self._server_clock.now_ms(self.wake)
        if expires is not None and now_ms is not None and expires <= now_ms:
            self.end(refuse(Waiting(task), data, EXPIRED), data)
        else:
            self._dispatcher.set_expiry(task, expires)
            self.finish(task)

    # --- lost workers ------------------------------------------------------------------------------------------------

    def _recover(self, recovers: list[Recover]) -> None:
        """Look for a status of each, which a reference worker may have left, then read the payloads."""
        statuses: dict[str, Stat | Exception | None] = {}  # None: there is no status

        def read(decision: Recover, data: bytes | None, _stat: Stat | None, error: Exception | None) -> None:
            worker, task = decision.worker, decision.task
            status = statuses.get(task)
            if isinstance(error, errors.NoAuth) and not is_step(task):
                self.end(refuse(Assigned(task, worker), b"", unreadable(error)))
            elif data is None:
                self.give_up(task, error)
            elif isinstance(status, Exception):
                self.give_up(task, status)
            else:
                self.end(self._recovery.move(worker, task, data, has_status=status is not None), data)

        def look(decision: Recover) -> None:
            def done(stat: Stat | None, error: Exception | None) -> None:
                statuses[decision.task] = error or stat

            self.client.exists_nowait(layout.status_path(decision.task), done)

        for decision in recovers:
            look(decision)
        wanted = [(each, each.task, layout.assignment_path(each.worker, each.task)) for each in recovers]
        self.reader.read(wanted, read)

    def _remove_inbox(self, worker: str) -> None:
        def done(_result: None, error: Exception | None) -> None:
            if isinstance(error, errors.NotEmpty):  # it holds a foreign name, or an event is withheld
                self.postpone(worker, SET_ASIDE_SECONDS)
            elif error is None:
                self.finish(worker)
            else:
                self.give_up(worker, error)

        self.client.delete_nowait(layout.inbox_path(worker), done)

    def _handle_committed(self, move: Move) -> None:
        super()._handle_committed(move)
        if move.transition is TransitionName.BURY:
            self._recovery.forget(move.task)
