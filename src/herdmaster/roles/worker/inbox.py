"""A worker's inbox as the worker knows it: which assignments stand in it, and their payloads as they are read.

A task is known by its name and the czxid of its assignment: another czxid is another delivery.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from herdmaster.core import layout
from herdmaster.core.names import parse_task_name
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

_log = logging.getLogger("herdmaster.worker")


class Inbox:
    """`arrived` is called with each assignment that was read, anew after every reconnect, `unreadable` with what may
    not be read, `gone` when one is no longer here. `turn` is called after every change.

    `under_way` are the names that a transaction or a read is under way about; they are read when that is over.
    """

    def __init__(
        self,
        client: Client,
        worker: str,
        under_way: set[str],
        *,
        arrived: Callable[[Delivered], None],
        unreadable: Callable[[str, errors.NoAuth], None],
        gone: Callable[[str], None],
        interrupted: Callable[[], None],
        turn: Callable[[], None],
    ) -> None:
        self._worker = worker
        self._under_way = under_way
        self._arrived = arrived
        self._unreadable = unreadable
        self._gone = gone
        self._interrupted = interrupted
        self._turn = turn
        self._reader = PayloadReader(client)
        self._names: set[str] = set()
        self._to_read: dict[str, None] = {}
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
        """Whether nothing is known that its payload does not show yet."""
        return name not in self._to_read

    def forget(self, name: str) -> None:
        """Its assignment was consumed by this side; the event of a znode that may not be read is withheld."""
        self._names.discard(name)

    def read(self) -> None:
        """Asks for what has not been read."""
        names = [name for name in self._to_read if name not in self._under_way]
        for name in names:
            del self._to_read[name]
        self._under_way.update(names)
        self._reader.read(((name, name, layout.assignment_path(self._worker, name)) for name in names), self._was_read)

    async def wait_lost(self) -> None:
        """Returns when the inbox is gone although the session lives; raises what makes it unreadable."""
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
                self._gone(name)
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
                self._interrupted()
        self._turn()

    def _is_task(self, name: str) -> bool:
        if parse_task_name(name) is not None:
            return True
        if name not in self._reported and len(self._reported) < _MAX_REPORTED:
            self._reported.add(name)
            _log.warning("%.200r in the inbox is no task's name: left alone", name)
        return False

    def _relist(self, names: set[str]) -> None:
        for name in sorted(self._names - names):
            self._gone(name)
        self._names = names
        # All are read anew: an assignment may have left and come back unseen, which its czxid tells. Until then
        # nothing is done about them.
        self._to_read = dict.fromkeys(sorted(names))

    def _was_read(self, name: str, data: bytes | None, stat: Stat | None, error: Exception | None) -> None:
        self._under_way.discard(name)
        if name in self._names:
            if data is not None and stat is not None:
                self._arrived(Delivered(name, data, stat.czxid))
            elif isinstance(error, errors.NoAuth):
                self._unreadable(name, error)
        self._turn()
