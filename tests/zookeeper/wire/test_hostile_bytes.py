"""Whatever arrives, reading it either works or raises WireError."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herdmaster.zookeeper.errors import WireError
from herdmaster.zookeeper.wire.framing import (
    ConnectRequest,
    ConnectResponse,
    Framer,
    decode_event,
    decode_reply_header,
    decode_request,
    decode_request_header,
    encode_reply,
    encode_request,
    unpack_reply_header,
)
from herdmaster.zookeeper.wire.multi import Multi, MultiRead, MultiReply
from herdmaster.zookeeper.wire.primitives import Reader
from herdmaster.zookeeper.wire.records import ChildrenReply, Record, Request
from tests.zookeeper.wire.strategies import REPLIES, REQUESTS, replies, requests

Decoder = Callable[[bytes], object]

RECORDS = [*REQUESTS, *REPLIES, Multi, MultiRead, MultiReply]
DECODERS: list[Decoder] = [
    decode_event,
    decode_reply_header,
    unpack_reply_header,
    decode_request,
    decode_request_header,
    ConnectRequest.decode,
    ConnectResponse.decode,
]


def survives(decode: Decoder, body: bytes) -> bool:
    """Whether the body could be read; any other error than WireError is the test's failure."""
    try:
        decode(body)
    except WireError:
        return False
    return True


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: kind.__name__)
@settings(max_examples=40)
@given(body=st.binary(max_size=120))
def test_random_bytes_make_a_record_or_a_wire_error(kind: type[Record], body: bytes) -> None:
    survives(lambda data: kind.read(Reader(data)), body)


@pytest.mark.parametrize("decode", DECODERS, ids=lambda decode: decode.__qualname__)
@settings(max_examples=40)
@given(body=st.binary(max_size=120))
def test_random_bytes_make_a_message_or_a_wire_error(decode: Decoder, body: bytes) -> None:
    survives(decode, body)


@pytest.mark.long
@given(requests)
def test_a_request_cut_short_is_a_wire_error(request: Request[Record]) -> None:
    body = encode_request(1, request)[4:]
    for length in range(len(body)):
        assert not survives(decode_request, body[:length])


@given(replies)
def test_a_reply_cut_short_is_a_wire_error(reply: Record) -> None:
    body = encode_reply(1, 1, 0, reply)[20:]
    for length in range(len(body)):
        assert not survives(lambda data: type(reply).read(Reader(data)), body[:length])


@given(requests, st.data())
def test_a_request_with_a_changed_byte_is_read_or_refused(request: Request[Record], draw: st.DataObject) -> None:
    body = bytearray(encode_request(1, request)[4:])
    body[draw.draw(st.integers(0, len(body) - 1))] = draw.draw(st.integers(0, 255))
    survives(decode_request, bytes(body))


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_a_random_stream_gives_frames_or_a_wire_error(pieces: list[bytes]) -> None:
    framer = Framer(50)
    try:
        for piece in pieces:
            assert all(0 < len(body) <= 50 for body in framer.feed(piece))
    except WireError:
        return


def test_a_vector_that_claims_two_thousand_million_items_costs_nothing() -> None:
    with pytest.raises(WireError, match="2147483647 items"):
        ChildrenReply.read(Reader(b"\x7f\xff\xff\xff" + bytes(100)))


@pytest.mark.parametrize("length", [b"\xff\xff\xff\xfe", b"\x80\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\x05"])
def test_a_length_that_is_negative_or_runs_past_the_end_is_a_wire_error(length: bytes) -> None:
    with pytest.raises(WireError):
        Reader(length + b"abcd").read_buffer()


def test_a_null_string_where_one_must_be_is_a_wire_error() -> None:
    with pytest.raises(WireError, match="null"):
        ChildrenReply.read(Reader(b"\0\0\0\1" + b"\xff\xff\xff\xff"))
