"""The primary at work: watch, decide, commit, for as long as its session owns `/master`.

Everything that ZooKeeper tells goes straight into the dispatcher, in the order of the wire; the loop only asks it for
decisions and carries them out. After an interruption nothing is decided until fresh listings have come.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from herdmaster.core import layout, transitions
from herdmaster.core.dispatcher import (
    Assign,
    Decision,
    Dispatcher,
    DropAssignment,
    DropTask,
    Picture,
    Recover,
    RemoveInbox,
)
from herdmaster.core.members import worker_state
from herdmaster.core.recovery import MAX_MOVABLE, Recovery, follow_up, too_large, unreadable
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.transitions import Move
from herdmaster.roles.bootstrap import make_folders
from herdmaster.roles.committer import Committer, Fate, Settlement
from herdmaster.roles.payload_reader import PayloadReader
from herdmaster.roles.primary_log import PrimaryLog
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import SessionState, Stat
from herdmaster.zookeeper.recipes.children import (
    Added,
    Changed,
    ChildChange,
    ChildStream,
    Complete,
    Failed,
    Interrupted,
    Listed,
    Removed,
)
from herdmaster.zookeeper.wire.records import ChildrenReply, DataReply, Delete, Exists, GetChildren, GetData, Record

MAX_IN_FLIGHT: Final = 1000
"""Tasks that transactions are under way about; enough for a few full batches."""

_TRY_LATER_SECONDS: Final = 1.0
_SET_ASIDE_SECONDS: Final = 30.0

_log = logging.getLogger("herdmaster.master")


class Primary:
    """One term of a primary."""

    def __init__(self, client: Client, *, max_deliveries: int, orphan_inbox_seconds: float) -> None:
        self._client = client
        self._clock = client.clock
        self._dispatcher = Dispatcher(orphan_inbox_seconds=orphan_inbox_seconds)
        self._recovery = Recovery(max_deliveries)
        self._committer = Committer(client)
        self._reader = PayloadReader(client)
        self._report = PrimaryLog()
        self._wake = asyncio.Event()
        self._fault: errors.ZooKeeperError | None = None
        self._is_folder_missing = False
        self._may_list_again = 0.0
        self._in_flight = 0
        self._status_round = 0
        self._streams = (
            ChildStream(client, layout.TASKS, self._handle_tasks),
            ChildStream(client, layout.ASSIGN, self._handle_assign, depth=2),
            ChildStream(client, layout.WORKERS, self._handle_workers),
        )

    async def run(self) -> None:
        """Until the session is over: raises SessionExpired then, or what makes it impossible to go on."""
        self._client.add_listener(self._handle_state)
        for stream in self._streams:
            stream.start()
        while True:
            await self._observe()
            if self._is_folder_missing:
                self._is_folder_missing = False
                await make_folders(self._client)
            now = self._clock()
            decisions = self._dispatcher.decide(now, MAX_IN_FLIGHT - self._in_flight)
            self._commit(decisions)
            if not decisions:
                self._report.tell_foreign_names(self._dispatcher.take_foreign_names())
                self._report.tell_unserved_queues(self._dispatcher.unserved_queues())

    async def _observe(self) -> None:
        """Waits until something was told, or until it is time for something postponed."""
        wakeup = self._dispatcher.next_wakeup()
        if self._fault is not None:
            raise self._fault
        if self._client.state.is_final:
            raise errors.SessionExpired("the primary's session ended")
        try:
            async with asyncio.timeout(None if wakeup is None else max(wakeup - self._clock(), 0.01)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    # --- watch ---------------------------------------------------------------------------------------------------

    def _handle_state(self, state: SessionState) -> None:
        if state is SessionState.DISCONNECTED:
            _log.warning("the connection to ZooKeeper was lost: nothing is decided until it is back")
        self._wake.set()

    def _handle_tasks(self, change: ChildChange) -> None:
        match change:
            case Added(_, name):
                self._dispatcher.task_added(name)
            case Removed(_, name):
                self._dispatcher.task_removed(name)
            case Listed(_, None):
                self._fail(errors.NoNode(layout.TASKS))
            case Listed(_, names):
                self._dispatcher.tasks_listed(names or ())
            case _:
                self._handle_picture(change, Picture.TASKS)
        self._wake.set()

    def _handle_assign(self, change: ChildChange) -> None:
        now = self._clock()
        match change:
            case Added(layout.ASSIGN, name):
                self._dispatcher.inbox_added(name, now)
            case Added(folder, name):
                self._dispatcher.assignment_added(layout.name_of(folder), name)
            case Removed(layout.ASSIGN, name):
                self._dispatcher.inbox_removed(name)
                self._report.tell_cleared(name)
            case Removed(folder, name):
                self._dispatcher.assignment_removed(layout.name_of(folder), name)
            case Listed(layout.ASSIGN, None):
                self._fail(errors.NoNode(layout.ASSIGN))
            case Listed(layout.ASSIGN, names):
                self._dispatcher.inboxes_listed(names or (), now)
            case Listed(folder, None):
                self._dispatcher.inbox_removed(layout.name_of(folder))
            case Listed(folder, names):
                self._dispatcher.assignments_listed(layout.name_of(folder), names or (), now)
            case _:
                self._handle_picture(change, Picture.ASSIGN)
        self._wake.set()

    def _handle_workers(self, change: ChildChange) -> None:
        match change:
            case Added(_, name):
                _log.info("%s joined", name)
                self._dispatcher.worker_joined(name, self._clock())
                self._read_worker(name)
            case Changed(_, name):
                self._read_worker(name)
            case Removed(_, name):
                self._report.tell_left(name, drained=self._has_drained(name))
                self._dispatcher.worker_left(name, self._clock())
            case Listed(_, None):
                self._fail(errors.NoNode(layout.WORKERS))
            case Listed(_, names):
                self._dispatcher.workers_listed(names or (), self._clock())
                for name in names or ():
                    self._read_worker(name)
            case _:
                self._handle_picture(change, Picture.WORKERS)
        self._wake.set()

    def _has_drained(self, name: str) -> bool:
        """Whoever drains takes the inbox away first, in the same transaction; whoever is lost leaves it."""
        worker = self._dispatcher.roster.get(name)
        return worker is not None and worker.inbox is None

    def _handle_picture(self, change: ChildChange, picture: Picture) -> None:
        match change:
            case Complete():
                if picture is Picture.WORKERS:
                    # Not watched, so read last: a task that moves on meanwhile is seen by its events.
                    self._read_statuses()
                self._dispatcher.complete(picture)
            case Interrupted():
                self._dispatcher.interrupted()
            case Failed(layout.TASKS | layout.ASSIGN | layout.WORKERS, error):
                self._fail(error)
            case Failed(folder, error):
                self._report.tell_unreadable(folder, error)

    def _fail(self, fault: errors.ZooKeeperError) -> None:
        """Ends this term: the role starts again with a new session, and makes the folders that are absent."""
        self._fault = self._fault or fault
        self._wake.set()

    def _read_worker(self, name: str) -> None:
        def done(reply: Record | None, error: Exception | None) -> None:
            if isinstance(reply, DataReply):
                state = worker_state(reply.data)
                if state is None:
                    self._report.tell_silent_worker(name, reply.data)
                self._dispatcher.worker_told(name, state)
                self._wake.set()
            elif isinstance(error, errors.ServerError) and not isinstance(error, errors.NoNode):
                self._report.tell_unreadable(name, error)

        self._client.call_nowait(GetData(self._client.outward(layout.worker_path(name)), False), done)

    def _read_statuses(self) -> None:
        if self._dispatcher.knows_statuses:
            return
        self._status_round += 1
        number = self._status_round

        def done(reply: Record | None, error: Exception | None) -> None:
            if number != self._status_round:
                return  # asked before an interruption: it may be older than the other listings
            if isinstance(reply, ChildrenReply):
                self._dispatcher.statuses_listed(reply.children)
                self._dispatcher.complete(Picture.STATUS)
                self._wake.set()
            elif isinstance(error, errors.ServerError):
                self._fail(error)

        self._client.call_nowait(GetChildren(self._client.outward(layout.STATUS), False), done)

    # --- commit --------------------------------------------------------------------------------------------------

    def _commit(self, decisions: list[Decision]) -> None:
        """Carries decisions out: what needs a payload reads it first."""
        self._in_flight += len(decisions)
        assigns: list[tuple[Assign, str, str]] = []
        recovers: list[Recover] = []
        moves: list[Move] = []
        for decision in decisions:
            match decision:
                case Assign(task):
                    assigns.append((decision, task, layout.task_path(task)))
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
        self.commit(moves)
        self._reader.read(assigns, _Assigning(self).read)
        self._recover(recovers)

    def commit(self, moves: Iterable[Move]) -> None:
        self._committer.commit(moves, self._settled)

    def _recover(self, recovers: list[Recover]) -> None:
        """Looks for a status of each, which a worker of the reference's may have left, then reads the payloads."""
        found: dict[str, Exception | None] = {}

        def read(decision: Recover, data: bytes | None, _stat: Stat | None, error: Exception | None) -> None:
            worker, task = decision.worker, decision.task
            looked = found.get(task)
            if isinstance(error, errors.NoAuth):
                self.commit((transitions.refuse_assigned(worker, task, unreadable(task, error)),))
            elif data is None or (looked is not None and not isinstance(looked, errors.NoNode)):
                self.give_up(task, error or looked)
            else:
                has_status = task in found and looked is None
                self.commit((self._recovery.move(worker, task, data, has_status=has_status),))

        def look(decision: Recover) -> None:
            def done(_reply: Record | None, error: Exception | None) -> None:
                found[decision.task] = error

            self._client.call_nowait(Exists(self._client.outward(layout.status_path(decision.task)), False), done)

        for decision in recovers:
            look(decision)
        wanted = [(each, each.task, layout.assignment_path(each.worker, each.task)) for each in recovers]
        self._reader.read(wanted, read)

    def _remove_inbox(self, worker: str) -> None:
        def done(_reply: Record | None, error: Exception | None) -> None:
            if isinstance(error, errors.NotEmpty):  # by what is no task's name, or its event is withheld
                self._postpone(worker, _SET_ASIDE_SECONDS)
            elif error is None:
                self._finish(worker)
            else:
                self.give_up(worker, error)

        self._client.call_nowait(Delete(self._client.outward(layout.inbox_path(worker)), -1), done)

    def _settled(self, settlement: Settlement) -> None:
        move = settlement.move
        if settlement.fate is Fate.COMMITTED:
            self._report.tell_committed(move)
            if move.transition is TransitionName.BURY:
                self._recovery.forget(move.task)
            self._finish(move.task)
        elif settlement.verdict is None:
            self._postpone(move.task, 0.0)  # nobody knows what came of it: the next listings tell
        else:
            self._refused(move, settlement.verdict)

    def _refused(self, move: Move, verdict: Verdict) -> None:
        following = follow_up(move, verdict)
        if following is not None:
            self.commit((following,))
        elif verdict is Verdict.RACE_LOST:
            self._refuted(move.task)
        elif verdict is Verdict.KEEP_AND_TRY_LATER:
            self._postpone(move.task, _TRY_LATER_SECONDS)
        elif verdict is Verdict.UNEXPECTED:
            self._is_folder_missing = True  # perhaps
            self._postpone(move.task, _SET_ASIDE_SECONDS)
        else:
            self._finish(move.task)  # the worker is gone, say: the pictures tell

    # Each decision ends with exactly one of these.

    def _finish(self, key: str) -> None:
        self._in_flight -= 1
        self._dispatcher.finished(key)
        self._wake.set()

    def _postpone(self, key: str, seconds: float) -> None:
        self._in_flight -= 1
        self._dispatcher.postponed(key, self._clock() + seconds)
        self._wake.set()

    def _refuted(self, key: str) -> None:
        self._in_flight -= 1
        now = self._clock()
        if not self._dispatcher.refuted(key, now + _SET_ASIDE_SECONDS) and now >= self._may_list_again:
            self._may_list_again = now + _SET_ASIDE_SECONDS
            for stream in self._streams:
                stream.list_again()
        self._wake.set()

    def give_up(self, key: str, error: Exception | None) -> None:
        """It cannot be carried out, because ZooKeeper did not give what it needs."""
        if isinstance(error, errors.NoNode):
            self._refuted(key)
        elif isinstance(error, errors.ServerError):
            self._report.tell_unreadable(key, error)
            self._postpone(key, _SET_ASIDE_SECONDS)
        else:
            self._postpone(key, 0.0)


class _Assigning:
    """Turns the payloads that one round of decisions asked for into assignments, committed together."""

    def __init__(self, primary: Primary) -> None:
        self._primary = primary
        self._moves: list[Move] = []
        self._scheduled = False

    def read(self, decision: Assign, data: bytes | None, _stat: Stat | None, error: Exception | None) -> None:
        task = decision.task
        if isinstance(error, errors.NoAuth):
            self._moves.append(transitions.refuse(task, unreadable(task, error)))
        elif data is None:
            self._primary.give_up(task, error)
            return
        elif len(data) > MAX_MOVABLE:
            self._moves.append(transitions.refuse(task, too_large(task, len(data))))
        else:
            self._moves.append(transitions.assign(task, decision.worker, data))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._commit)

    def _commit(self) -> None:
        moves, self._moves, self._scheduled = self._moves, [], False
        self._primary.commit(moves)
