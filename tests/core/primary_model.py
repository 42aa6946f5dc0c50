"""A primary around the real dispatcher, and a tree of znodes with atomic transactions: no I/O, no time of its own.

What the server tells of folders (events, listings) is one queue, in the order of the wire. Replies to moves and reads
are another, so a test may handle them before or after the events that belong to them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

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
from herdmaster.core.endings import EXPIRED
from herdmaster.core.members import worker_state
from herdmaster.core.picture import Listing
from herdmaster.core.queues import decode_queue
from herdmaster.core.recovery import Recovery, follow_up
from herdmaster.core.table import Failure, Verdict
from herdmaster.core.transitions import CheckNode, CreateNode, DeleteNode, Move, Operation, SetNode
from herdmaster.core.whereabouts import Waiting

_PICTURES = {
    layout.TASKS: Listing.TASKS,
    layout.ASSIGN: Listing.ASSIGN,
    layout.WORKERS: Listing.WORKERS,
    layout.QUEUES: Listing.QUEUES,
}
ROOTS = tuple(_PICTURES)


class Tree:
    def __init__(self) -> None:
        self.nodes: dict[str, bytes] = dict.fromkeys(layout.FOLDERS, b"")

    def children(self, folder: str) -> list[str] | None:
        if folder not in self.nodes:
            return None
        prefix = folder + "/"
        return [
            path[len(prefix) :] for path in self.nodes if path.startswith(prefix) and "/" not in path[len(prefix) :]
        ]

    def apply(self, operations: tuple[Operation, ...]) -> tuple[int, Failure] | list[tuple[str, str]]:
        """All or nothing: the events (`created` or `deleted`, and the path), or what failed."""
        before = dict(self.nodes)
        events: list[tuple[str, str]] = []
        for index, operation in enumerate(operations):
            failure = self._apply_one(operation, events)
            if failure is not None:
                self.nodes = before
                return index, failure
        return events

    def _apply_one(self, operation: Operation, events: list[tuple[str, str]]) -> Failure | None:
        path = operation.path
        exists = path in self.nodes
        match operation:
            case CreateNode(_, data):
                if path.rpartition("/")[0] not in self.nodes:
                    return Failure.NO_NODE
                if exists:
                    return Failure.NODE_EXISTS
                self.nodes[path] = data
                events.append(("created", path))
            case DeleteNode():
                if not exists:
                    return Failure.NO_NODE
                if self.children(path):
                    return Failure.NOT_EMPTY
                del self.nodes[path]
                events.append(("deleted", path))
            case CheckNode() | SetNode():
                if not exists:
                    return Failure.NO_NODE
        return None


class Request:
    """`run` is the server's part and returns the client's part."""

    def __init__(self, run: Callable[[], Callable[[], None]], lost: Callable[[], None] | None) -> None:
        self.run = run
        self.lost = lost  # what the client is told when the connection breaks; None: it is asked again


class PrimaryModel:
    def __init__(self, max_deliveries: int = 5) -> None:
        self.tree = Tree()
        self.dispatcher = Dispatcher(orphan_inbox_seconds=60.0)
        self.recovery = Recovery(max_deliveries)
        self.now = 0.0
        self.is_connected = False
        self.outbox: deque[Request] = deque()
        self.wire: deque[Callable[[], None]] = deque()
        self.replies: deque[tuple[Request, Callable[[], None]]] = deque()
        self.decided: dict[str, Decision] = {}  # what is in flight, as this side has been told
        self.complete: set[Listing] = set()
        self._listed: set[str] = set()
        self._awaited: set[str] = set()
        self._round = 0

    # --- the connection --------------------------------------------------------------------------------------------

    def connect(self) -> None:
        self.is_connected = True
        self._round += 1
        self._awaited.clear()
        for root in ROOTS:
            self._list(root)

    def disconnect(self, processed: int, lost: int) -> None:
        """Of the requests under way the first are processed, the next lost on their way, and the rest not sent yet."""
        for _ in range(min(processed, len(self.outbox))):
            self.process()
        unanswered = [request for request, _ in self.replies]
        unanswered += [self.outbox.popleft() for _ in range(min(lost, len(self.outbox)))]
        self.is_connected = False
        self.wire.clear()
        self.replies.clear()
        self._listed.clear()
        self.complete &= {Listing.STATUS}
        self.dispatcher.interrupt()
        again = [request for request in unanswered if request.lost is None]
        self.outbox.extendleft(reversed(again))
        for request in unanswered:
            if request.lost is not None:
                request.lost()

    def set_queue(self, queue: str, data: bytes | None) -> None:
        """An operator writes the queue's znode, or deletes it. What a read of it finds is told with the event."""
        if data is None:
            self.tree.nodes.pop(layout.queue_path(queue), None)
        else:
            self.tree.nodes[layout.queue_path(queue)] = data
        if self.is_connected and layout.QUEUES in self._listed:
            settings = None if data is None else decode_queue(data)
            self.wire.append(lambda: self.dispatcher.set_limits(queue, settings, self.now))

    def process(self) -> None:
        """The server carries out the next request."""
        request = self.outbox.popleft()
        self.replies.append((request, request.run()))

    def write(self, *operations: Operation) -> bool:
        """A transaction of another session."""
        outcome = self.tree.apply(operations)
        if isinstance(outcome, tuple):
            return False
        self._tell(outcome)
        return True

    def _tell(self, events: list[tuple[str, str]]) -> None:
        if self.is_connected:
            self.wire.extend(partial(self._handle_event, kind, path) for kind, path in events)

    # --- the streams of children -----------------------------------------------------------------------------------

    def _list(self, folder: str) -> None:
        number = self._round
        self._listed.discard(folder)
        self._awaited.add(folder)

        def run() -> Callable[[], None]:
            names = self.tree.children(folder)
            self.wire.append(lambda: self._handle_listing(number, folder, names))
            return lambda: None

        self.outbox.append(Request(run, None))

    def _handle_listing(self, number: int, folder: str, names: list[str] | None) -> None:
        if number != self._round:
            return
        dispatcher = self.dispatcher
        self._listed.add(folder)
        self._awaited.discard(folder)
        if folder == layout.TASKS:
            dispatcher.replace_tasks(names or ())
        elif folder == layout.WORKERS:
            dispatcher.replace_workers(names or (), self.now)
            for name in names or ():
                self._read_worker(name)
        elif folder == layout.QUEUES:
            dispatcher.replace_queues(names or (), self.now)
            for name in names or ():
                settings = decode_queue(self.tree.nodes.get(layout.queue_path(name)))
                dispatcher.set_limits(name, settings, self.now)
        elif folder == layout.ASSIGN:
            dispatcher.replace_inboxes(names or (), self.now)
            for name in names or ():
                self._list(layout.inbox_path(name))
        elif names is None:
            self._listed.discard(folder)
            dispatcher.remove_inbox(layout.name_of(folder))
        else:
            dispatcher.replace_assignments(layout.name_of(folder), names, self.now)
        root = "/" + folder.split("/")[1]
        if not any(awaited.startswith(root) for awaited in self._awaited):
            self._complete(_PICTURES[root])

    def _complete(self, picture: Listing) -> None:
        if picture is Listing.WORKERS and not self.dispatcher.knows_statuses:
            number = self._round

            def run() -> Callable[[], None]:
                names = self.tree.children(layout.STATUS)
                self.wire.append(lambda: self._handle_statuses(number, names))
                return lambda: None

            self.outbox.append(Request(run, None))
        self.complete.add(picture)
        self.dispatcher.complete(picture)

    def _handle_statuses(self, number: int, names: list[str] | None) -> None:
        if number == self._round:
            self.dispatcher.add_statuses(names or ())
            self.complete.add(Listing.STATUS)
            self.dispatcher.complete(Listing.STATUS)

    def _read_worker(self, name: str) -> None:
        def run() -> Callable[[], None]:
            data = self.tree.nodes.get(layout.worker_path(name))
            return lambda: self.dispatcher.set_worker_state(name, worker_state(data))

        self.outbox.append(Request(run, None))

    def _handle_event(self, kind: str, path: str) -> None:
        folder, _, name = path.rpartition("/")
        if folder not in self._listed:
            return
        dispatcher = self.dispatcher
        match kind, folder:
            case "created", layout.TASKS:
                dispatcher.add_task(name)
            case "deleted", layout.TASKS:
                dispatcher.remove_task(name)
            case "created", layout.WORKERS:
                dispatcher.add_worker(name, self.now)
                self._read_worker(name)
            case "deleted", layout.WORKERS:
                dispatcher.remove_worker(name, self.now)
            case "created", layout.ASSIGN:
                self._listed.add(path)
                dispatcher.add_inbox(name, self.now)
            case "deleted", layout.ASSIGN:
                self._listed.discard(path)
                dispatcher.remove_inbox(name)
            case "created", _:
                dispatcher.add_assignment(layout.name_of(folder), name)
            case _:
                dispatcher.remove_assignment(layout.name_of(folder), name)

    # --- decisions -------------------------------------------------------------------------------------------------

    def decide(self, room: int) -> list[Decision]:
        decisions = self.dispatcher.decide(self.now, room, int(self.now * 1000))
        assert len(decisions) <= room
        assert not decisions or self.complete == set(Listing), f"decided without {set(Listing) - self.complete}"
        for decision in decisions:
            key = decision.worker if isinstance(decision, RemoveInbox) else decision.task
            assert key not in self.decided, f"{decision} while {self.decided[key]} is in flight"
            self.decided[key] = decision
            self._carry_out(decision)
        return decisions

    def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Assign(task, worker):
                self._read(task, layout.task_path(task), lambda data, _: transitions.assign(task, worker, data))
            case ReadHeader(task):
                self._read_header(task)
            case RefuseExpired(task):
                self._read(task, layout.task_path(task), lambda data, _: refuse(Waiting(task), data, EXPIRED))
            case Recover(task, worker):
                path = layout.assignment_path(worker, task)
                self._read(task, path, lambda data, ended: self.recovery.move(worker, task, data, has_status=ended))
            case DropTask(task, None):
                self._commit(transitions.drop_task_because_status(task))
            case DropTask(task, holder):
                assert holder is not None
                self._commit(transitions.drop_task_because_assigned(holder, task))
            case DropAssignment(task, worker):
                self._commit(transitions.drop_assignment_because_task(worker, task))
            case RemoveInbox(worker):
                self._commit(
                    Move(transitions.TransitionName.EXPIRE, worker, (DeleteNode(layout.inbox_path(worker)),), 0)
                )

    def _read(self, task: str, path: str, move: Callable[[bytes, bool], Move]) -> None:
        def run() -> Callable[[], None]:
            data = self.tree.nodes.get(path)
            ended = layout.status_path(task) in self.tree.nodes
            if data is None:
                return lambda: self._end(task, refuted=True)
            return lambda: self._commit(move(data, ended))

        self.outbox.append(Request(run, None))

    def _read_header(self, task: str) -> None:
        def run() -> Callable[[], None]:
            data = self.tree.nodes.get(layout.task_path(task))

            def reply() -> None:
                if data is not None:
                    self.dispatcher.set_expiry(task, expiry_of(task, data))
                self._end(task, refuted=data is None)

            return reply

        self.outbox.append(Request(run, None))

    def _commit(self, move: Move) -> None:
        def run() -> Callable[[], None]:
            outcome = self.tree.apply(move.operations)
            if isinstance(outcome, list):
                self._tell(outcome)
                return lambda: self._end(move.task)
            index, failure = outcome
            return lambda: self._refused(move, transitions.verdict(move, index, failure))

        self.outbox.append(Request(run, lambda: self._end(move.task, postponed=0.0)))

    def _refused(self, move: Move, verdict: Verdict) -> None:
        following = follow_up(move, verdict)
        if following is not None:
            self._commit(following)
        elif verdict is Verdict.RACE_LOST:
            self._end(move.task, refuted=True)
        elif verdict in (Verdict.KEEP_AND_TRY_LATER, Verdict.UNEXPECTED):
            self._end(move.task, postponed=1.0)
        else:
            self._end(move.task)

    def _end(self, key: str, *, refuted: bool = False, postponed: float | None = None) -> None:
        del self.decided[key]
        if refuted:
            self.dispatcher.refute(key, self.now + 30.0)
        elif postponed is not None:
            self.dispatcher.postpone(key, self.now + postponed)
        else:
            self.dispatcher.finish(key)
