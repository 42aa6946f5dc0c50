"""A machine without sockets, and clients that talk to it in frames. Time stands still unless a test moves it."""

from __future__ import annotations

from typing import NamedTuple

from herdmaster.zookeeper.model import OPEN_ACL, Acl
from herdmaster.zookeeper.server.clock import Instant
from herdmaster.zookeeper.server.connection import Connection
from herdmaster.zookeeper.server.faults import Faults
from herdmaster.zookeeper.server.machine import Machine
from herdmaster.zookeeper.server.sessions import password_of
from herdmaster.zookeeper.server.settings import Settings
from herdmaster.zookeeper.server.state import State
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import (
    ConnectRequest,
    ConnectResponse,
    Framer,
    decode_event,
    decode_reply_header,
    encode_request,
    frame,
    reply_body,
)
from herdmaster.zookeeper.wire.opcodes import XID_EVENT
from herdmaster.zookeeper.wire.records import Record, Request

SECRET = b"a secret of this test"
START = Instant(1_000_000, 1_700_000_000_000)


class Event(NamedTuple):
    type: int
    path: str


class Answer(NamedTuple):
    xid: int
    zxid: int
    error: int
    body: bytes


class Peer:
    """One connection. `inbox` holds what came, in order: a ConnectResponse, Answers, Events."""

    def __init__(self, rig: Rig, connection: Connection) -> None:
        self._rig = rig
        self.connection = connection
        self.framer = Framer(1 << 24)
        self.inbox: list[ConnectResponse | Answer | Event] = []
        self.event_zxids: list[int] = []
        self.raw = bytearray()
        self.reads_frames = False
        """A handshake makes it so; the answer to a four-letter word is only in `raw`."""
        self.is_attached = False
        self.is_closed = False
        self._xid = 0

    def send(self, data: bytes) -> None:
        self._rig.machine.receive(self.connection, data, self._rig.now)
        self._rig.settle()

    def handshake(
        self,
        timeout: int = 10_000,
        session_id: int = 0,
        password: bytes | None = b"\0" * 16,
        last_zxid_seen: int = 0,
        read_only: bool | None = False,
    ) -> ConnectResponse | None:
        """The server's answer; None where it closed without one."""
        self.reads_frames = True
        self.send(ConnectRequest(last_zxid_seen, timeout, session_id, password, read_only).encode())
        answer = self.inbox[-1] if self.inbox else None
        return answer if isinstance(answer, ConnectResponse) else None

    @property
    def session_id(self) -> int:
        return self.connection.session_id

    def request(self, request: Request[Record], xid: int | None = None) -> int:
        """Sends without looking at the answer; returns the xid."""
        if xid is None:
            self._xid += 1
            xid = self._xid
        self.send(encode_request(xid, request))
        return xid

    def ask(self, request: Request[Record]) -> Answer:
        """Sends, and takes the answer out of the inbox."""
        self.request(request)
        answer = self.inbox.pop()
        assert isinstance(answer, Answer)
        return answer

    def body(self, request: Request[Record]) -> Record:
        """The record that a success brings."""
        answer = self.ask(request)
        assert answer.error == 0, f"{request} was answered with {answer.error}"
        return request.reply_type.read(reply_body(answer.body))

    def error(self, request: Request[Record]) -> int:
        return self.ask(request).error

    def create(self, path: str, data: bytes | None = b"", flags: int = 0, acl: tuple[Acl, ...] = OPEN_ACL) -> str:
        reply = self.body(records.Create(path, data, acl, flags))
        assert isinstance(reply, records.PathReply)
        return reply.path

    def stat(self, path: str) -> records.StatReply:
        reply = self.body(records.Exists(path, False))
        assert isinstance(reply, records.StatReply)
        return reply

    def take_events(self) -> list[Event]:
        """The events in the inbox, which are then gone from it."""
        events = [item for item in self.inbox if isinstance(item, Event)]
        self.inbox = [item for item in self.inbox if not isinstance(item, Event)]
        return events

    def raw_request(self, opcode: int, body: bytes = b"", xid: int = 77) -> None:
        self.send(frame(xid.to_bytes(4, "big", signed=True) + opcode.to_bytes(4, "big", signed=True) + body))

    def accept(self, data: bytes, closed: bool) -> None:
        self.raw += data
        if self.reads_frames:
            for body in self.framer.feed(data):
                self._read(body)
        self.is_closed = self.is_closed or closed

    def _read(self, body: bytes) -> None:
        if not self.is_attached:
            self.is_attached = True
            self.inbox.append(ConnectResponse.decode(body))
            return
        header = decode_reply_header(body)
        if header.xid == XID_EVENT:
            self.inbox.append(Event(*decode_event(body)))
            self.event_zxids.append(header.zxid)
        else:
            self.inbox.append(Answer(*header, body))


class Rig:
    def __init__(
        self,
        settings: Settings | None = None,
        state: State | None = None,
        faults: Faults | None = None,
        recording: bool = False,
    ) -> None:
        self.now = START
        settings = settings or Settings()
        self.state = state or State(settings.tick, 0x0100000000000001)
        self.machine = Machine(self.state, settings, SECRET, self.now, faults=faults, recording=recording)
        self._peers: dict[Connection, Peer] = {}

    def peer(self, host: str = "127.0.0.1", port: int = 4711) -> Peer:
        """A client that is connected and has said nothing."""
        connection = self.machine.connect(host, port, self.now)
        peer = Peer(self, connection)
        self._peers[connection] = peer
        return peer

    def client(self, timeout: int = 10_000, host: str = "127.0.0.1") -> Peer:
        """A client with a new session."""
        peer = self.peer(host)
        assert peer.handshake(timeout) is not None
        peer.inbox.clear()
        return peer

    def reattach(self, old: Peer, timeout: int = 10_000, last_zxid_seen: int = 0) -> Peer:
        """A new connection of an existing session."""
        password = self.password_of(old)
        peer = self.peer()
        response = peer.handshake(timeout, old.session_id, password, last_zxid_seen)
        assert response is not None
        assert response.session_id == old.session_id
        peer.inbox.clear()
        return peer

    def password_of(self, peer: Peer) -> bytes:
        return password_of(peer.session_id, SECRET)

    def disconnect(self, peer: Peer) -> None:
        self.machine.disconnect(peer.connection)
        self.settle()

    def advance(self, milliseconds: int) -> None:
        self.now = Instant(self.now.monotonic + milliseconds, self.now.unix + milliseconds)
        self.machine.tick(self.now)
        self.settle()

    def settle(self) -> None:
        """Delivers everything, until nothing waits."""
        while True:
            for connection in self.machine.take_output():
                self._peers[connection].accept(b"".join(connection.take()), connection.is_closed)
            waiting = [connection for connection in self._peers if connection.backlog]
            if not waiting:
                return
            for connection in waiting:
                self.machine.resume(connection, self.now)
