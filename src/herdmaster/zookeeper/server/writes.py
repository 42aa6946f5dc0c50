"""Requests that change the tree or the sessions. Each takes one zxid, also if it fails, and sends the events of
watches."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from herdmaster.zookeeper.errors import MarshallingError, ServerError
from herdmaster.zookeeper.model import EventType
from herdmaster.zookeeper.server import acls
from herdmaster.zookeeper.server.connection import Connection
from herdmaster.zookeeper.server.effects import (
    Effect,
    NodeCreated,
    NodeDeleted,
    NodeEffect,
    SessionClosed,
    SessionOpened,
    Transaction,
)
from herdmaster.zookeeper.server.settings import Settings
from herdmaster.zookeeper.server.state import State
from herdmaster.zookeeper.server.transactions import Actor, Draft, Rules, prepare
from herdmaster.zookeeper.server.tree import Change
from herdmaster.zookeeper.server.watches import Watches
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import encode_event
from herdmaster.zookeeper.wire.multi import ErrorResult, Multi, MultiReply, WriteOperation
from herdmaster.zookeeper.wire.opcodes import MULTI_ERROR, OpCode

_RUNTIME_INCONSISTENCY = -2


class Outbox:
    """The connections that have something to send, or are to be closed, in the order in which that came up."""

    def __init__(self) -> None:
        self._dirty: dict[Connection, None] = {}
        self.sent = 0

    def send(self, connection: Connection, data: bytes) -> None:
        self.sent += 1
        connection.send(data)
        self._dirty[connection] = None

    def mark(self, connection: Connection) -> None:
        self._dirty[connection] = None

    def take(self) -> list[Connection]:
        dirty, self._dirty = list(self._dirty), {}
        return dirty

    def __bool__(self) -> bool:
        return bool(self._dirty)


class Writes:
    def __init__(
        self, state: State, watches: Watches[Connection], outbox: Outbox, settings: Settings, *, recording: bool
    ) -> None:
        self._state = state
        self._watches = watches
        self._outbox = outbox
        self._rules = Rules(settings.ttl_allowed, settings.schemes)
        self._recording = recording
        self.recorded: list[Transaction] = []
        """The transactions that no journal has taken yet; stays empty if there is none."""

    def write(self, actor: Actor, request: WriteOperation | records.SetAcl, time: int) -> records.Record:
        """Apply one write, and return its reply. Raises the ServerError that the client gets."""
        try:
            effect = prepare(self._state.tree, request, actor, self._rules)
        except ServerError:
            self.commit((), time)
            raise
        self.commit(() if effect is None else (effect,), time)
        return self._result(request, effect)[1]

    def multi(self, actor: Actor, request: Multi, time: int) -> MultiReply:
        """Apply all of the operations or, with the error of the first that failed, none. Raises MarshallingError."""
        draft = Draft(self._state.tree)
        effects: list[NodeEffect | None] = []
        for operation in request.operations:
            try:
                effect = prepare(draft, operation, actor, self._rules, in_multi=True)
            except ServerError as error:
                self.commit((), time)
                if isinstance(error, MarshallingError):
                    raise
                return _failed(len(effects), len(request.operations), error.code)
            if effect is not None:
                draft.note(effect)
            effects.append(effect)
        zxid = self._state.zxid + 1
        types: list[int] = []
        results: list[records.Record] = []
        for operation, effect in zip(request.operations, effects, strict=True):
            if effect is not None:
                self._apply(effect, zxid, time)
            # A result shows the znode as its own operation left it, so it is made before the next one is applied.
            kind, result = self._result(operation, effect)
            types.append(kind)
            results.append(result)
        self._finish(zxid, time, tuple(effect for effect in effects if effect is not None))
        return MultiReply(tuple(results), tuple(types))

    def commit(self, effects: Sequence[Effect], time: int) -> None:
        """Apply effects as one transaction; without effects it only takes a zxid."""
        zxid = self._state.zxid + 1
        for effect in effects:
            self._apply(effect, zxid, time)
        self._finish(zxid, time, tuple(effects))

    def open_session(self, timeout: int, time: int) -> int:
        """Open a session, and return its id. `timeout` in milliseconds."""
        session_id = self._state.sessions.next_id
        self.commit((SessionOpened(session_id, timeout),), time)
        return session_id

    def close_session(self, session_id: int, time: int) -> None:
        self.commit((SessionClosed(session_id),), time)

    def delete(self, path: str, time: int) -> None:
        """Delete a znode by a decision of the server."""
        self.commit((NodeDeleted(path),), time)

    def _finish(self, zxid: int, time: int, effects: tuple[Effect, ...]) -> None:
        self._state.zxid = zxid
        if self._recording:
            self.recorded.append(Transaction(zxid, time, effects))

    def _apply(self, effect: Effect, zxid: int, time: int) -> None:
        for change in self._state.apply(effect, zxid, time):
            self._notify(change, zxid)

    def _notify(self, change: Change, zxid: int) -> None:
        """Send the znode's own event first, then its parent's. A watcher without READ gets no event, but its one-shot
        watch is used up (CVE-2024-23944)."""
        path = change.path
        kind = change.type
        watchers = self._watches.node_changed(path, deleted=kind is EventType.DELETED)
        if watchers:
            self._send(watchers, kind, path, change, zxid)
        if kind is not EventType.DATA_CHANGED:
            parent = path[: path.rindex("/")] or "/"
            watchers = self._watches.children_changed(parent)
            if watchers:
                self._send(watchers, EventType.CHILDREN_CHANGED, parent, change, zxid)

    def _send(self, watchers: Collection[Connection], kind: EventType, path: str, change: Change, zxid: int) -> None:
        acl = change.parent_acl if kind is EventType.CHILDREN_CHANGED else change.acl
        event = encode_event(zxid, kind, path)
        for connection in watchers:
            if acls.permits(acl, acls.READ, connection.actor.identities):
                self._outbox.send(connection, event)

    def _result(
        self, request: WriteOperation | records.SetAcl, effect: NodeEffect | None
    ) -> tuple[int, records.Record]:
        """Return the type of a result within a multi, and the result. Types follow 3.9 (ZOOKEEPER-4026)."""
        if effect is None or isinstance(effect, NodeDeleted):
            return request.opcode, records.EmptyReply()
        if (
            isinstance(effect, NodeCreated)
            and not effect.container
            and isinstance(request, records.Create | records.CreateContainer)
        ):
            # The second case is a create with the flags of a plain znode in a createContainer: in a multi the flags
            # decide, not the type.
            return OpCode.CREATE, records.PathReply(effect.path)
        node = self._state.tree.find(effect.path)
        assert node is not None
        if isinstance(effect, NodeCreated):
            return OpCode.CREATE2, records.PathStatReply(effect.path, node.stat())
        return request.opcode, records.StatReply(node.stat())


def _failed(index: int, count: int, code: int) -> MultiReply:
    codes = [0] * index + [code] + [_RUNTIME_INCONSISTENCY] * (count - index - 1)
    return MultiReply(tuple(ErrorResult(each) for each in codes), (MULTI_ERROR,) * count)
