"""A worker's inbox as the worker knows it: the names of the assignments, and their payloads as they are read.

A delivery is known by the task's name and the czxid of its assignment: another czxid is another delivery.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container
from typing import Final, Protocol

from herdmaster.core import layout
from herdmaster.core.names import parse_task_name
from herdmaster.core.printable import printable
from herdmaster.roles.shared.payload_reader import PayloadReader
from herdmaster.running.delivery import Delivered
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat
from herdmaster.zookeeper.recipes.children import (
    Added,
    ChildChange,
    ChildStream,
    Complete,
    Failed,
    Interrupted,
    Listed,
    Removed,
)

_MAX_REPORTED: Final = 1000
_MAX_SHOWN: Final = 200
"""Characters of a name that are logged."""

_log = logging.getLogger("herdmaster.worker")


class Listener(Protocol):
    """What an inbox calls. `turn` comes after every change."""

    def task_arrived(self, task: Delivered, /) -> None:
        """An assignment was read, perhaps again: after every reconnect all are."""

    def task_unreadable(self, name: str, error: errors.NoAuth, /) -> None:
        """An assignment may not be read."""

    def task_left(self, name: str, /) -> None:
        """An assignment is no longer there."""

    def connection_lost(self) -> None:
        """Nothing that is known is certain until everything has been listed again."""

    def turn(self) -> None: ...


class Inbox:
    """The assignments of one session. `requests` are the names about which a transaction is under way: they are read
    when that is over."""

    def __init__(self, client: Client, worker: str, requests: Container[str], listener: Listener) -> None:
        self._worker = worker
        self._requests = requests
        self._listener = listener
        self._reader = PayloadReader(client)
        self._names: set[str] = set()
        self._to_read: dict[str, None] = {}
        self._reading: set[str] = set()
        self._reported: set[str] = set()
        self._lost = asyncio.Event()
        self._fault: errors.ServerError | None = None
        self._stream = ChildStream(client, layout.inbox_path(worker), self._handle)
        self.is_current = False
        """Whether the connection is there, and what is known was listed since it came."""
        self.is_known = False
        """Whether it was listed at all."""

    def start(self) -> None:
        self._stream.start()

    def __len__(self) -> int:
        return len(self._names)

    def is_read(self, name: str) -> bool:
        """Return whether all that is known of an assignment has been read."""
        return name not in self._to_read and name not in self._reading

    @property
    def is_reading(self) -> bool:
        return bool(self._reading)

    def forget(self, name: str) -> None:
        """Note that this worker has consumed an assignment. ZooKeeper withholds the event if the znode may not be
        read."""
        self._names.discard(name)

    def read_again(self, name: str) -> None:
        """Let an assignment arrive once more, if it is still there."""
        if name in self._names:
            self._to_read[name] = None

    def read(self) -> None:
        """Ask for what has not been read."""
        if not self._to_read:
            return
        names = [name for name in self._to_read if name not in self._requests and name not in self._reading]
        for name in names:
            del self._to_read[name]
        self._reading.update(names)
        self._reader.read(((name, name, layout.assignment_path(self._worker, name)) for name in names), self._was_read)

    async def wait_lost(self) -> None:
        """Return when the inbox is gone although the session lives. Raises what makes it unreadable."""
        await self._lost.wait()
        if self._fault is not None:
            raise self._fault

    def _handle(self, change: ChildChange) -> None:
        match change:
            case Added(_, name):
                if self._is_task(name):
                    self._names.add(name)
                    self._to_read[name] = None
            case Removed(_, name):
                self._names.discard(name)
                self._to_read.pop(name, None)
                self._listener.task_left(name)
            case Listed(_, None):
                self._lost.set()
            case Listed(_, names):
                self._relist({name for name in names or () if self._is_task(name)})
            case Failed(_, error):
                self._fault = error
                self._lost.set()
            case Complete():
                if self.is_known and not self.is_current:
                    _log.info("%s found tasks in its inbox: %d", self._worker, len(self._names))
                self.is_current = self.is_known = True
            case Interrupted():
                self.is_current = False
                self._listener.connection_lost()
        self._listener.turn()

    def _is_task(self, name: str) -> bool:
        if parse_task_name(name) is not None:
            return True
        if name not in self._reported and len(self._reported) < _MAX_REPORTED:
            self._reported.add(name)
            _log.warning("%s in the inbox is no task's name: left alone", printable(name, _MAX_SHOWN))
        return False

    def _relist(self, names: set[str]) -> None:
        for name in sorted(self._names - names):
            self._listener.task_left(name)
        self._names = names
        # All are read again: an assignment may have left and come back unseen, which its czxid shows. Nothing is done
        # about a task before that.
        self._to_read = dict.fromkeys(sorted(names))

    def _was_read(self, name: str, data: bytes | None, stat: Stat | None, error: Exception | None) -> None:
        self._reading.discard(name)
        if name in self._names:
            if data is not None and stat is not None:
                self._listener.task_arrived(Delivered(name, data, stat.czxid))
            elif isinstance(error, errors.NoAuth):
                self._listener.task_unreadable(name, error)
        self._listener.turn()
