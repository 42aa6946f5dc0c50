"""A part of the primary that works on the names of one folder, which it watches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.primary.part import Answered, Part
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
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


class FolderPicture(Answered, Protocol):
    """The picture of the folder: `core.delayed.DelayedTasks` or `core.cancelling.Requests`."""

    def add(self, name: str) -> None: ...

    def remove(self, name: str) -> None: ...

    def replace(self, names: Iterable[str]) -> None: ...

    def complete(self) -> None: ...

    def interrupt(self) -> None: ...


class FolderPart(Part):
    """Keeps the picture of its folder up to date, between `start` and `stop`.

    `fault` is set if the folder cannot be read: it ends the primary's term.
    """

    def __init__(
        self, client: Client, folder: str, names: FolderPicture, report: PrimaryLog, wake: Callable[[], None]
    ) -> None:
        self._stream = ChildStream(client, folder, self._handle_change)
        super().__init__(client, names, report, wake, self._stream.list_again)
        self.fault: errors.ZooKeeperError | None = None
        self._names = names

    def start(self) -> None:
        """Raises the session's final error."""
        self._stream.start()

    async def stop(self) -> None:
        await self._stream.stop()

    def _handle_change(self, change: ChildChange) -> None:
        match change:
            case Added(_, name):
                self._names.add(name)
            case Removed(_, name):
                self._names.remove(name)
            case Listed(folder, None):
                self.fault = self.fault or errors.NoNode(folder)
            case Listed(_, names):
                self._names.replace(names or ())
            case Complete():
                self._names.complete()
            case Interrupted():
                self._names.interrupt()
            case Failed(_, error):
                self.fault = self.fault or error
        self.wake()
