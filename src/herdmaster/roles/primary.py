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
from herdmaster.core.recovery import MAX_MOVABLE, Recovery, too_large
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.transitions import Move
from herdmaster.roles.committer import Committer, Fate, Settlement
from herdmaster.roles.payload_reader import read_payloads
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import SessionState, Stat
from herdmaster.zookeeper.recipes.children import (
    Added,
    Changed,
    ChildChange,
    ChildStream,
    Complete,
    Interrupted,
    Listed,
    Removed,
)
from herdmaster.zookeeper.wire.records import ChildrenReply, DataReply, Delete, Exists, GetChildren, GetData, Record

MAX_IN_FLIGHT: Final = 1000
"""Tasks that transactions are under way about; enough for a few full batches."""

_TRY_LATER_SECONDS: Final = 1.0
_SET_ASIDE_SECONDS: Final = 30.0
_MAX_REPORTED_NAMES: Final = 1000

_log = logging.getLogger("herdmaster.master")


class Primary:
    """One term of a primary."""

    def __init__(self, client: Client, *, max_deliveries: int, orphan_inbox_seconds: float) -> None:
        self._client = client
        self._clock = client.clock
        self._dispatcher = Dispatcher(orphan_inbox_seconds=orphan_inbox_seconds)
        self._recovery = Recovery(max_deliveries)
        self._committer = Committer(client)
        self._wake = asyncio.Event()
        self._in_flight = 0
        self._reported_names: set[str] = set()
        self._reported_queues: set[str] = set()
        self._recovered: dict[str, int] = {}
        self._streams = (
            ChildStream(client, layout.TASKS, self._handle_tasks),
            ChildStream(client, layout.ASSIGN, self._handle_assign, depth=2),
            ChildStream(client, layout.WORKERS, self._handle_workers),
        )

    async def run(self) -> None:
        """Until the session is over: raises SessionExpired then."""
        self._client.add_listener(self._handle_state)
        for stream in self._streams:
            stream.start()
        while True:
            await self._observe()
            now = self._clock()
            decisions = self._dispatcher.decide(now, MAX_IN_FLIGHT - self._in_flight)
            self._commit(decisions)
            if not decisions:
                self._report()

    async def _observe(self) -> None:
        """Waits until something was told, or until it is time for something postponed."""
        wakeup = self._dispatcher.next_wakeup()
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
            case Listed(_, names):
                self._dispatcher.tasks_listed(names or ())
            case Complete():
                self._complete(Picture.TASKS)
            case Interrupted():
                self._dispatcher.interrupted()
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
            case Removed(folder, name):
                self._dispatcher.assignment_removed(layout.name_of(folder), name)
            case Listed(layout.ASSIGN, names):
                self._dispatcher.inboxes_listed(names or (), now)
            case Listed(folder, None):
                self._dispatcher.inbox_removed(layout.name_of(folder))
            case Listed(folder, names):
                self._dispatcher.assignments_listed(layout.name_of(folder), names or (), now)
            case Complete():
                self._complete(Picture.ASSIGN)
            case Interrupted():
                self._dispatcher.interrupted()
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
                _log.info("%s is gone", name)
                self._dispatcher.worker_left(name, self._clock())
            case Listed(_, names):
                self._dispatcher.workers_listed(names or (), self._clock())
                for name in names or ():
                    self._read_worker(name)
            case Complete():
                self._complete(Picture.WORKERS)
            case Interrupted():
                self._dispatcher.interrupted()
        self._wake.set()

    def _complete(self, picture: Picture) -> None:
        if picture is Picture.WORKERS:
            # Statuses are not watched, so they are read last: a task that moves on meanwhile is seen by its events.
            self._read_statuses()
        self._dispatcher.complete(picture)

    def _read_worker(self, name: str) -> None:
        def done(reply: Record | None, _error: Exception | None) -> None:
            if isinstance(reply, DataReply):
                state = worker_state(reply.data)
                if state is None and name not in self._reported_names:
                    self._reported_names.add(name)
                    _log.warning("%s says nothing usable of itself (%.80r): it gets no tasks", name, reply.data)
                self._dispatcher.worker_told(name, state)
                self._wake.set()

        self._client.call_nowait(GetData(self._client.outward(layout.worker_path(name)), False), done)

    def _read_statuses(self) -> None:
        def done(reply: Record | None, _error: Exception | None) -> None:
            if isinstance(reply, ChildrenReply):
                self._dispatcher.statuses_listed(reply.children)
                self._dispatcher.complete(Picture.STATUS)
                self._wake.set()

        if not self._dispatcher.knows_statuses:
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
        self._committer.commit(moves, self._settled)
        read_payloads(self._client, assigns, _Assigning(self).read)
        self._recover(recovers)

    def commit(self, moves: Iterable[Move]) -> None:
        self._committer.commit(moves, self._settled)

    def _recover(self, recovers: list[Recover]) -> None:
        """Looks for a status of each, which a worker of the reference's may have left, then reads the payloads."""
        statuses: set[str] = set()

        def read(decision: Recover, data: bytes | None, _stat: Stat | None, error: Exception | None) -> None:
            if data is None:
                self.finish(decision.task, error)
                return
            move = self._recovery.move(decision.worker, decision.task, data, has_status=decision.task in statuses)
            self.commit((move,))

        def look(decision: Recover) -> None:
            def done(reply: Record | None, _error: Exception | None) -> None:
                if reply is not None:
                    statuses.add(decision.task)

            self._client.call_nowait(Exists(self._client.outward(layout.status_path(decision.task)), False), done)

        for decision in recovers:
            look(decision)
        wanted = [(each, each.task, layout.assignment_path(each.worker, each.task)) for each in recovers]
        read_payloads(self._client, wanted, read)

    def _remove_inbox(self, worker: str) -> None:
        def done(_reply: Record | None, error: Exception | None) -> None:
            if isinstance(error, errors.NotEmpty):  # the event of what came in is on its way
                self._postpone(worker, _TRY_LATER_SECONDS)
            else:
                self.finish(worker, None)

        self._client.call_nowait(Delete(self._client.outward(layout.inbox_path(worker)), -1), done)

    def _settled(self, settlement: Settlement) -> None:
        task = settlement.move.task
        if settlement.fate is Fate.COMMITTED:
            self._note(settlement.move)
            self.finish(task, None)
            return
        match settlement.verdict:
            case Verdict.KEEP_AND_TRY_LATER:
                self._postpone(task, _TRY_LATER_SECONDS)
            case Verdict.UNEXPECTED:
                self._postpone(task, _SET_ASIDE_SECONDS)
            case Verdict.DROP_TASK_ENDED:
                self.commit((transitions.drop_task_because_status(task),))
            case Verdict.DROP_TASK_ASSIGNED:
                self.commit((transitions.drop_task_because_assigned(_worker_of(settlement.move), task),))
            case Verdict.DROP_ASSIGNMENT:
                self.commit((transitions.drop_assignment_because_status(_worker_of(settlement.move), task),))
            case _:
                # The race is lost, the worker is gone, or nobody knows: the pictures tell, or the next listings do.
                self.finish(task, None)

    def finish(self, key: str, _error: Exception | None) -> None:
        self._in_flight -= 1
        self._dispatcher.finished(key)
        self._wake.set()

    def _postpone(self, key: str, seconds: float) -> None:
        self._in_flight -= 1
        self._dispatcher.postponed(key, self._clock() + seconds)
        self._wake.set()

    # --- report --------------------------------------------------------------------------------------------------

    def _note(self, move: Move) -> None:
        match move.transition:
            case TransitionName.RECOVER:
                worker = _worker_of(move)
                self._recovered[worker] = self._recovered.get(worker, 0) + 1
            case TransitionName.BURY:
                _log.error("buried %s: too many workers were lost while they held it", move.task)
            case TransitionName.REFUSE | TransitionName.REFUSE_ASSIGNED:
                _log.error("refused %s: its payload is too large to be moved", move.task)

    def _report(self) -> None:
        if self._recovered and not self._in_flight:
            for worker, count in self._recovered.items():
                _log.info("recovered %d tasks of %s", count, worker)
            self._recovered.clear()
        for name in self._dispatcher.take_foreign_names() - self._reported_names:
            if len(self._reported_names) < _MAX_REPORTED_NAMES:
                self._reported_names.add(name)
                _log.warning("%.200r is no name that Herdmaster uses: left alone", name)
        for queue in self._dispatcher.unserved_queues() - self._reported_queues:
            self._reported_queues.add(queue)
            _log.warning("no worker serves queue %s: its tasks wait", queue)


class _Assigning:
    """Turns the payloads that one round of decisions asked for into assignments, committed together."""

    def __init__(self, primary: Primary) -> None:
        self._primary = primary
        self._moves: list[Move] = []
        self._scheduled = False

    def read(self, decision: Assign, data: bytes | None, _stat: Stat | None, error: Exception | None) -> None:
        if data is None:
            self._primary.finish(decision.task, error)
            return
        if len(data) > MAX_MOVABLE:
            self._moves.append(transitions.refuse(decision.task, too_large(decision.task, len(data))))
        else:
            self._moves.append(transitions.assign(decision.task, decision.worker, data))
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._commit)

    def _commit(self) -> None:
        moves, self._moves, self._scheduled = self._moves, [], False
        self._primary.commit(moves)


def _worker_of(move: Move) -> str:
    """The worker whose inbox a move touches."""
    for operation in move.operations:
        found = layout.split_assignment(operation.path)
        if found is not None:
            return found[0]
    raise ValueError(f"{move.transition} touches no inbox")
