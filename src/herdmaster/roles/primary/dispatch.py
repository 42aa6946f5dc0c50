"""Carries out what the dispatcher decides: reads what a decision needs, commits it, and answers how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from herdmaster.core import layout, transitions
from herdmaster.core.conditions import expiry_of
from herdmaster.core.decisions import (
    Assign,
    Decision,
    DropAssignment,
    DropTask,
    Expire,
    ReadHeader,
    Recover,
    RemoveInbox,
)
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.endings import expired, freed_key, too_large, unreadable
from herdmaster.core.payload import asked_of
from herdmaster.core.recovery import MAX_MOVABLE, Recovery, follow_up
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.transitions import Move
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.shared.committer import Committer, Fate, Gathering, Settlement
from herdmaster.roles.shared.payload_reader import PayloadReader
from herdmaster.roles.shared.server_clock import ServerClock
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

MAX_IN_FLIGHT: Final = 1000
"""Tasks that transactions are under way about; enough for a few full batches."""

_CLOCK_SECONDS: Final = 0.05
_TRY_LATER_SECONDS: Final = 1.0
_SET_ASIDE_SECONDS: Final = 30.0


class Observed(Protocol):
    """What is known of tasks, inboxes and workers."""

    dispatcher: Dispatcher

    def list_again(self) -> None:
        """What is known is wrong. Raises the session's final error."""


class Dispatch:
    """`step` does what is to be done now; `wake` is called when it is worth another step."""

    def __init__(
        self,
        client: Client,
        observation: Observed,
        server_clock: ServerClock,
        *,
        recovery: Recovery,
        report: PrimaryLog,
        wake: Callable[[], None],
    ) -> None:
        self._client = client
        self._clock = client.clock
        self._dispatcher = observation.dispatcher
        self._observation = observation
        self._server_clock = server_clock
        self._recovery = recovery
        self._report = report
        self._wake = wake
        self._committer = Committer(client)
        self._gathering = Gathering(self._commit)
        self._reader = PayloadReader(client)
        self._may_list_again = 0.0
        self._in_flight = 0
        self.is_folder_missing = False  # `restore_folders` is wanted

    @property
    def is_idle(self) -> bool:
        """Whether everything that was decided has ended."""
        return not self._in_flight

    def step(self) -> None:
        """Raises the session's final error."""
        now_ms = None if self._dispatcher.next_expiry_ms() is None else self._server_clock.now_ms(self._wake)
        decisions = self._dispatcher.decide(self._clock(), MAX_IN_FLIGHT - self._in_flight, now_ms)
        self._carry_out(decisions)
        if not decisions:
            self._report.tell_foreign_names(self._dispatcher.take_foreign_names())
            self._report.tell_unserved_queues(self._dispatcher.unserved_queues())

    def next_wakeup(self) -> float | None:
        """When, on the client's clock, it is time for a step although nothing happens meanwhile."""
        expiry = self._dispatcher.next_expiry_ms()
        times = (self._dispatcher.next_wakeup(), None if expiry is None else self._server_clock.wakeup(expiry))
        return min((time for time in times if time is not None), default=None)

    def _carry_out(self, decisions: list[Decision]) -> None:
        """What needs a payload reads it first."""
        self._in_flight += len(decisions)
        assigns: list[tuple[Assign, str, str]] = []
        recovers: list[Recover] = []
        headers: list[tuple[ReadHeader, str, str]] = []
        expiries: list[tuple[Expire, str, str]] = []
        moves: list[Move] = []
        for decision in decisions:
            match decision:
                case Assign(task):
                    assigns.append((decision, task, layout.task_path(task)))
                case ReadHeader(task):
                    headers.append((decision, task, layout.task_path(task)))
                case Expire(task):
                    expiries.append((decision, task, layout.task_path(task)))
                case Recover():
                    recovers.append(decision)
                case DropTask(task, worker) if worker is not None:
                    moves.append(transitions.drop_task_because_assigned(worker, task))
                case DropTask(task):
                    moves.append(transitions.drop_task_because_status(task))
                case DropAssignment(task, worker):
                    moves.append(transitions.drop_assignment_because_task(worker, task))
                case RemoveInbox(worker):
                    self._remove_inbox(worker)
        self._commit(moves)
        self._reader.read(headers, self._tell_header)
        self._reader.read(expiries, self._expire)
        self._reader.read(assigns, self._assign)
        self._recover(recovers)

    def _commit(self, moves: Iterable[Move]) -> None:
        self._committer.commit(moves, self._settled)

    def _assign(self, decision: Assign, data: bytes | None, _stat: Stat | None, error: Exception | None) -> None:
        task = decision.task
        if isinstance(error, errors.NoAuth):
            self._gathering.add(transitions.refuse(task, unreadable(task, error)))
        elif data is None:
            self._give_up(task, error)
        elif len(data) > MAX_MOVABLE:
            self._gathering.add(transitions.refuse(task, too_large(task, len(data))))
        else:
            self._place(decision, data)

    def _place(self, decision: Assign, data: bytes) -> None:
        task, asked = decision.task, asked_of(data)
        worker: str | None = decision.worker
        if self._recovery.runs_alone(task, data):
            self._report.tell_isolated(task)
            if not self._dispatcher.isolate(task, asked):
                self._finish(task)
                return
        elif asked:
            worker = self._dispatcher.redirect(task, asked)
        if worker is None:
            self._postpone(task, _TRY_LATER_SECONDS)
        else:
            self._gathering.add(transitions.assign(task, worker, data))

    def _tell_header(
        self, decision: ReadHeader, data: bytes | None, _stat: Stat | None, error: Exception | None
    ) -> None:
        task = decision.task
        if data is None and not isinstance(error, errors.NoAuth):
            self._give_up(task, error)
            return
        expires = None if data is None else expiry_of(task, data)  # what may not be read is refused in its turn
        if expires is not None and self._server_clock.now_ms(self._wake) is None:
            self._postpone(task, _CLOCK_SECONDS)  # whether its time is over is unknown
            return
        self._dispatcher.set_expiry(task, expires)
        self._finish(task)

    def _expire(self, decision: Expire, data: bytes | None, _stat: Stat | None, error: Exception | None) -> None:
        task = decision.task
        if data is None:
            self._give_up(task, error)
            return
        # The header that was read before may be that of an earlier attempt.
        expires, now_ms = expiry_of(task, data), self._server_clock.now_ms(self._wake)
        if expires is not None and now_ms is not None and expires <= now_ms:
            self._gathering.add(transitions.refuse(task, expired(task, data), freed_key(task, data)))
        else:
            self._dispatcher.set_expiry(task, expires)
            self._finish(task)

    def _recover(self, recovers: list[Recover]) -> None:
        """Looks for a status of each, which a worker of the reference may have left, then reads the payloads."""
        found: dict[str, Stat | Exception | None] = {}  # None: there is no status

        def read(decision: Recover, data: bytes | None, _stat: Stat | None, error: Exception | None) -> None:
            worker, task = decision.worker, decision.task
            looked = found.get(task)
            if isinstance(error, errors.NoAuth):
                self._commit((transitions.refuse_assigned(worker, task, unreadable(task, error)),))
            elif data is None:
                self._give_up(task, error)
            elif isinstance(looked, Exception):
                self._give_up(task, looked)
            else:
                self._commit((self._recovery.move(worker, task, data, has_status=looked is not None),))

        def look(decision: Recover) -> None:
            def done(stat: Stat | None, error: Exception | None) -> None:
                found[decision.task] = error or stat

            self._client.exists_nowait(layout.status_path(decision.task), done)

        for decision in recovers:
            look(decision)
        wanted = [(each, each.task, layout.assignment_path(each.worker, each.task)) for each in recovers]
        self._reader.read(wanted, read)

    def _remove_inbox(self, worker: str) -> None:
        def done(_result: None, error: Exception | None) -> None:
            if isinstance(error, errors.NotEmpty):  # by what is no task's name, or its event is withheld
                self._postpone(worker, _SET_ASIDE_SECONDS)
            elif error is None:
                self._finish(worker)
            else:
                self._give_up(worker, error)

        self._client.delete_nowait(layout.inbox_path(worker), done)

    def _settled(self, settlement: Settlement) -> None:
        move = settlement.move
        if settlement.fate is Fate.COMMITTED:
            self._report.tell_committed(move)
            if move.transition is TransitionName.BURY:
                self._recovery.forget(move.task)
            self._finish(move.task)
        elif settlement.verdict is None:
            self._postpone(move.task, 0.0)  # its outcome is unknown: the next listings show it
        else:
            self._refused(move, settlement.verdict)

    def _refused(self, move: Move, verdict: Verdict) -> None:
        following = follow_up(move, verdict)
        if following is not None:
            self._commit((following,))
        elif verdict is Verdict.RACE_LOST:
            self._refuted(move.task)
        elif verdict is Verdict.KEEP_AND_TRY_LATER:
            self._postpone(move.task, _TRY_LATER_SECONDS)
        elif verdict is Verdict.FOLDER_MISSING:
            self.is_folder_missing = True
            self._postpone(move.task, _TRY_LATER_SECONDS)
        elif verdict is Verdict.UNEXPECTED:
            self._postpone(move.task, _SET_ASIDE_SECONDS)
        else:
            self._finish(move.task)  # the worker is gone, say: the pictures tell

    # Each decision ends with exactly one of these.

    def _finish(self, key: str) -> None:
        self._in_flight -= 1
        self._dispatcher.finish(key)
        self._wake()

    def _postpone(self, key: str, seconds: float) -> None:
        self._in_flight -= 1
        self._dispatcher.postpone(key, self._clock() + seconds)
        self._wake()

    def _refuted(self, key: str) -> None:
        self._in_flight -= 1
        now = self._clock()
        if not self._dispatcher.refute(key, now + _SET_ASIDE_SECONDS) and now >= self._may_list_again:
            self._may_list_again = now + _SET_ASIDE_SECONDS
            self._observation.list_again()
        self._wake()

    def _give_up(self, key: str, error: Exception | None) -> None:
        """It cannot be carried out, because ZooKeeper did not give what it needs."""
        if isinstance(error, errors.NoNode):
            self._refuted(key)
        elif isinstance(error, errors.ServerError):
            self._report.tell_unreadable(key, error)
            self._postpone(key, _SET_ASIDE_SECONDS)
        else:
            self._postpone(key, 0.0)
