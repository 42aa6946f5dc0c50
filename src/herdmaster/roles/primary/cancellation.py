"""Carries out the requests in `/cancel`: ends each task as cancelled where it is, or finds that it has ended.

The pictures of all folders in which a task can be are, taken together, at every moment what ZooKeeper held at one
moment, and no transition leaves a task nowhere before it has ended. So a task that is in none of them has ended, or
never was. The pictures are asked once more behind a request to the server all the same, which reads the request.

A child that is nowhere may be on its way. Its request is kept as long as its parent is where the request says, because
after that the child is not accepted any more. A request for a flow, which is the child of a task, is passed on to the
flow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from herdmaster.core import flow_moves, layout, transitions
from herdmaster.core.cancelling import Requests
from herdmaster.core.children import children_of, decode_parent, encode_parent
from herdmaster.core.delayed import DelayedTasks
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.ending_moves import NOWHERE, cancel, drop_step_at, lose_step
from herdmaster.core.endings import unreadable
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flow_picture import FlowPicture
from herdmaster.core.names import is_call, is_step, parse_flow_name
from herdmaster.core.operations import Move, at_version
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.whereabouts import Assigned, Delayed, Whereabouts, path_of
from herdmaster.roles.primary.folder_part import FolderPart
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.primary.part import SET_ASIDE_SECONDS, TRY_LATER_SECONDS
from herdmaster.roles.shared.child_requests import request_cancel_nowait
from herdmaster.roles.shared.committer import add_operation
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat


class Pictures:
    """Where a task is, by the pictures of all folders in which one can be."""

    def __init__(self, dispatcher: Dispatcher, delayed: DelayedTasks) -> None:
        self._dispatcher = dispatcher
        self._delayed = delayed

    @property
    def are_current(self) -> bool:
        return self._dispatcher.is_current and self._delayed.is_current

    def where_is(self, task: str) -> Whereabouts | None:
        due_ms = self._delayed.due_ms_of(task)
        return self._dispatcher.where_is(task) or (None if due_ms is None else Delayed(due_ms, task))


class Cancellation(FolderPart):
    """Ends the tasks that are to be cancelled."""

    def __init__(
        self, client: Client, pictures: Pictures, flows: FlowPicture, report: PrimaryLog, wake: Callable[[], None]
    ) -> None:
        self._pictures = pictures
        self._flows = flows
        self._requests = Requests(pictures)
        super().__init__(client, layout.CANCEL, self._requests, report, wake)

    def step(self) -> None:
        self.report.tell_foreign_names(self._requests.take_foreign_names())
        self._requests.release_postponed(self.clock())
        wanted: list[tuple[Whereabouts, str, str]] = []
        for task, where in self._requests.take(self.room):
            if where is None:
                self._look_again(task)
            elif is_call(task):
                wanted.append((where, task, path_of(where)))
            else:
                self.end(cancel(where, b""))
        self.reader.read(wanted, self._cancel)

    def next_wakeup(self) -> float | None:
        return self._requests.next_release()

    def is_requested(self, task: str) -> bool:
        """Whether there is a request for the task. False while that is not known."""
        return self._requests.is_current and task in self._requests

    def _look_again(self, task: str) -> None:
        def done(node: tuple[bytes | None, Stat] | None, error: Exception | None) -> None:
            may_come = node is not None and self._may_come(node[0])
            if isinstance(error, errors.NoNode):
                self.postpone(task, TRY_LATER_SECONDS)  # unless the event of that has come
            elif error is not None and not isinstance(error, errors.NoAuth):
                self.postpone(task, 0.0)
            elif not self._pictures.are_current or self._pictures.where_is(task) is not None:
                self.finish(task)
            elif parse_flow_name(task) is not None:
                self._cancel_flow(task, may_come=may_come)
            elif may_come:
                self.postpone(task, TRY_LATER_SECONDS)
            else:
                self._end_nowhere(task)

        self.client.get_nowait(layout.cancel_path(task), done)

    def _may_come(self, request: bytes | None) -> bool:
        """Return whether a request is for a child whose parent may still submit it."""
        parent = decode_parent(request)
        return parent is not None and self._pictures.where_is(parent[1]) == Assigned(parent[1], parent[0])

    def _cancel_flow(self, flow: str, *, may_come: bool) -> None:
        """Pass a request on to its flow. One that does not run has ended, or is not accepted yet."""

        def done(_results: object, error: Exception | None) -> None:
            cause = error.error if isinstance(error, errors.TransactionFailed) else error
            is_asked = cause is None or isinstance(cause, errors.NodeExists)
            if is_asked or (isinstance(cause, errors.NoNode) and not may_come):
                self.gathering.add(transitions.drop_cancel(flow))
            else:
                self.postpone(flow, TRY_LATER_SECONDS)

        transaction = self.client.transaction()
        for operation in flow_moves.cancel_flow(flow).operations:
            add_operation(transaction, operation)
        transaction.commit_nowait(done)

    def _end_nowhere(self, task: str) -> None:
        """The task has ended, and the request is dropped; unless it is that of a step that still counts as running in
        its flow: that step was lost. The request is dropped after it."""
        flow = self._flows.flow_of(task) if is_step(task) else None
        if flow is None:
            self.gathering.add(transitions.drop_cancel(task))
        else:
            self._lose(flow, task, NOWHERE)

    def _end_unreadable_step(self, where: Whereabouts, reason: ErrorInfo) -> None:
        """Only the payload says which step it is, but its flow knows the task. When the step has ended, the task is
        dropped."""
        flow = self._flows.flow_of(where.task)
        if flow is None:
            self.end(drop_step_at(where))
        else:
            self._lose(flow, where.task, reason)

    def _lose(self, flow: str, task: str, reason: ErrorInfo) -> None:
        self.reader.read([(flow, task, layout.flow_running_path(flow, task))], partial(self._lose_step, task, reason))

    def _lose_step(
        self, task: str, reason: ErrorInfo, flow: str, data: bytes | None, _stat: Stat | None, error: Exception | None
    ) -> None:
        move = None if data is None else lose_step(flow, task, data, reason)
        if move is not None:
            self.end(move)
        elif isinstance(error, errors.NoNode):
            self.finish(task)
        else:
            self.postpone(task, SET_ASIDE_SECONDS if data is not None else TRY_LATER_SECONDS)

    def _cancel(self, where: Whereabouts, data: bytes | None, stat: Stat | None, error: Exception | None) -> None:
        if data is not None and stat is not None:
            # At the version that was read: a later one may name another child.
            move = at_version(cancel(where, data), path_of(where), stat.version)
            self._cancel_children(where, children_of(data), partial(self.end, move, data))
        elif isinstance(error, errors.NoAuth) and is_step(where.task):
            self._end_unreadable_step(where, unreadable(error).reason)
        elif isinstance(error, errors.NoAuth):
            self.end(cancel(where, b""))
        else:
            self.give_up(where.task, error)

    def _cancel_children(self, where: Whereabouts, children: list[str], then: Callable[[], None]) -> None:
        """Request to cancel the children of a task, and then end it. If this process dies in between, the next
        primary finds the request for the task, and does the same again."""
        parent = encode_parent(where.worker, where.task) if isinstance(where, Assigned) else b""
        left = set(children)
        failed: list[Exception] = []

        def requested(child: str, error: Exception | None) -> None:
            left.discard(child)
            if error is not None and not isinstance(error, errors.NodeExists):
                failed.append(error)
            if not left and failed:
                self.postpone(where.task, TRY_LATER_SECONDS)
            elif not left:
                then()

        if not children:
            then()
        for child in children:
            request_cancel_nowait(self.client, child, parent, partial(requested, child))

    def _handle_refused(self, move: Move, verdict: Verdict) -> None:
        # Decide again: the request was taken back, the status collected, or the payload changed.
        if move.transition is TransitionName.LOSE_STEP or verdict is Verdict.DECIDE_AGAIN:
            self.postpone(move.task, TRY_LATER_SECONDS)
        else:
            super()._handle_refused(move, verdict)

    def refute(self, key: str) -> None:
        """The task has moved on, so it is looked for again: later, if the pictures do not show that yet."""
        self._requests.refute(key, self.clock() + TRY_LATER_SECONDS)
        self.wake()
