"""Clients in raw frames over TCP for a server of whatever make. Blocking, with deadlines.

What a test reads is complete without a pause: `request` waits for its answer, `take_events` and `is_open` for that of
a ping, behind which no earlier event can come.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from herdmaster.zookeeper import digest_md5
from herdmaster.zookeeper.model import OPEN_ACL, Acl
from herdmaster.zookeeper.secret import Secret
from herdmaster.zookeeper.tls import TLS, client_context
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
from herdmaster.zookeeper.wire.multi import Multi
from herdmaster.zookeeper.wire.opcodes import XID_EVENT, OpCode
from herdmaster.zookeeper.wire.records import Record, Request

MIN_TIMEOUT, MAX_TIMEOUT = 400, 60_000
"""Milliseconds between which every server here grants session timeouts."""

TICK = 200
SWEEP = 200
"""Milliseconds between two looks at session deadlines, and at containers and times to live."""

SUPER_USER = b"super:of these tests"

SASL_PROVIDER = {"authProvider.sasl": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"}
X509_PROVIDER = {"authProvider.x509": "org.apache.zookeeper.server.auth.X509AuthenticationProvider"}
"""Settings of Apache's server, which make ids of these schemes valid in ACLs."""

SASL_USERS = {"al": "pw", "bo": "p\u00f6\u20ac", "super": "of these tests"}

HANDSHAKE = 1000
"""Milliseconds that a strict server waits for a handshake; Apache's may take twice as long to notice."""

CONNECTIONS = 10
"""How many connections a strict server takes from one address."""

_PATIENCE = 30.0
XID_PING = -2


class Event(NamedTuple):
    type: int
    path: str


class Answer(NamedTuple):
    """`body` is what follows the header."""

    xid: int
    zxid: int
    error: int
    body: bytes


class Peer:
    """One connection. `inbox` holds what came, in order: Answers and Events, but neither handshakes nor pongs."""

    def __init__(self, port: int, tls: TLS | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        if tls is not None:
            self.socket = client_context(tls).wrap_socket(self.socket, server_hostname="localhost")
        with contextlib.suppress(ConnectionError):  # the server may have refused it already
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.inbox: list[ConnectResponse | Answer | Event] = []
        self.raw = bytearray()
        self.session_id = 0
        self.password = b""
        self._framer = Framer(1 << 26)
        self._reads_frames = False
        self._is_attached = False
        self._is_ended = False
        self._pongs: list[Answer] = []
        self._xid = 0

    # --- asking ------------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def handshake(
        self,
        timeout: int = 10_000,
        session_id: int = 0,
        password: bytes | None = b"\0" * 16,
        last_zxid_seen: int = 0,
        read_only: bool | None = False,
    ) -> ConnectResponse | None:
        """The server's answer; None where it closed without one."""
        self.send(ConnectRequest(last_zxid_seen, timeout, session_id, password, read_only).encode())
        return self.receive_response()

    def receive_response(self) -> ConnectResponse | None:
        """What `handshake` returns, for a request that was sent already."""
        self._reads_frames = True
        self._wait(lambda: bool(self.inbox))
        response = self.inbox.pop(0) if self.inbox else None
        if not isinstance(response, ConnectResponse):
            return None
        self.session_id, self.password = response.session_id, response.password
        return response

    def request(self, request: Request[Record], xid: int | None = None) -> int:
        """Waits for the answer and leaves it in the inbox; returns the xid."""
        if xid is None:
            self._xid += 1
            xid = self._xid
        wanted = len(self.answers) + 1
        self.send(encode_request(xid, request))
        self._wait(lambda: len(self.answers) >= wanted)
        return xid

    def receive(self, count: int) -> list[Answer]:
        """Waits until the inbox holds so many answers, or the server closes."""
        self._wait(lambda: len(self.answers) >= count)
        return self.answers

    @property
    def answers(self) -> list[Answer]:
        return [item for item in self.inbox if isinstance(item, Answer)]

    def ask(self, request: Request[Record]) -> Answer:
        """Sends, and takes the answer out of the inbox. An error comes without a body, whatever was asked."""
        self.request(request)
        answer = self._take_answer()
        assert not (answer.error and answer.body), f"{request} was answered with {answer}"
        return answer

    def body(self, request: Request[Record]) -> Record:
        """The record that a success brings."""
        answer = self.ask(request)
        assert answer.error == 0, f"{request} was answered with {answer.error}"
        return request.reply_type.read(reply_body(b"\0" * 16 + answer.body))

    def error(self, request: Request[Record]) -> int:
        return self.ask(request).error

    def raw_request(self, opcode: int, body: bytes = b"", xid: int = 77) -> Answer:
        wanted = len(self.answers) + 1
        self.send(frame(xid.to_bytes(4, "big", signed=True) + opcode.to_bytes(4, "big", signed=True) + body))
        self._wait(lambda: len(self.answers) >= wanted)
        return self._take_answer()

    def create(self, path: str, data: bytes | None = b"", flags: int = 0, acl: tuple[Acl, ...] = OPEN_ACL) -> str:
        reply = self.body(records.Create(path, data, acl, flags))
        assert isinstance(reply, records.PathReply)
        return reply.path

    def stat(self, path: str) -> records.StatReply:
        reply = self.body(records.Exists(path, False))
        assert isinstance(reply, records.StatReply)
        return reply

    def children(self, path: str) -> list[str]:
        """Sorted: servers differ in the order."""
        reply = self.body(records.GetChildren(path, False))
        assert isinstance(reply, records.ChildrenReply)
        return sorted(reply.children)

    def authenticate(self, credential: bytes) -> None:
        self.body(records.Auth(0, "digest", credential))

    def send_token(self, token: bytes) -> Answer:
        """One request of SASL; unlike every other error, a refusal has a body."""
        return self.raw_request(OpCode.SASL, len(token).to_bytes(4) + token)

    def authenticate_sasl(self, user: str, password: str | None = None) -> Answer:
        """Speaks DIGEST-MD5, and returns the answer to the response."""
        secret = Secret((SASL_USERS[user] if password is None else password).encode())
        challenge = self.send_token(b"")
        assert challenge.error == 0
        return self.send_token(digest_md5.Client(user, secret, "cnonce").answer(challenge.body[4:]))

    # --- what came ---------------------------------------------------------------------------------------------------

    def take_events(self) -> list[Event]:
        """All events until now, which are then gone from the inbox."""
        assert self.is_open()
        events = [item for item in self.inbox if isinstance(item, Event)]
        self.inbox = [item for item in self.inbox if not isinstance(item, Event)]
        return events

    def wait_events(self, count: int) -> list[Event]:
        """As `take_events`, when there are at least so many: for events that no request causes."""
        self._wait(lambda: sum(isinstance(item, Event) for item in self.inbox) >= count)
        return self.take_events()

    def is_open(self) -> bool:
        """Whether a ping is answered."""
        return self.ping() is not None

    def ping(self, xid: int = XID_PING) -> Answer | None:
        """The answer; None where the connection is closed."""
        wanted = len(self._pongs) + 1
        try:
            self.send(encode_request(xid, records.Ping()))
        except ConnectionError:
            return None
        self._wait(lambda: len(self._pongs) >= wanted)
        return self._pongs[-1] if len(self._pongs) >= wanted else None

    def wait_closed(self) -> None:
        """Until the server has closed; what it sent before is in the inbox. Raises TimeoutError."""
        self._wait(lambda: False)

    def _wait(self, is_there: Callable[[], bool]) -> None:
        """Returns when it is there, or nothing more can come."""
        deadline = time.monotonic() + _PATIENCE
        while not is_there() and not self._is_ended:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self.socket.recv(1 << 18)
            except ConnectionError:
                data = b""
            self._is_ended = not data
            self.raw += data
            if self._reads_frames:
                for body in self._framer.feed(data):
                    self._read(body)

    def _read(self, body: bytes) -> None:
        if not self._is_attached:
            self._is_attached = True
            self.inbox.append(ConnectResponse.decode(body))
            return
        header = decode_reply_header(body)
        if header.xid == XID_EVENT:
            self.inbox.append(Event(*decode_event(body)))
        elif header.xid == XID_PING:
            self._pongs.append(Answer(*header, body[16:]))
        else:
            self.inbox.append(Answer(*header, body[16:]))

    def _take_answer(self) -> Answer:
        assert self.answers, "the server closed the connection without an answer"
        answer = self.answers[-1]
        # By identity, from the end: an event may have come behind it, and a test may use an xid twice.
        index = max(index for index, item in enumerate(self.inbox) if item is answer)
        del self.inbox[index]
        return answer


class Rig:
    """A server with an empty tree."""

    def __init__(self, port: int, tls: TLS | None = None) -> None:
        self.port = port
        self._tls = tls
        self._peers: list[Peer] = []

    @property
    def hosts(self) -> str:
        """The connect string, without a namespace."""
        return f"127.0.0.1:{self.port}"

    def peer(self, tls: TLS | None = None) -> Peer:
        """A client that is connected and has said nothing."""
        self._peers.append(Peer(self.port, tls or self._tls))
        return self._peers[-1]

    def client(self, timeout: int = 30_000, tls: TLS | None = None) -> Peer:
        """A client with a new session."""
        peer = self.peer(tls)
        response = peer.handshake(timeout)
        assert response is not None
        assert response.session_id
        return peer

    def reattach(self, old: Peer, timeout: int = 30_000, last_zxid_seen: int = 0, tls: TLS | None = None) -> Peer:
        """A new connection of an existing session."""
        peer = self.peer(tls)
        response = peer.handshake(timeout, old.session_id, old.password, last_zxid_seen)
        assert response is not None
        assert response.session_id == old.session_id
        return peer

    def disconnect(self, peer: Peer) -> None:
        peer.socket.close()

    def four_letter_word(self, word: bytes) -> str:
        peer = self.peer()
        peer.send(word)
        peer.wait_closed()
        return peer.raw.decode()

    def close(self) -> None:
        """Ends every session that a peer had, attached or not, and every connection."""
        try:
            for session_id, password in {peer.session_id: peer.password for peer in self._peers}.items():
                if not session_id:
                    continue
                peer = self.peer()
                response = peer.handshake(MIN_TIMEOUT, session_id, password)
                if response is not None and response.session_id:
                    peer.request(records.CloseSession())
                peer.wait_closed()
        finally:
            for peer in self._peers:
                peer.socket.close()


def jaas_of(users: Mapping[str, str]) -> str:
    """The file that tells Apache's server the users of DIGEST-MD5."""
    lines = "".join(f' user_{user}="{password}"' for user, password in users.items())
    return f"Server {{ org.apache.zookeeper.server.auth.DigestLoginModule required{lines}; }};\n"


def clean(port: int, tls: TLS | None = None) -> None:
    """Leaves nothing but `/zookeeper`. The server must know SUPER_USER as its super user."""
    rig = Rig(port, tls)
    try:
        cleaner = rig.client()
        cleaner.authenticate(SUPER_USER)
        # The server's own sweep may take a container away meanwhile, which fails the multi.
        while paths := [path for path in _descendants(cleaner, "/") if path.split("/")[1] != "zookeeper"]:
            cleaner.ask(Multi(tuple(records.Delete(path, -1) for path in paths)))
    finally:
        rig.close()


def _descendants(peer: Peer, path: str) -> list[str]:
    """Children before their parents."""
    answer = peer.ask(records.GetChildren(path, False))
    if answer.error:
        return []
    reply = records.ChildrenReply.read(reply_body(b"\0" * 16 + answer.body))
    paths: list[str] = []
    for name in reply.children:
        child = f"{path.rstrip('/')}/{name}"
        paths += [*_descendants(peer, child), child]
    return paths
