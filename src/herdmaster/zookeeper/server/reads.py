"""Requests that change nothing but watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from herdmaster.zookeeper.errors import BadArguments, MarshallingError, NoNode, NoWatcher, ServerError, Unimplemented
from herdmaster.zookeeper.model import AddWatchMode, ClientInfo, WatcherType
from herdmaster.zookeeper.server import acls
from herdmaster.zookeeper.server.connection import Connection
from herdmaster.zookeeper.server.tree import Tree, Znode
from herdmaster.zookeeper.server.watches import Watches
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.multi import ErrorResult, MultiRead, MultiReply
from herdmaster.zookeeper.wire.records import Record, Request


class Reads:
    """Answers reads of a tree. A watch is set only if the read succeeds; that of `exists` also if nothing exists."""

    def __init__(self, tree: Tree, watches: Watches[Connection]) -> None:
        self._tree = tree
        self._watches = watches

    def answer(self, connection: Connection, request: Request[Record]) -> Record:
        """Return the reply. Raises the ServerError that the client gets."""
        handler = _HANDLERS.get(type(request))
        if handler is None:
            raise Unimplemented(request.subject)
        return handler(self, connection, request)

    def _readable(self, connection: Connection, path: str, permission: int = acls.READ) -> Znode:
        node = self._tree.find(path)
        if node is None:
            raise NoNode(path)
        acls.require(node.acl, permission, connection.actor.identities, path)
        return node

    def exists(self, connection: Connection, request: records.Exists) -> Record:
        path = request.path
        if "\0" in path:
            raise BadArguments(path)
        node = self._tree.find(path)
        if node is not None:
            acls.require(node.acl, acls.READ, connection.actor.identities, path)
        if request.watch:
            self._watches.data.add(path, connection)
        if node is None:
            raise NoNode(path)
        return records.StatReply(node.stat())

    def get_data(self, connection: Connection, request: records.GetData) -> Record:
        node = self._readable(connection, request.path)
        if request.watch:
            self._watches.data.add(request.path, connection)
        return records.DataReply(node.data, node.stat())

    def get_children(self, connection: Connection, request: records.GetChildren) -> Record:
        return records.ChildrenReply(self._children(connection, request)[0])

    def get_children2(self, connection: Connection, request: records.GetChildren2) -> Record:
        names, node = self._children(connection, request)
        return records.Children2Reply(names, node.stat())

    def _children(
        self, connection: Connection, request: records.GetChildren | records.GetChildren2
    ) -> tuple[tuple[str, ...], Znode]:
        node = self._readable(connection, request.path)
        if request.watch:
            self._watches.child.add(request.path, connection)
        return self._tree.children_of(request.path), node

    def get_acl(self, connection: Connection, request: records.GetAcl) -> Record:
        node = self._readable(connection, request.path, acls.READ | acls.ADMIN)
        may_see = acls.permits(node.acl, acls.ADMIN, connection.actor.identities)
        return records.AclReply(node.acl if may_see else acls.masked(node.acl), node.stat())

    def get_ephemerals(self, connection: Connection, request: records.GetEphemerals) -> Record:
        prefix = (request.prefix or "").strip()
        paths = self._tree.ephemerals_of(connection.session_id)
        if prefix in ("", "/"):
            return records.ChildrenReply(paths)
        return records.ChildrenReply(tuple(path for path in paths if path.startswith(request.prefix or "")))

    def get_all_children_number(self, connection: Connection, request: records.GetAllChildrenNumber) -> Record:
        self._readable(connection, request.path)
        return records.NumberReply(self._tree.count_descendants(request.path))

    def multi_read(self, connection: Connection, request: MultiRead) -> Record:
        results: list[Record] = []
        types: list[int] = []
        for operation in request.operations:
            try:
                # A watch inside a multiRead is ignored, as in ZooKeeper.
                if isinstance(operation, records.GetData):
                    result = self.get_data(connection, records.GetData(operation.path, False))
                else:
                    result = self.get_children(connection, records.GetChildren(operation.path, False))
            except ServerError as error:
                result = ErrorResult(error.code)
            results.append(result)
            types.append(operation.opcode)
        return MultiReply(tuple(results), tuple(types))

    def add_watch(self, connection: Connection, request: records.AddWatch) -> Record:
        if request.mode == AddWatchMode.PERSISTENT:
            self._watches.persistent.add(request.path, connection)
        elif request.mode == AddWatchMode.PERSISTENT_RECURSIVE:
            self._watches.recursive.add(request.path, connection)
        else:
            raise MarshallingError(request.path)
        return records.NumberReply(0)

    def check_watches(self, connection: Connection, request: records.CheckWatches) -> Record:
        if not self._watches.holds(request.path, _watcher_type(request.type), connection):
            raise NoWatcher(request.path)
        return records.EmptyReply()

    def remove_watches(self, connection: Connection, request: records.RemoveWatches) -> Record:
        if not self._watches.remove(request.path, _watcher_type(request.type), connection):
            raise NoWatcher(request.path)
        return records.EmptyReply()

    def sync(self, _connection: Connection, request: records.Sync) -> Record:
        return records.PathReply(request.path)

    def who_am_i(self, connection: Connection, _request: records.WhoAmI) -> Record:
        return records.WhoAmIReply(
            tuple(
                ClientInfo(identity.scheme, identity.id if identity.scheme == "ip" else identity.id.partition(":")[0])
                for identity in connection.actor.identities
            )
        )


def _watcher_type(number: int) -> WatcherType:
    try:
        return WatcherType(number)
    except ValueError:
        raise MarshallingError from None


# Each handler takes the request type that it is registered under, which one signature for all cannot express.
_HANDLERS: Final[dict[type[Request[Record]], Callable[[Reads, Connection, Any], Record]]] = {
    records.Exists: Reads.exists,
    records.GetData: Reads.get_data,
    records.GetChildren: Reads.get_children,
    records.GetChildren2: Reads.get_children2,
    records.GetAcl: Reads.get_acl,
    records.GetEphemerals: Reads.get_ephemerals,
    records.GetAllChildrenNumber: Reads.get_all_children_number,
    MultiRead: Reads.multi_read,
    records.AddWatch: Reads.add_watch,
    records.CheckWatches: Reads.check_watches,
    records.RemoveWatches: Reads.remove_watches,
    records.Sync: Reads.sync,
    records.WhoAmI: Reads.who_am_i,
}
