"""Bytes that a live server of 3.8 sent and took."""

from __future__ import annotations

from herdmaster.zookeeper.model import OPEN_ACL, EventType, Stat
from herdmaster.zookeeper.wire.framing import (
    ConnectRequest,
    ConnectResponse,
    decode_event,
    decode_reply_header,
    decode_request,
    encode_event,
    encode_reply,
    encode_request,
    frame,
    reply_body,
)
from herdmaster.zookeeper.wire.multi import ErrorResult, Multi, MultiReply
from herdmaster.zookeeper.wire.records import Check, CloseSession, Create, Ping, SetWatches2, StatReply


def octets(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


def test_the_connect_request_of_a_new_session() -> None:
    request = ConnectRequest(0, 10_000, 0, bytes(16))
    sample = octets("00000000 0000000000000000 00002710 0000000000000000 00000010") + bytes(16) + b"\0"
    assert request.encode() == octets("0000002d") + sample
    assert ConnectRequest.decode(sample) == request


def test_a_connect_request_of_before_3_4_has_no_read_only_byte() -> None:
    request = ConnectRequest(0, 10_000, 0, bytes(16), None)
    assert len(request.encode()) == 4 + 44
    assert ConnectRequest.decode(request.encode()[4:]).read_only is None


def test_the_connect_response() -> None:
    sample = octets("00000000 00002710 0100000693190019 00000010 674d1ac5169736cb5eb51442e6663943")
    response = ConnectResponse.decode(sample)
    assert response == ConnectResponse(
        10_000, 0x0100000693190019, octets("674d1ac5169736cb5eb51442e6663943"), read_only=None
    )
    assert response.encode() == frame(sample)
    assert len(sample) == 36
    assert ConnectResponse.decode(sample + b"\1").read_only is True


def test_the_response_that_refuses_a_session() -> None:
    sample = octets("00000000 00000000 0000000000000000 00000010") + bytes(16) + b"\0"
    assert ConnectResponse.decode(sample) == ConnectResponse(0, 0, bytes(16), read_only=False)


def test_a_watch_event() -> None:
    sample = octets("ffffffff ffffffffffffffff 00000000 00000003 00000003 0000000a 2f66616374732f772f6e")
    assert decode_reply_header(sample) == (-1, -1, 0)
    assert decode_event(sample) == (EventType.DATA_CHANGED, "/facts/w/n")
    assert encode_event(-1, EventType.DATA_CHANGED, "/facts/w/n") == frame(sample)


def test_the_reply_to_a_failed_multi() -> None:
    sample = octets("ffffffff 00 ffffff99 ffffff99 ffffffff 00 fffffffe fffffffe ffffffff 01 ffffffff")
    reply = MultiReply((ErrorResult(-103), ErrorResult(-2)), (-1, -1))
    header = octets("00000001 0000000000000005 00000000")
    assert MultiReply.read(reply_body(header + sample)) == reply
    assert encode_reply(1, 5, 0, reply) == frame(header + sample)


def test_a_multi_of_a_check_and_a_create() -> None:
    request = Multi((Check("/a", 1), Create("/a/b", b"x", OPEN_ACL, 0)))
    sample = octets(
        "00000007 0000000e"  # xid, multi
        "0000000d 00 ffffffff 00000002 2f61 00000001"  # check
        "00000001 00 ffffffff 00000004 2f612f62 00000001 78"  # create: path, data,
        "00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000000"  # ACL, flags
        "ffffffff 01 ffffffff"
    )
    assert encode_request(7, request) == frame(sample)
    assert decode_request(sample) == request


def test_an_empty_multi_is_just_the_end_marker() -> None:
    assert encode_request(1, Multi(())) == frame(octets("00000001 0000000e ffffffff 01 ffffffff"))


def test_a_ping_and_a_close_have_no_body() -> None:
    assert encode_request(-2, Ping()) == octets("00000008 fffffffe 0000000b")
    assert encode_request(5, CloseSession()) == octets("00000008 00000005 fffffff5")


def test_the_order_of_the_lists_in_set_watches_2() -> None:
    request = SetWatches2(9, ("/d",), ("/e",), ("/c",), ("/p",), ("/r",))
    vectors = "".join(f"00000001 00000002 2f{ord(name):02x}" for name in "decpr")
    assert encode_request(-8, request) == frame(octets("fffffff8 00000069 0000000000000009" + vectors))


def test_a_stat_has_68_bytes_in_the_order_of_its_fields() -> None:
    body = encode_reply(1, 1, 0, StatReply(Stat(*range(1, 12))))[20:]
    assert len(body) == 68
    longs = [body[index : index + 8] for index in (0, 8, 16, 24, 44, 60)]
    assert [int.from_bytes(value) for value in longs] == [1, 2, 3, 4, 8, 11]
    ints = [body[index : index + 4] for index in (32, 36, 40, 52, 56)]
    assert [int.from_bytes(value) for value in ints] == [5, 6, 7, 9, 10]
