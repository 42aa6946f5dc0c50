"""What ZooKeeper tells a primary of tasks, inboxes and workers.

It goes straight into the dispatcher, in the order of the wire; after an interruption listings replace the pictures.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from herdmaster.core import layout
from herdmaster.core.dispatcher import Dispatcher, Picture
from herdmaster.core.members import worker_state
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


class Observation:
    """`changed` is called after everything that was told. `fault` is what ends this term: the role starts again with a
    new session, and makes the folders that are absent."""

    def __init__(self, client: Client, dispatcher: Dispatcher, report: PrimaryLog, changed: Callable[[], None]) -> None:
        self._client = client
        self._clock = client.clock
        self.dispatcher = dispatcher
        self._report = report
        self._changed = changed
        self._status_round = 0
        self._unread_queues: set[str] | None = None  # None: not listed since the connection came back
        self._streams = (
            ChildStream(client, layout.TASKS, self._handle_tasks),
            ChildStream(client, layout.ASSIGN, self._handle_assign, depth=2),
            ChildStream(client, layout.WORKERS, self._handle_workers),
            ChildStream(client, layout.QUEUES, self._handle_queues),
        )
        self._drained: set[str] = set()
        self._is_found_told = False  # what there is at the start, and when the connection is back
        self.fault: errors.ZooKeeperError | None = None
        self.is_folder_missing = False  # `restore_folders` is wanted

    def start(self) -> None:
        """Raises the session's final error."""
        self._client.add_listener(self._handle_state)
        for stream in self._streams:
            stream.start()

    async def stop(self) -> None:
        """Nothing more is told from here on."""
        self._client.remove_listener(self._handle_state)
        for stream in self._streams:
            await stream.stop()

    def list_again(self) -> None:
        """Raises the session's final error."""
        for stream in self._streams:
            stream.list_again()

    def _handle_state(self, state: SessionState) -> None:
        if state is SessionState.DISCONNECTED:
            self._is_found_told = False
        self._changed()

    def _complete(self, picture: Picture) -> None:
        dispatcher = self.dispatcher
        dispatcher.complete(picture)
        if dispatcher.is_current and not self._is_found_told:
            self._is_found_told = True
            workers = list(dispatcher.roster)
            self._report.tell_found(
                waiting=len(dispatcher.backlog),
                assigned=sum(len(worker.inbox or ()) for worker in workers),
                workers=sum(worker.alive for worker in workers),
            )

    def _handle_tasks(self, change: ChildChange) -> None:
        match change:
            case Added(_, name):
                self.dispatcher.add_task(name)
            case Removed(_, name):
                self.dispatcher.remove_task(name)
            case Listed(_, None):
                self._fail(errors.NoNode(layout.TASKS))
            case Listed(_, names):
                self.dispatcher.replace_tasks(names or ())
            case _:
                self._handle_picture(change, Picture.TASKS)
        self._changed()

    def _handle_assign(self, change: ChildChange) -> None:
        now = self._clock()
        match change:
            case Added(layout.ASSIGN, name):
                self.dispatcher.add_inbox(name, now)
            case Added(folder, name):
                self.dispatcher.add_assignment(layout.name_of(folder), name)
            case Removed(layout.ASSIGN, name):
                self._note_drained(name)
                self.dispatcher.remove_inbox(name)
                self._report.tell_cleared(name)
            case Removed(folder, name):
                self.dispatcher.remove_assignment(layout.name_of(folder), name)
            case Listed(layout.ASSIGN, None):
                self._fail(errors.NoNode(layout.ASSIGN))
            case Listed(layout.ASSIGN, names):
                self.dispatcher.replace_inboxes(names or (), now)
            case Listed(folder, None):
                self.dispatcher.remove_inbox(layout.name_of(folder))
            case Listed(folder, names):
                self.dispatcher.replace_assignments(layout.name_of(folder), names or (), now)
            case _:
                self._handle_picture(change, Picture.ASSIGN)
        self._changed()

    def _handle_workers(self, change: ChildChange) -> None:
        match change:
            case Added(_, name):
                _log.info("%s joined", name)
                self.dispatcher.add_worker(name, self._clock())
                self._read_worker(name)
            case Changed(_, name):
                self._read_worker(name)
            case Removed(_, name):
                self._report.tell_left(name, drained=name in self._drained)
                self._drained.discard(name)
                self.dispatcher.remove_worker(name, self._clock())
            case Listed(_, None):
                self._fail(errors.NoNode(layout.WORKERS))
            case Listed(_, names):
                self.dispatcher.replace_workers(names or (), self._clock())
                for name in names or ():
                    self._read_worker(name)
            case _:
                self._handle_picture(change, Picture.WORKERS)
        self._changed()

    def _handle_queues(self, change: ChildChange) -> None:
        match change:
            case Added(_, name) | Changed(_, name):
                self._read_queue(name)
            case Removed(_, name):
                self._report.tell_queue(name, UNLIMITED)
                self.dispatcher.throttle.told(name, None, self._clock())
            case Listed(_, names):  # a folder that is absent, or may not be read, limits nothing
                self.is_folder_missing |= names is None
                self.dispatcher.throttle.listed(names or (), self._clock())
                self._unread_queues = set(names or ())
                for name in names or ():
                    self._read_queue(name)
            case Complete():
                self._complete_queues()
            case Interrupted():
                self._unread_queues = None
                self.dispatcher.interrupt()
            case Failed(folder, error):
                self._report.tell_unreadable(folder, error)
        self._changed()

    def _read_queue(self, name: str) -> None:
        """A takeover waits for what all queues' znodes say."""
        queue = parse_queue_name(name)
        if queue is None:
            self._report.tell_foreign_names((name,))
            self._queue_read(name)
            return

        def done(found: Node | None, error: Exception | None) -> None:
            settings = None
            if found is not None:
                settings = decode_queue(found[0])
                if settings is None:
                    self._report.tell_bad_queue(queue, found[0])
            elif not isinstance(error, errors.ServerError):
                return  # the session is over
            elif not isinstance(error, errors.NoNode):
                self._report.tell_unreadable(layout.queue_path(queue), error)
            self._report.tell_queue(queue, settings or UNLIMITED)
            self.dispatcher.throttle.told(queue, settings, self._clock())
            self._queue_read(name)
            self._changed()

        self._client.get_nowait(layout.queue_path(queue), done)

    def _queue_read(self, name: str) -> None:
        if self._unread_queues is not None:
            self._unread_queues.discard(name)
            self._complete_queues()

    def _complete_queues(self) -> None:
        if self._unread_queues is not None and not self._unread_queues:
            self._complete(Picture.QUEUES)

    def _note_drained(self, name: str) -> None:
        """A worker that drains takes its inbox away first, in the transaction in which it leaves; under a primary of
        the reference it makes it anew there. One that is lost leaves it."""
        worker = self.dispatcher.roster.get(name)
        if worker is not None and worker.alive:
            self._drained.add(name)

    def _handle_picture(self, change: ChildChange, picture: Picture) -> None:
        match change:
            case Complete():
                if picture is Picture.WORKERS:
                    # Not watched, so read last: a task that moves on meanwhile is seen by its events.
                    self._read_statuses()
                self._complete(picture)
            case Interrupted():
                self.dispatcher.interrupt()
            case Failed(layout.TASKS | layout.ASSIGN | layout.WORKERS, error):
                self._fail(error)
            case Failed(folder, error):
                self._report.tell_unreadable(folder, error)

    def _fail(self, fault: errors.ZooKeeperError) -> None:
        self.fault = self.fault or fault
        self._changed()

    def _read_worker(self, name: str) -> None:
        def done(found: Node | None, error: Exception | None) -> None:
            if found is not None:
                state = worker_state(found[0])
                if state is None:
                    self._report.tell_silent_worker(name, found[0])
                self.dispatcher.set_worker_state(name, state)
                self._changed()
            elif isinstance(error, errors.ServerError) and not isinstance(error, errors.NoNode):
                self._report.tell_unreadable(name, error)

        self._client.get_nowait(layout.worker_path(name), done)

    def _read_statuses(self) -> None:
        if self.dispatcher.knows_statuses:
            return
        self._status_round += 1
        number = self._status_round

        def done(names: tuple[str, ...] | None, error: Exception | None) -> None:
            if number != self._status_round:
                return  # asked before an interruption: it may be older than the other listings
            if names is not None:
                self.dispatcher.add_statuses(names)
                self._complete(Picture.STATUS)
                self._changed()
            elif isinstance(error, errors.ServerError):
                self._fail(error)

        self._client.children_nowait(layout.STATUS, done)
