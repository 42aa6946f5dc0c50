"""Feeds the picture of flows with what ZooKeeper tells of `/flows`, in the order of the wire."""

from __future__ import annotations

from collections.abc import Callable

from herdmaster.core import layout
from herdmaster.core.flow_picture import FlowPicture
from herdmaster.core.flow_scope import FlowScope
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.recipes.children import (
    Added,
    Changed,
    ChildChange,
    ChildStream,
    Failed,
    Interrupted,
    Listed,
    Removed,
)


class FlowFeed:
    """The picture of flows, and the watch on `/flows`, between `start` and `stop`.

    `fault` is set if the folder itself cannot be read: it ends the primary's term. A flow of which a folder cannot be
    read stands still, and is told once.
    """

    def __init__(self, client: Client, report: PrimaryLog, wake: Callable[[], None]) -> None:
        self.flows = FlowPicture()
        self._stream = ChildStream(client, layout.FLOWS, self._handle_change, scope=FlowScope())
        self._report = report
        self._wake = wake
        self.fault: errors.ZooKeeperError | None = None

    def start(self) -> None:
        """Raises the session's final error."""
        self._stream.start()

    async def stop(self) -> None:
        await self._stream.stop()

    def list_again(self) -> None:
        """Raises the session's final error."""
        self._stream.list_again()

    def _handle_change(self, change: ChildChange) -> None:
        if isinstance(change, Added):  # these two are nearly all of the changes
            self.flows.add(change.folder, change.name)
        elif isinstance(change, Removed):
            self.flows.remove(change.folder, change.name)
        else:
            self._handle_rest(change)
        self._wake()

    def _handle_rest(self, change: ChildChange) -> None:
        match change:
            case Changed(layout.FLOWS, name):
                self.flows.change(name)
            case Listed(layout.FLOWS, None):
                self.fault = self.fault or errors.NoNode(layout.FLOWS)
            case Listed(folder, None):
                self._report.tell_broken_flow(folder, "this folder is missing, or cannot be read")
            case Listed(folder, names):
                self.flows.replace(folder, names or ())
            case Failed(layout.FLOWS, error):
                self.fault = self.fault or error
            case Failed(folder, error):
                self._report.tell_unreadable(folder, error)
            case Interrupted():
                self.flows.interrupt()
