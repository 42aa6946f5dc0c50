"""A client in raw frames over TCP, for tests that must see exactly what a server sends. Blocking, with deadlines."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from typing import NamedTuple, Self

from herdmaster.zookeeper.model import OPEN_ACL
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import (
    ConnectRequest,
    ConnectResponse,
    Framer,
    decode_event,
    decode_reply_header,
    encode_request,
    reply_body,
)
from herdmaster.zookeeper.wire.opcodes import XID_EVENT
from herdmaster.zookeeper.wire.records import Record, Request

_PATIENCE = 20.0


class Event(NamedTuple):
    type: int
    path: str


class Answer(NamedTuple):
    """`events` are those that came between the answer before and this one."""

    xid: int
    zxid: int
    error: int
    body: bytes
    events: tuple[Event, ...]


class ConnectionEnded(Exception):
    """The server closed; `events` came before that."""

    def __init__(self, events: tuple[Event, ...] = ()) -> None:
        super().__init__("the server closed the connection")
        self.events = events


class Wire:
    """One connection."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port), _PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._framer = Framer(1 << 26)
        self._frames: deque[bytes] = deque()
        self._xid = 0
        self.session_id = 0
        self.password = b""
        self.timeout = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def leave(self) -> None:
        """Closes once the server has closed, so that the server knows of it before this returns."""
        with contextlib.suppress(OSError):  # the server was first
            self.socket.shutdown(socket.SHUT_WR)
        self.wait_ended()
        self.close()

    def handshake(
        self, timeout: int = 10_000, session_id: int = 0, password: bytes = b"\0" * 16, last_zxid_seen: int = 0
    ) -> ConnectResponse:
        """Raises ConnectionEnded where the server closes without an answer."""
        self.socket.sendall(ConnectRequest(last_zxid_seen, timeout, session_id, password).encode())
        response = ConnectResponse.decode(self._frame())
        self.session_id, self.password, self.timeout = response.session_id, response.password, response.timeout
        return response

    def send(self, request: Request[Record], xid: int | None = None) -> int:
        if xid is None:
            self._xid += 1
            xid = self._xid
        self.socket.sendall(encode_request(xid, request))
        return xid

    def receive(self) -> Answer:
        """The next answer. Raises ConnectionEnded, TimeoutError."""
        events: list[Event] = []
        while True:
            try:
                body = self._frame()
            except ConnectionEnded:
                raise ConnectionEnded(tuple(events)) from None
            header = decode_reply_header(body)
            if header.xid != XID_EVENT:
                return Answer(*header, body[16:], tuple(events))
            events.append(Event(*decode_event(body)))

    def ask(self, request: Request[Record]) -> Answer:
        self.send(request)
        return self.receive()

    def body(self, request: Request[Record]) -> Record:
        """The record that a success brings."""
        answer = self.ask(request)
        assert answer.error == 0, f"{request} was answered with {answer.error}"
        return request.reply_type.read(reply_body(b"\0" * 16 + answer.body))

    def create(self, path: str, data: bytes = b"", flags: int = 0) -> Answer:
        return self.ask(records.Create(path, data, OPEN_ACL, flags))

    def wait_ended(self) -> None:
        """Until the server has closed; what it still sends is ignored."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            try:
                if not self.socket.recv(1 << 16):
                    return
            except ConnectionError:
                return
        raise TimeoutError("the server did not close the connection")

    def _frame(self) -> bytes:
        while not self._frames:
            try:
                data = self.socket.recv(1 << 18)
            except ConnectionError:
                data = b""
            if not data:
                raise ConnectionEnded
            self._frames.extend(self._framer.feed(data))
        return self._frames.popleft()
