"""Frames, headers and the handshake.

A frame is an int32 length and that many bytes. A request is {xid, type} and a body. A reply is {xid, zxid, err}, and a
body if err is 0. The two messages of the handshake have no header.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import msgspec

from herdmaster.zookeeper.errors import WireError
from herdmaster.zookeeper.model import EventType
from herdmaster.zookeeper.wire import multi, records
from herdmaster.zookeeper.wire.opcodes import XID_EVENT, OpCode
from herdmaster.zookeeper.wire.primitives import BUFFER, USTRING, Reader
from herdmaster.zookeeper.wire.records import Record, Request

MAX_FRAME: Final = 0xFFFFF
"""jute.maxbuffer's default: the largest frame that a server takes (1,048,575 bytes, without the length)."""

_LENGTH = struct.Struct(">i")
_REQUEST_HEADER = struct.Struct(">ii")
_REPLY_HEADER = struct.Struct(">iqi")
_CONNECT_REQUEST = struct.Struct(">iqiq")
_CONNECT_RESPONSE = struct.Struct(">iiq")
_EVENT = struct.Struct(">ii")
_EVENT_BODY = struct.Struct(">iii")
_EVENT_XID = struct.pack(">i", XID_EVENT)
_EVENT_AT = _REPLY_HEADER.size
_EVENT_PATH_AT = _EVENT_AT + _EVENT_BODY.size

IT_IS_TLS: Final = "this is a port for TLS: give TLS settings, or the plain port"

_TLS_ALERT: Final = b"\x15\x03"
"""How the answer of a server begins that was addressed without TLS and expects it."""

_CONNECTED_STATE: Final = 3
"""The state field of every event that a server sends."""


class Framer:
    """Splits a stream of bytes into frames. A frame longer than `limit`, or of a length below 1, raises WireError."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()  # begins with the length of a frame
        self._needed = 4  # bytes that the buffer must have before it is worth a look

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes, and return the bodies of the frames that are complete now. A bad length raises only when no
        complete frame precedes it, so that those are not lost: `feed(b"")` raises for what comes after them."""
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        frames: list[bytes] = []
        start = 0
        self._needed = 4
        while len(data) - start >= 4:
            (length,) = _LENGTH.unpack_from(data, start)
            end = start + 4 + length
            if not 0 < length <= self._limit:
                if not frames:
                    self._buffer += data  # a stream that is broken stays broken
                    if data[start : start + 2] == _TLS_ALERT:
                        raise WireError(IT_IS_TLS)
                    raise WireError(f"a frame of {length} bytes (the limit is {self._limit})")
                break
            if end > len(data):
                self._needed = 4 + length
                break
            frames.append(data[start + 4 : end])
            start = end
        if start < len(data):
            self._buffer += data[start:]
        return frames

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer)


def frame(body: bytes | bytearray) -> bytes:
    return _LENGTH.pack(len(body)) + body


# --- requests and replies --------------------------------------------------------------------------------------------


class RequestHeader(NamedTuple):
    xid: int
    opcode: int


class ReplyHeader(NamedTuple):
    xid: int
    zxid: int
    error: int


def _request_types() -> dict[int, type[Request[Record]]]:
    found: dict[int, type[Request[Record]]] = {}
    for module in (records, multi):
        for value in vars(module).values():
            # A subscripted generic such as Request[PathReply] is no class that has an opcode.
            if isinstance(value, type) and issubclass(value, Request) and "opcode" in value.__dict__:
                found[value.opcode] = value
    return found


_REQUEST_TYPES: Final = _request_types()


def encode_request(xid: int, request: Request[Record]) -> bytes:
    """Return a whole frame."""
    out = bytearray(12)
    request.write(out)
    _LENGTH.pack_into(out, 0, len(out) - 4)
    _REQUEST_HEADER.pack_into(out, 4, xid, request.opcode)
    return bytes(out)


def decode_request_header(body: bytes) -> RequestHeader:
    if len(body) < _REQUEST_HEADER.size:
        raise WireError("a request without a whole header")
    return RequestHeader(*_REQUEST_HEADER.unpack_from(body))


def decode_request(body: bytes) -> Request[Record] | None:
    """Return the request in a frame's body, None for an unknown type. Trailing bytes are ignored, as by the server.

    Raises WireError for a body that does not hold the record.
    """
    kind = _REQUEST_TYPES.get(decode_request_header(body).opcode)
    return None if kind is None else kind.read(Reader(body, _REQUEST_HEADER.size))


def encode_reply(xid: int, zxid: int, error: int, reply: Record | None) -> bytes:
    """Return a whole frame, without a body if there is an error."""
    out = bytearray(20)
    if reply is not None and error == 0:
        reply.write(out)
    _LENGTH.pack_into(out, 0, len(out) - 4)
    _REPLY_HEADER.pack_into(out, 4, xid, zxid, error)
    return bytes(out)


def decode_reply_header(body: bytes) -> ReplyHeader:
    return ReplyHeader._make(unpack_reply_header(body))


def unpack_reply_header(body: bytes) -> tuple[int, int, int]:
    """Return the fields of a ReplyHeader as a plain tuple, for code that reads many."""
    if len(body) < _REPLY_HEADER.size:
        raise WireError("a reply without a whole header")
    xid, zxid, error = _REPLY_HEADER.unpack_from(body)
    return xid, zxid, error


def reply_body(body: bytes) -> Reader:
    """Return a reader that stands behind the reply header."""
    return Reader(body, _REPLY_HEADER.size)


def encode_event(zxid: int, kind: EventType, path: str) -> bytes:
    """Return a watch event as a whole frame. `zxid` is -1 before 3.9.0 (ZOOKEEPER-4655)."""
    out = bytearray(_REPLY_HEADER.pack(XID_EVENT, zxid, 0))
    out += _EVENT.pack(kind, _CONNECTED_STATE)
    USTRING.write(out, path)
    return frame(out)


def is_event(body: bytes) -> bool:
    """Return whether a frame's body is a watch event, and no reply."""
    return body.startswith(_EVENT_XID)


def decode_event(body: bytes) -> tuple[int, str]:
    """Return the type, as a number, and the path of an event's frame body."""
    try:
        kind, _, length = _EVENT_BODY.unpack_from(body, _EVENT_AT)
    except struct.error:
        raise WireError("an event without a whole body") from None
    path = body[_EVENT_PATH_AT : _EVENT_PATH_AT + length] if length >= 0 else b""
    if len(path) != length:
        raise WireError(f"a path of {length} bytes runs past the end of the event")
    return kind, path.decode("utf-8", "replace")


# --- the handshake ---------------------------------------------------------------------------------------------------


class ConnectRequest(msgspec.Struct, frozen=True):
    """The client's message. `timeout` is in milliseconds; `session_id` 0 asks for a new session; `read_only` is None if
    its byte is missing."""

    last_zxid_seen: int
    timeout: int
    session_id: int
    password: bytes | None
    read_only: bool | None = False

    def encode(self) -> bytes:
        """Return a whole frame."""
        out = bytearray(_CONNECT_REQUEST.pack(0, self.last_zxid_seen, self.timeout, self.session_id))
        BUFFER.write(out, self.password)
        if self.read_only is not None:
            out.append(self.read_only)
        return frame(out)

    @classmethod
    def decode(cls, body: bytes) -> ConnectRequest:
        reader = Reader(body)
        _, last_zxid_seen, timeout, session_id = reader.read_struct(_CONNECT_REQUEST)
        password = BUFFER.read(reader)
        read_only = reader.read_bytes(1) != b"\x00" if reader.remaining else None
        return cls(last_zxid_seen, timeout, session_id, password, read_only)


class ConnectResponse(msgspec.Struct, frozen=True):
    """The server's message. `timeout` is the negotiated one in milliseconds; 0 means that the session was refused."""

    timeout: int
    session_id: int
    password: bytes
    read_only: bool | None = False

    def encode(self) -> bytes:
        """Return a whole frame."""
        out = bytearray(_CONNECT_RESPONSE.pack(0, self.timeout, self.session_id))
        BUFFER.write(out, self.password)
        if self.read_only is not None:
            out.append(self.read_only)
        return frame(out)

    @classmethod
    def decode(cls, body: bytes) -> ConnectResponse:
        reader = Reader(body)
        _, timeout, session_id = reader.read_struct(_CONNECT_RESPONSE)
        password = BUFFER.read(reader) or b""
        read_only = reader.read_bytes(1) != b"\x00" if reader.remaining else None
        return cls(timeout, session_id, password, read_only)


__all__ = [
    "MAX_FRAME",
    "ConnectRequest",
    "ConnectResponse",
    "Framer",
    "OpCode",
    "ReplyHeader",
    "RequestHeader",
    "decode_event",
    "decode_reply_header",
    "decode_request",
    "decode_request_header",
    "encode_event",
    "encode_reply",
    "encode_request",
    "frame",
    "reply_body",
    "unpack_reply_header",
]
