"""Registers which clients wait for tasks by name, so that the first reader of an outcome leaves it for the others.

A client that waits for a task by name has an ephemeral `/waiters/TASK/SESSION`. The submitter has none, because its
wait must cost nothing. A client that has read an outcome deletes the status, unless the task has waiters or this client
is one: then it writes `read` to `/waiters/TASK` and leaves the status. The master that sweeps deletes both a while
later (see `waiter_sweep`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from herdmaster.core import layout
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import CreateMode, Stat

_log = logging.getLogger("herdmaster.client")


class Waiters:
    """The registrations of one client, made anew in every session, and its marks, which outlive sessions."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._sent: set[str] = set()  # registrations of this session
        self._registered: set[str] = set()  # those of them that the server has answered
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
        """Return whether other readers of the task's outcome leave it for this client."""
        return task in self._registered

    def register(self, task: str) -> None:
        self._to_register[task] = None

    def leave(self, task: str) -> None:
        """Stop to wait for a task."""
        self._to_register.pop(task, None)
        self._registered.discard(task)
        if task in self._sent:
            self._sent.discard(task)
            self._to_leave[task] = None

    def mark(self, task: str) -> None:
        """Mark the outcome of a task as read: its status may go as soon as its waiters have read it, too."""
        self._to_mark[task] = None

    def send(self) -> None:
        """Send registrations, marks and withdrawals. To be called while connected."""
        client = self._client
        if client is None:
            return
        marks, self._to_mark = self._to_mark, {}
        for task in marks:
            client.set_nowait(layout.waiters_path(task), layout.WAS_READ, partial(self._marked, task))
        left, self._to_leave = self._to_leave, {}
        for task in left:  # after the marks: a folder with neither a waiter nor a mark is swept
            client.delete_nowait(layout.waiter_path(task, client.session_id), _ignore)
            # Only an unmarked one has version 0. Refused while others wait.
            client.delete_nowait(layout.waiters_path(task), _ignore, 0)
        registrations, self._to_register = self._to_register, {}
        for task in registrations:
            self._sent.add(task)
            folder, own = layout.waiters_path(task), layout.waiter_path(task, client.session_id)
            client.create_nowait(folder, b"", _ignore)
            client.create_nowait(own, b"", partial(self._was_registered, client, task), mode=CreateMode.EPHEMERAL)

    def _marked(self, task: str, _stat: Stat | None, error: Exception | None) -> None:
        if isinstance(error, (errors.ConnectionLoss, errors.SessionExpired)):
            self._to_mark[task] = None  # sent again with the next connection

    def _was_registered(self, client: Client, task: str, _path: str | None, error: Exception | None) -> None:
        if client is not self._client or task not in self._sent:
            return
        if error is None or isinstance(error, errors.NodeExists):
            self._registered.add(task)
        elif isinstance(error, (errors.ConnectionLoss, errors.NoNode)):  # NoNode: swept in between
            self._to_register[task] = None
        elif isinstance(error, errors.ServerError):
            _log.debug("%s: other readers may take its outcome: %s", task, error)

    def find_awaited(self, tasks: Sequence[str], found: Callable[[Sequence[str], set[str] | None], None]) -> None:
        """Find out which of the tasks have waiters. `found` is called with the tasks and those of them that have; with
        None in place of these if the session ended before they were known."""
        client = self._client
        if client is None:
            found(tasks, None)
            return

        def done(folders: list[tuple[str, ...] | errors.ServerError] | None, _error: Exception | None) -> None:
            if folders is not None:
                found(tasks, {task for task, folder in zip(tasks, folders, strict=True) if _is_awaited(folder)})
            else:
                found(tasks, None)

        client.multi_children_nowait([layout.waiters_path(task) for task in tasks], done)


def _is_awaited(folder: tuple[str, ...] | errors.ServerError) -> bool:
    """Return whether a task has waiters. If they cannot be read, it counts as awaited, so that its outcome stays for
    them."""
    return bool(folder) if isinstance(folder, tuple) else not isinstance(folder, errors.NoNode)


def _ignore(_result: object, _error: Exception | None) -> None:
    """Ignore the answer: a failure shows in the next request of the same pipeline, or is swept."""
