"""Handles each request of an attached session, and answers it."""

from __future__ import annotations

from typing import Final

from herdmaster.zookeeper.errors import (
    BadArguments,
    MarshallingError,
    ReconfigDisabled,
    SaslRequired,
    ServerError,
    Unimplemented,
)
from herdmaster.zookeeper.model import EventType
from herdmaster.zookeeper.server.authentication import Authentication
from herdmaster.zookeeper.server.connection import Connection
from herdmaster.zookeeper.server.reads import Reads
from herdmaster.zookeeper.server.state import State
from herdmaster.zookeeper.server.watches import Table, Watches
from herdmaster.zookeeper.server.writes import Outbox, Writes
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import encode_event, encode_reply
from herdmaster.zookeeper.wire.multi import Multi
from herdmaster.zookeeper.wire.opcodes import XID_PING, OpCode
from herdmaster.zookeeper.wire.records import Record, Request

_DELETE_CONTAINER: Final = 20
_NO_ZXID: Final = -1

_WRITES: Final = (
    records.Create,
    records.SetData,
    records.Delete,
    records.Create2,
    records.SetAcl,
    records.CreateContainer,
    records.CreateTtl,
)
# An unreadable one of these still takes a zxid.
_WRITE_OPCODES: Final = frozenset(
    {*(kind.opcode for kind in _WRITES), OpCode.MULTI, OpCode.RECONFIG, _DELETE_CONTAINER}
)
_EMPTY: Final = records.EmptyReply()


class Requests:
    """The handlers of requests. Each one answers into the outbox: first the events that a request causes, then its
    reply."""

    def __init__(
        self,
        state: State,
        watches: Watches[Connection],
        outbox: Outbox,
        writes: Writes,
        authentication: Authentication,
    ) -> None:
        self._state = state
        self._watches = watches
        self._outbox = outbox
        self._writes = writes
        self._reads = Reads(state.tree, watches)
        self._authentication = authentication

    def apply(self, connection: Connection, xid: int, request: Request[Record], unix_ms: int) -> bool:
        """Handle a request. Return False if the connection ends with it."""
        reply: Record
        try:
            if isinstance(request, _WRITES):
                reply = self._writes.write(connection.actor, request, unix_ms)
            elif isinstance(request, Multi):
                reply = self._writes.multi(connection.actor, request, unix_ms)
            elif isinstance(request, records.Ping):
                xid, reply = XID_PING, _EMPTY
            elif isinstance(request, records.SetWatches | records.SetWatches2):
                self._set_watches(connection, request)
                reply = _EMPTY
            elif isinstance(request, records.Auth):
                return self._send(connection, self._authentication.authenticate(connection, xid, request))
            elif isinstance(request, records.Sasl):
                return self._send(connection, self._authentication.answer_token(connection, xid, request))
            elif isinstance(request, records.CloseSession):
                self._writes.close_session(connection.session_id, unix_ms)
                self.reply(connection, xid, 0, _EMPTY)
                return False
            else:
                reply = self._reads.answer(connection, request)
        except ServerError as error:
            self.reply(connection, xid, error.code)
        else:
            self.reply(connection, xid, 0, reply)
        return True

    def reply(self, connection: Connection, xid: int, error: int, reply: Record | None = None) -> None:
        """Reply with the newest zxid, which for a write is that of the request."""
        connection.last_zxid = zxid = self._state.zxid
        self._outbox.send(connection, encode_reply(xid, zxid, error, reply))

    def refuse_unreadable(self, connection: Connection, xid: int, opcode: int, unix_ms: int) -> bool:
        """Answer a known request whose body cannot be read. Return False if the connection ends with it."""
        if opcode == OpCode.SASL:
            return False
        if opcode in _WRITE_OPCODES:
            self._writes.commit((), unix_ms)
        self.reply(connection, xid, MarshallingError.code)
        return True

    def apply_other(self, connection: Connection, xid: int, opcode: int, unix_ms: int) -> bool:
        """Answer a request that has no record. Return False if the connection ends with it, as it does for an unknown
        one."""
        if opcode == OpCode.RECONFIG:
            self._writes.commit((), unix_ms)
            self.reply(connection, xid, ReconfigDisabled.code)
        elif opcode == _DELETE_CONTAINER:
            self._writes.commit((), unix_ms)
            self.reply(connection, xid, BadArguments.code)
        elif opcode == OpCode.CREATE_SESSION:
            # ZooKeeper's own request between its servers: from a client it costs the session.
            self._writes.close_session(connection.session_id, unix_ms)
            return False
        else:
            self._outbox.send(connection, encode_reply(xid, _NO_ZXID, Unimplemented.code, None))
            return False
        return True

    def refuse_unauthenticated(self, connection: Connection, xid: int) -> None:
        """Answer a request of a client that has not proved what the server requires."""
        self._outbox.send(connection, encode_reply(xid, 0, SaslRequired.code, None))

    def _send(self, connection: Connection, answer: tuple[bytes, bool]) -> bool:
        data, goes_on = answer
        if data:
            self._outbox.send(connection, data)
        return goes_on

    def _set_watches(self, connection: Connection, request: records.SetWatches | records.SetWatches2) -> None:
        """Arm watches again. A watch that missed something fires at once; persistent ones catch up on nothing."""
        for path in request.data:
            node = self._state.tree.find(path)
            changed = None if node is None or node.mzxid <= request.relative_zxid else EventType.DATA_CHANGED
            self._catch_up_or_arm(connection, self._watches.data, path, EventType.DELETED if node is None else changed)
        for path in request.exist:
            exists = self._state.tree.find(path) is not None
            self._catch_up_or_arm(connection, self._watches.data, path, EventType.CREATED if exists else None)
        for path in request.child:
            node = self._state.tree.find(path)
            changed = None if node is None or node.pzxid <= request.relative_zxid else EventType.CHILDREN_CHANGED
            self._catch_up_or_arm(connection, self._watches.child, path, EventType.DELETED if node is None else changed)
        if isinstance(request, records.SetWatches2):
            for path in request.persistent:
                self._watches.persistent.add(path, connection)
            for path in request.recursive:
                self._watches.recursive.add(path, connection)

    def _catch_up_or_arm(
        self, connection: Connection, table: Table[Connection], path: str, missed: EventType | None
    ) -> None:
        if missed is None:
            table.add(path, connection)
        else:
            self._outbox.send(connection, encode_event(_NO_ZXID, missed, path))
