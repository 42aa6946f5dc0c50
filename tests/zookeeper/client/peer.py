"""The other side of a session core, for tests: it speaks bytes, keeps the time and notes what comes out."""

from __future__ import annotations

from herdmaster.zookeeper.client.presented import Presented
from herdmaster.zookeeper.client.requests import Arm, Completed, DropConnection, Event, Fired, Pending, StateChanged
from herdmaster.zookeeper.client.session import Session
from herdmaster.zookeeper.client.watches import WatchTable
from herdmaster.zookeeper.model import OPEN_ACL, EventType, SessionState, Stat, WatchEvent
from herdmaster.zookeeper.paths import Chroot
from herdmaster.zookeeper.secret import Secret
from herdmaster.zookeeper.wire.framing import (
    ConnectRequest,
    ConnectResponse,
    Framer,
    decode_request,
    decode_request_header,
    encode_event,
    encode_reply,
)
from herdmaster.zookeeper.wire.records import Create, EmptyReply, GetData, PathReply, Ping, Record, Request

TIMEOUT = 9.0
"""Seconds that are asked for and granted: a third is 3."""
CONNECT_TIMEOUT = 2.0
SESSION_ID = 0x0100000000000007
PASSWORD = b"sixteen bytes..."
STAT = Stat(*range(11))
OK = EmptyReply()


class Call:
    """One request of a caller, and what became of it."""

    def __init__(self, request: Request[Record], *, retry: bool, arm: Arm | None) -> None:
        self.is_cancelled = False
        self.pending = Pending(request, self._done, retry=retry, arm=arm, is_cancelled=lambda: self.is_cancelled)
        self.answers: list[tuple[Record | None, Exception | None]] = []

    def _done(self, reply: Record | None, error: Exception | None) -> None:
        self.answers.append((reply, error))

    @property
    def is_done(self) -> bool:
        assert len(self.answers) < 2, "a request was answered twice"
        return bool(self.answers)

    @property
    def reply(self) -> Record | None:
        assert self.is_done
        return self.answers[0][0]

    @property
    def error(self) -> Exception | None:
        assert self.is_done
        return self.answers[0][1]


class Peer:
    """A session and its server. `now` is moved by hand; events are handled as the shell does it."""

    def __init__(
        self, *, chroot: str = "", credentials: tuple[tuple[str, bytes], ...] = (), mechanism: str = ""
    ) -> None:
        self.now = 100.0
        self.session = Session(timeout=TIMEOUT, connect_timeout=CONNECT_TIMEOUT, chroot=Chroot(chroot))
        self.presented = Presented(tuple((scheme, Secret(credential)) for scheme, credential in credentials), mechanism)
        self.states: list[SessionState] = []
        self.drops: list[str] = []
        self.fired: list[WatchEvent] = []
        self.log: list[str] = []
        self._framer = Framer(0xFFFFF)

    # --- the caller's side ------------------------------------------------------------------------------

    def call(self, request: Request[Record], *, retry: bool = False, arm: Arm | None = None) -> Call:
        call = Call(request, retry=retry, arm=arm)
        self.session.enqueue(call.pending)
        return call

    def read(self, path: str = "/read") -> Call:
        return self.call(GetData(path, watch=False), retry=True)

    def write(self, path: str = "/write") -> Call:
        return self.call(Create(path, b"", OPEN_ACL, 0))

    def watch(self, request: Request[Record], table: WatchTable, path: str) -> Call:
        return self.call(request, retry=True, arm=Arm(table, path, self.fired.append))

    # --- the shell's side -------------------------------------------------------------------------------

    def handle(self, events: list[Event]) -> list[Event]:
        for event in events:
            match event:
                case Completed(pending, reply, error):
                    self.log.append(f"{type(pending.request).__name__}: {error or reply}")
                    pending.done(reply, error)
                case Fired(watchers, watch_event):
                    self.log.append(f"{watch_event.type.name} {watch_event.path}")
                    for watcher in watchers:
                        watcher(watch_event)
                case StateChanged(state):
                    self.log.append(state.value)
                    self.states.append(state)
                case DropConnection(reason):
                    self.drops.append(reason)
        return events

    def wait(self, seconds: float) -> list[Event]:
        """Time passes; the session is asked once at its end."""
        self.now += seconds
        return self.tick()

    def tick(self) -> list[Event]:
        return self.handle(self.session.tick(self.now))

    def lose(self) -> list[Event]:
        return self.handle(self.session.connection_lost(self.now))

    # --- the server's side ------------------------------------------------------------------------------

    def connect(self) -> ConnectRequest:
        """A TCP connection; the connect request that came over it, and nothing else did."""
        self._framer = Framer(0xFFFFF)
        self.session.connection_made(self.now, self.presented)
        (body,) = self._framer.feed(self.session.take_output(self.now))
        assert self.session.take_output(self.now) == b""
        return ConnectRequest.decode(body)

    def accept(self, *, timeout: float = TIMEOUT, session_id: int = SESSION_ID) -> list[Event]:
        return self.receive(ConnectResponse(round(timeout * 1000), session_id, PASSWORD).encode())

    def attach(self) -> ConnectRequest:
        """A connection with its handshake."""
        request = self.connect()
        self.accept()
        return request

    def receive(self, data: bytes) -> list[Event]:
        """The bytes reach the client."""
        return self.handle(self.session.receive(data, self.now))

    def sent(self) -> list[tuple[int, Request[Record]]]:
        """The requests that the client sends now, each with its xid."""
        found = []
        for body in self._framer.feed(self.session.take_output(self.now)):
            request = decode_request(body)
            assert request is not None
            found.append((decode_request_header(body).xid, request))
        return found

    def requests(self) -> list[Request[Record]]:
        return [request for _, request in self.sent()]

    def ping(self) -> bool:
        """Whether the client sends a ping now."""
        data = self.session.take_ping(self.now)
        if data:
            assert decode_request(data[4:]) == Ping()
        return bool(data)

    def reply(self, xid: int, reply: Record | None = None, *, error: int = 0, zxid: int = 1) -> list[Event]:
        return self.receive(encode_reply(xid, zxid, error, reply))

    def pong(self, zxid: int = 0) -> list[Event]:
        return self.reply(-2, OK, zxid=zxid)

    def event(self, kind: EventType, path: str, *, zxid: int = -1) -> list[Event]:
        return self.receive(encode_event(zxid, kind, path))

    def succeed(self, call: Call) -> None:
        """Takes everything that the client sends and answers this one, a create, with success."""
        (xid,) = [xid for xid, request in self.sent() if request == call.pending.request]
        self.reply(xid, PathReply("/write"))
