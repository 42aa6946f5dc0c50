"""Registers who waits for tasks by name, so that the first reader of an outcome does not take it from the others.

A client that waits for a task by name has a znode `/waiters/TASK/SESSION`, an ephemeral. The submitter has none, for
its wait must cost nothing. A client that has read an outcome deletes the status, unless the task has waiters, or it is
a waiter itself: then it writes `read` to `/waiters/TASK` and leaves the status there. The master that sweeps deletes
both a while after that (see `waiter_sweep`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from herdmaster.core import layout
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import OPEN_ACL, CreateMode
from herdmaster.zookeeper.wire.multi import ErrorResult, MultiRead, MultiReply
from herdmaster.zookeeper.wire.records import ChildrenReply, Delete, GetChildren, Record, SetData

_log = logging.getLogger("herdmaster.client")


class Waiters:
    """One client's registrations, made anew in every session, and its marks, which outlive sessions."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._sent: set[str] = set()  # registrations of this session; of these,
        self._registered: set[str] = set()  # those that the server has answered
        self._to_register: dict[str, None] = {}
        self._to_mark: dict[str, None] = {}
        self._to_leave: dict[str, None] = {}

    def begin_session(self, client: Client) -> None:
        self._client = client
        for tasks in (self._sent, self._registered, self._to_leave):
            tasks.clear()

    def end_session(self) -> None:
        self._client = None

    def is_registered(self, task: str) -> bool:
        """Whether the others who read the outcome of the task are going to leave it for this client."""
        return task in self._registered

    def register(self, task: str) -> None:
        self._to_register[task] = None

    def leave(self, task: str) -> None:
        """This client does not wait for the task any more."""
        self._to_register.pop(task, None)
        self._registered.discard(task)
        if task in self._sent:
            self._sent.discard(task)
            self._to_leave[task] = None

    def mark(self, task: str) -> None:
        """Its outcome was read: the status may go as soon as its waiters have read it, too."""
        self._to_mark[task] = None

    def send(self) -> None:
        """Sends what has been asked for; call it while connected."""
        client = self._client
        if client is None:
            return
        marks, self._to_mark = self._to_mark, {}
        for task in marks:
            path = client.outward(layout.waiters_path(task))
            client.call_nowait(SetData(path, layout.WAS_READ, -1), partial(self._marked, task))
        left, self._to_leave = self._to_leave, {}
        for task in left:  # after the marks: what has neither a waiter nor a mark is swept
            client.call_nowait(Delete(client.outward(layout.waiter_path(task, client.session_id)), -1), _ignore)
            # Of the version that no mark has; refused while others wait.
            client.call_nowait(Delete(client.outward(layout.waiters_path(task)), 0), _ignore)
        registrations, self._to_register = self._to_register, {}
        for task in registrations:
            self._sent.add(task)
            folder, own = layout.waiters_path(task), layout.waiter_path(task, client.session_id)
            client.call_nowait(client.creation(folder, b"", OPEN_ACL, CreateMode.PERSISTENT, None), _ignore)
            own_node = client.creation(own, b"", OPEN_ACL, CreateMode.EPHEMERAL, None)
            client.call_nowait(own_node, partial(self._was_registered, client, task))

    def _marked(self, task: str, _reply: Record | None, error: Exception | None) -> None:
        if isinstance(error, (errors.ConnectionLoss, errors.SessionExpired)):
            self._to_mark[task] = None  # sent again when a connection is there

    def _was_registered(self, client: Client, task: str, _reply: Record | None, error: Exception | None) -> None:
        if client is not self._client or task not in self._sent:
            return
        if error is None or isinstance(error, errors.NodeExists):
            self._registered.add(task)
        elif isinstance(error, (errors.ConnectionLoss, errors.NoNode)):  # NoNode: swept in between
            self._to_register[task] = None
        elif isinstance(error, errors.ServerError):
            _log.debug("%s: other readers may take its outcome: %s", task, error)

    def find_awaited(self, tasks: Sequence[str], found: Callable[[Sequence[str], set[str] | None], None]) -> None:
        """`found` is called with the tasks and with those of them that have waiters; with None if the session ended
        before that was known."""
        client = self._client
        if client is None:
            found(tasks, None)
            return

        def done(reply: Record | None, _error: Exception | None) -> None:
            if isinstance(reply, MultiReply):
                results = zip(tasks, reply.results, strict=True)
                found(tasks, {task for task, result in results if _has_children(result)})
            else:
                found(tasks, None)

        paths = [client.outward(layout.waiters_path(task)) for task in tasks]
        client.call_nowait(MultiRead(tuple(GetChildren(path, False) for path in paths)), done)


def _has_children(result: Record) -> bool:
    if isinstance(result, ChildrenReply):
        return bool(result.children)
    return not (isinstance(result, ErrorResult) and result.code == errors.NoNode.code)


def _ignore(_reply: Record | None, _error: Exception | None) -> None:
    """What failed is found out by others: the next request of the same pipeline, or the sweep."""
