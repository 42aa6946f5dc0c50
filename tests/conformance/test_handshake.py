"""Fact sheet 1.1 (frames), 1.2 (handshake and re-attach) and 1.3 (special xids).

Left out: what a ten-second expiry shows is shown with half a second in test_sessions.py; an ordinary request with
xid -1, whose answer no client can tell from an event; the lower bytes of session ids and those of passwords.
"""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.model import OPEN_ACL
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import MAX_FRAME, ConnectRequest, ConnectResponse, encode_request, frame
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.conformance.rig import MAX_TIMEOUT, MIN_TIMEOUT, Peer, Rig

EPHEMERAL = 1
SERVER_ID = 1
"""Of a server that stands alone, whose configuration gives it none."""

REFUSAL = ConnectResponse(0, 0, b"\0" * 16, False)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (-1, MIN_TIMEOUT),
        (0, MIN_TIMEOUT),
        (MIN_TIMEOUT - 1, MIN_TIMEOUT),
        (10_000, 10_000),
        (MAX_TIMEOUT + 1, MAX_TIMEOUT),
        (2**31 - 1, MAX_TIMEOUT),
    ],
)
def test_the_timeout_is_negotiated_within_bounds(rig: Rig, asked: int, given: int) -> None:
    response = rig.peer().handshake(asked)
    assert response is not None
    assert response.timeout == given


def test_the_sample_of_a_connect_request_is_understood(rig: Rig) -> None:
    peer = rig.peer()
    body = "00000000 0000000000000000 00002710 0000000000000000 00000010" + "00" * 16 + "00"
    peer.send(bytes.fromhex("0000002d" + body))
    response = peer.receive_response()
    assert response is not None
    assert response.timeout == 10_000


@pytest.mark.parametrize(("read_only", "length"), [(False, 37), (None, 36)])
def test_the_read_only_byte_comes_only_to_those_who_sent_one(rig: Rig, read_only: bool | None, length: int) -> None:
    peer = rig.peer()
    assert peer.handshake(read_only=read_only) is not None
    assert len(peer.raw) == 4 + length


def test_the_protocol_version_is_ignored(rig: Rig) -> None:
    peer = rig.peer()
    request = ConnectRequest(0, 10_000, 0, b"\0" * 16).encode()
    peer.send(request[:4] + b"\0\0\0\x07" + request[8:])
    response = peer.receive_response()
    assert response is not None
    assert response.session_id


@pytest.mark.parametrize("password", [None, b"", b"12345678", b"x" * 32])
def test_the_password_of_a_new_session_is_ignored(rig: Rig, password: bytes | None) -> None:
    response = rig.peer().handshake(password=password)
    assert response is not None
    assert response.session_id
    assert len(response.password) == 16


def test_session_ids_count_up_below_the_number_of_the_server_and_passwords_differ(rig: Rig) -> None:
    first, second = rig.client(), rig.client()
    assert second.session_id == first.session_id + 1
    assert first.session_id >> 56 == second.session_id >> 56 == SERVER_ID
    assert second.password != first.password


def test_a_client_from_the_future_is_closed_without_an_answer(rig: Rig, client: Peer) -> None:
    now = client.ask(records.Sync("/")).zxid
    assert rig.peer().handshake(last_zxid_seen=now) is not None
    assert rig.peer().handshake(last_zxid_seen=-5) is not None
    ahead = rig.peer()
    assert ahead.handshake(last_zxid_seen=now + 1000) is None
    ahead.wait_closed()
    assert ahead.raw == b""


def test_reattaching_keeps_the_session_and_its_password_and_negotiates_again(rig: Rig, client: Peer) -> None:
    client.create("/e", flags=EPHEMERAL)
    rig.disconnect(client)
    again = rig.peer()
    response = again.handshake(20_000, client.session_id, client.password)
    assert response == ConnectResponse(20_000, client.session_id, client.password, False)
    assert again.stat("/e").stat.ephemeral_owner == client.session_id


def test_reattaching_cuts_the_old_connection(rig: Rig, client: Peer) -> None:
    again = rig.reattach(client)
    client.wait_closed()
    rig.disconnect(client)
    assert again.is_open()


def test_a_session_that_is_unknown_or_closed_or_has_another_password_is_refused_with_zeros(rig: Rig) -> None:
    closed, alive = rig.client(), rig.client()
    closed.request(records.CloseSession())
    attempts = [
        (0x1234, b"x" * 16),
        (closed.session_id, closed.password),
        (alive.session_id, b"x" * 16),
        (alive.session_id, None),
    ]
    for session_id, password in attempts:
        peer = rig.peer()
        assert peer.handshake(10_000, session_id, password) == REFUSAL
        peer.wait_closed()
    assert rig.reattach(alive).is_open()


@pytest.mark.apache
def test_on_apaches_server_even_a_wrong_password_cuts_the_sessions_present_connection(apache_rig: Rig) -> None:
    client = apache_rig.client()
    assert apache_rig.peer().handshake(10_000, client.session_id, b"x" * 16) == REFUSAL
    client.wait_closed()
    assert apache_rig.reattach(client).is_open()


def test_on_the_embedded_server_a_wrong_password_leaves_the_sessions_present_connection_alone(
    embedded_rig: Rig,
) -> None:
    client = embedded_rig.client()
    intruder = embedded_rig.peer()
    assert intruder.handshake(10_000, client.session_id, b"x" * 16) == REFUSAL
    intruder.wait_closed()
    assert client.is_open()
    assert client.error(records.GetData("/", False)) == 0


def test_requests_right_behind_a_new_sessions_handshake_are_answered_in_order(rig: Rig) -> None:
    peer = rig.peer()
    frames = [encode_request(xid, records.Sync(f"/{xid}")) for xid in (1, 2)]
    peer.send(ConnectRequest(0, 10_000, 0, b"\0" * 16).encode() + b"".join(frames))
    assert peer.receive_response() is not None
    assert [answer.xid for answer in peer.receive(2)] == [1, 2]


def test_bytes_may_dribble_in_one_by_one(rig: Rig) -> None:
    peer = rig.peer()
    for byte in ConnectRequest(0, 10_000, 0, b"\0" * 16).encode() + encode_request(5, records.Sync("/x")):
        peer.send(bytes([byte]))
    assert peer.receive_response() is not None
    assert [answer.xid for answer in peer.receive(1)] == [5]


@pytest.mark.parametrize("length", [b"\0\0\0\0", b"\xff\xff\xff\xff", (MAX_FRAME + 1).to_bytes(4, "big"), b"ruok"])
def test_a_frame_of_an_impossible_length_closes_the_connection_and_not_the_session(
    rig: Rig, client: Peer, length: bytes
) -> None:
    client.send(length)
    client.wait_closed()
    assert client.inbox == []
    assert rig.reattach(client).is_open()


def test_the_largest_frame_is_taken_and_its_reply_may_be_larger(client: Peer) -> None:
    overhead = len(encode_request(1, records.Create("/a", b"", OPEN_ACL, 0))) - 4
    data = b"x" * (MAX_FRAME - overhead)
    client.create("/a", data)
    reply = client.body(records.GetData("/a", False))
    assert isinstance(reply, records.DataReply)
    assert reply.data == data
    assert len(client.raw) > MAX_FRAME


@pytest.mark.parametrize("xid", [-2, 55, 0])
def test_pings_are_answered_with_their_own_xid_whatever_came_and_take_no_zxid(client: Peer, xid: int) -> None:
    zxid = client.ask(records.Sync("/")).zxid
    answer = client.ping(xid)
    assert answer is not None
    assert (answer.xid, answer.zxid, answer.error, answer.body) == (-2, zxid, 0, b"")


@pytest.mark.parametrize("xid", [0, -8, -9, 2**31 - 1, -(2**31)])
def test_other_xids_are_echoed_and_may_come_again(client: Peer, xid: int) -> None:
    for _ in range(2):
        client.request(records.GetAcl("/"), xid=xid)
    assert [answer.xid for answer in client.answers] == [xid, xid]


@pytest.mark.parametrize("request_type", [records.SetWatches, records.SetWatches2])
@pytest.mark.parametrize("xid", [-8, 9])
def test_set_watches_is_answered_with_the_xid_that_came(
    client: Peer, xid: int, request_type: type[records.SetWatches | records.SetWatches2]
) -> None:
    lists: tuple[tuple[str, ...], ...] = ((),) * (3 if request_type is records.SetWatches else 5)
    client.request(request_type(0, *lists), xid=xid)
    (answer,) = client.answers
    assert (answer.xid, answer.error, answer.body) == (xid, 0, b"")


@pytest.mark.parametrize("xid", [-4, 9])
def test_auth_is_answered_with_the_xid_that_came_and_zxid_0(client: Peer, xid: int) -> None:
    client.request(records.Auth(0, "digest", b"al:pw"), xid=xid)
    (answer,) = client.answers
    assert (answer.xid, answer.zxid, answer.error, answer.body) == (xid, 0, 0, b"")


@pytest.mark.parametrize("opcode", [0, 10, 23, 99, 108])
def test_an_unknown_request_is_answered_and_ends_the_connection_but_not_the_session(
    rig: Rig, client: Peer, opcode: int
) -> None:
    answer = client.raw_request(opcode)
    assert (answer.xid, answer.zxid, answer.error) == (77, -1, -6)
    client.wait_closed()
    assert rig.reattach(client).is_open()


def test_a_create_session_from_a_client_costs_connection_and_session(rig: Rig, client: Peer) -> None:
    client.send(frame(b"\0\0\0\x01" + int(OpCode.CREATE_SESSION).to_bytes(4, "big", signed=True) + b"\0" * 4))
    client.wait_closed()
    assert rig.peer().handshake(10_000, client.session_id, client.password) == REFUSAL


def test_sasl_is_answered_as_by_a_server_without_it(client: Peer) -> None:
    answer = client.raw_request(OpCode.SASL, b"\0\0\0\0")
    assert (answer.zxid, answer.error, answer.body) == (0, 0, b"\xff\xff\xff\xff")


@pytest.mark.parametrize("body", [b"\0\0\0\x09/ab", b"\xff\xff\xff\xfe/ab", b"\0\0\0\x01"])
def test_an_unreadable_body_is_an_error_and_the_connection_stays(client: Peer, body: bytes) -> None:
    zxid = client.ask(records.Sync("/")).zxid
    read, write = client.raw_request(OpCode.GET_DATA, body), client.raw_request(OpCode.CREATE, body)
    assert (read.zxid, read.error) == (zxid, -5)
    assert write.error == -5
    assert write.zxid > zxid
    assert client.is_open()


def test_junk_behind_a_body_is_ignored(client: Peer) -> None:
    assert client.raw_request(OpCode.EXISTS, b"\0\0\0\x01/\0junk").error == 0


def test_a_path_that_is_no_utf_8_is_a_path_of_nothing(client: Peer) -> None:
    assert client.raw_request(OpCode.GET_DATA, b"\0\0\0\x03/\xff\xfe\0").error == -101
