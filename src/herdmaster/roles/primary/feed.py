"""Feeds the dispatcher with what ZooKeeper tells of tasks, inboxes, workers and queues, in the order of the wire."""

from __future__ import annotations

import logging
from collections.abc import Callable

from herdmaster.core import layout
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.members import worker_state
from herdmaster.core.picture import Listing
from herdmaster.core.queues import UNLIMITED, decode_queue, parse_queue_name
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Node
from herdmaster.zookeeper.model import SessionState
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

_log = logging.getLogger("herdmaster.master")


class Feed:
    """The watches on `/tasks`, `/assign`, `/workers` and `/queues`, between `start` and `stop`.

    `wake` is called after every change. `fault` is set by what ends the primary's term: its master starts again with a
    new session, and makes the folders that are missing.
    """

    def __init__(self, client: Client, dispatcher: Dispatcher, report: PrimaryLog, wake: Callable[[], None]) -> None:
        self._client = client
        self._clock = client.clock
        self._dispatcher = dispatcher
        self._report = report
        self._wake = wake
        self._status_round = 0
        self._unread_queues: set[str] | None = None  # None: not listed since the connection came back
        self._streams = (
            ChildStream(client, layout.TASKS, self._handle_tasks),
            ChildStream(client, layout.ASSIGN, self._handle_assign, depth=2),
            ChildStream(client, layout.WORKERS, self._handle_workers),
            ChildStream(client, layout.QUEUES, self._handle_queues),
        )
        self._has_told_totals = False  # they are logged at the start, and when the connection is back
        self.fault: errors.ZooKeeperError | None = None
        self.is_folder_missing = False  # `restore_folders` is to be called

    def start(self) -> None:
        """Raises the session's final error."""
        self._client.add_listener(self._handle_state)
        for stream in self._streams:
            stream.start()

    async def stop(self) -> None:
        self._client.remove_listener(self._handle_state)
        for stream in self._streams:
            await stream.stop()

    def list_again(self) -> None:
        """List all folders anew. Raises the session's final error."""
        for stream in self._streams:
            stream.list_again()

    def _handle_state(self, state: SessionState) -> None:
        if state is SessionState.DISCONNECTED:
            self._has_told_totals = False
        self._wake()

    # --- changes of the folders --------------------------------------------------------------------------------------

    def _handle_tasks(self, change: ChildChange) -> None:
        match change:
            case Added(_, name):
                self._dispatcher.add_task(name)
            case Removed(_, name):
                self._dispatcher.remove_task(name)
            case Listed(_, None):
                self._fail(errors.NoNode(layout.TASKS))
            case Listed(_, names):
                self._dispatcher.replace_tasks(names or ())
            case _:
                self._handle_stream(change, Listing.TASKS)
        self._wake()

    def _handle_assign(self, change: ChildChange) -> None:
        now = self._clock()
        match change:
            case Added(layout.ASSIGN, name):
                self._dispatcher.add_inbox(name, now)
            case Added(folder, name):
                self._dispatcher.add_assignment(layout.name_of(folder), name)
            case Removed(layout.ASSIGN, name):
                self._dispatcher.remove_inbox(name)
                self._report.tell_cleared(name)
            case Removed(folder, name):
                self._dispatcher.remove_assignment(layout.name_of(folder), name)
            case Listed(layout.ASSIGN, None):
                self._fail(errors.NoNode(layout.ASSIGN))
            case Listed(layout.ASSIGN, names):
                self._dispatcher.replace_inboxes(names or (), now)
            case Listed(folder, None):
                self._dispatcher.remove_inbox(layout.name_of(folder))
            case Listed(folder, names):
                self._dispatcher.replace_assignments(layout.name_of(folder), names or (), now)
            case _:
                self._handle_stream(change, Listing.ASSIGN)
        self._wake()

    def _handle_workers(self, change: ChildChange) -> None:
        match change:
            case Added(_, name):
                _log.info("%s joined", name)
                self._dispatcher.add_worker(name, self._clock())
                self._read_worker(name)
            case Changed(_, name):
                self._read_worker(name)
            case Removed(_, name):
                self._report.tell_left(name, drained=self._dispatcher.has_drained(name))
                self._dispatcher.remove_worker(name, self._clock())
            case Listed(_, None):
                self._fail(errors.NoNode(layout.WORKERS))
            case Listed(_, names):
                self._dispatcher.replace_workers(names or (), self._clock())
                for name in names or ():
                    self._read_worker(name)
            case _:
                self._handle_stream(change, Listing.WORKERS)
        self._wake()

    def _handle_queues(self, change: ChildChange) -> None:
        match change:
            case Added(_, name) | Changed(_, name):
                self._read_queue(name)
            case Removed(_, name):
                self._report.tell_queue(name, UNLIMITED)
                self._dispatcher.set_limits(name, None, self._clock())
            case Listed(_, names):  # a folder that is missing, or cannot be read, limits nothing
                self.is_folder_missing |= names is None
                self._dispatcher.replace_queues(names or (), self._clock())
                self._unread_queues = set(names or ())
                for name in names or ():
                    self._read_queue(name)
            case Complete():
                self._complete_queues()
            case Interrupted():
                self._unread_queues = None
                self._dispatcher.interrupt()
            case Failed(folder, error):
                self._report.tell_unreadable(folder, error)
        self._wake()

    def _handle_stream(self, change: ChildChange, listing: Listing) -> None:
        match change:
            case Complete():
                if listing is Listing.WORKERS:
                    # Not watched, so read last: a task that moves on meanwhile is seen by its events.
                    self._read_statuses()
                self._complete(listing)
            case Interrupted():
                self._dispatcher.interrupt()
            case Failed(layout.TASKS | layout.ASSIGN | layout.WORKERS, error):
                self._fail(error)
            case Failed(folder, error):
                self._report.tell_unreadable(folder, error)

    def _complete(self, listing: Listing) -> None:
        self._dispatcher.complete(listing)
        if self._dispatcher.is_current and not self._has_told_totals:
            self._has_told_totals = True
            self._report.tell_totals(self._dispatcher.totals())

    def _fail(self, fault: errors.ZooKeeperError) -> None:
        self.fault = self.fault or fault
        self._wake()

    # --- data of znodes ----------------------------------------------------------------------------------------------

    def _read_worker(self, name: str) -> None:
        def done(node: Node | None, error: Exception | None) -> None:
            if node is not None:
                state = worker_state(node[0])
                if state is None:
                    self._report.tell_silent_worker(name, node[0])
                self._dispatcher.set_worker_state(name, state)
                self._wake()
            elif isinstance(error, errors.ServerError) and not isinstance(error, errors.NoNode):
                self._report.tell_unreadable(name, error)

        self._client.get_nowait(layout.worker_path(name), done)

    def _read_queue(self, name: str) -> None:
        """A takeover waits until the znodes of all queues are read."""
        queue = parse_queue_name(name)
        if queue is None:
            self._report.tell_foreign_names((name,))
            self._handle_queue_read(name)
            return

        def done(node: Node | None, error: Exception | None) -> None:
            settings = None
            if node is not None:
                settings = decode_queue(node[0])
                if settings is None:
                    self._report.tell_bad_queue(queue, node[0])
            elif not isinstance(error, errors.ServerError):
                return  # the session is over
            elif not isinstance(error, errors.NoNode):
                self._report.tell_unreadable(layout.queue_path(queue), error)
            self._report.tell_queue(queue, settings or UNLIMITED)
            self._dispatcher.set_limits(queue, settings, self._clock())
            self._handle_queue_read(name)
            self._wake()

        self._client.get_nowait(layout.queue_path(queue), done)

    def _handle_queue_read(self, name: str) -> None:
        if self._unread_queues is not None:
            self._unread_queues.discard(name)
            self._complete_queues()

    def _complete_queues(self) -> None:
        if self._unread_queues is not None and not self._unread_queues:
            self._complete(Listing.QUEUES)

    def _read_statuses(self) -> None:
        if self._dispatcher.knows_statuses:
            return
        self._status_round += 1
        number = self._status_round

        def done(names: tuple[str, ...] | None, error: Exception | None) -> None:
            if number != self._status_round:
                return  # asked before an interruption: it may be older than the other listings
            if names is not None:
                self._dispatcher.add_statuses(names)
                self._complete(Listing.STATUS)
                self._wake()
            elif isinstance(error, errors.ServerError):
                self._fail(error)

        self._client.children_nowait(layout.STATUS, done)
