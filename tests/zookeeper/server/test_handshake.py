"""Handshake, re-attach, special xids, unknown requests, closing and expiry: the machine as a client sees it."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.model import OPEN_ACL
from herdmaster.zookeeper.server.state import State
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import MAX_FRAME, ConnectRequest, ConnectResponse, encode_request, frame
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.zookeeper.server.rig import Answer, Event, Rig

EPHEMERAL = 1


def test_the_first_session_is_zxid_1_and_the_first_create_zxid_2() -> None:
    rig = Rig()
    client = rig.client()
    client.create("/a")
    assert client.stat("/a").stat.czxid == 2


@pytest.mark.parametrize(
    ("asked", "given"),
    [(-1, 4000), (0, 4000), (3999, 4000), (10_000, 10_000), (40_001, 40_000), (2**31 - 1, 40_000)],
)
def test_the_timeout_is_negotiated_within_bounds(asked: int, given: int) -> None:
    response = Rig().peer().handshake(asked)
    assert response is not None
    assert response.timeout == given


def test_the_sample_of_a_connect_request_is_understood() -> None:
    peer = Rig().peer()
    peer.reads_frames = True
    body = "00000000 0000000000000000 00002710 0000000000000000 00000010" + "00" * 16 + "00"
    peer.send(bytes.fromhex("0000002d" + body))
    (response,) = peer.inbox
    assert isinstance(response, ConnectResponse)
    assert response.timeout == 10_000


def test_the_read_only_byte_comes_only_to_those_who_sent_one() -> None:
    rig = Rig()
    peer = rig.peer()
    peer.handshake(read_only=False)
    assert len(peer.raw) == 4 + 37
    older = rig.peer()
    older.handshake(read_only=None)
    assert len(older.raw) == 4 + 36


@pytest.mark.parametrize("password", [None, b"", b"12345678", b"x" * 32])
def test_the_password_of_a_new_session_is_ignored(password: bytes | None) -> None:
    response = Rig().peer().handshake(password=password)
    assert response is not None
    assert response.session_id
    assert len(response.password) == 16


def test_session_ids_count_up_and_passwords_differ() -> None:
    rig = Rig()
    first, second = rig.peer().handshake(), rig.peer().handshake()
    assert first is not None
    assert second is not None
    assert second.session_id == first.session_id + 1
    assert second.password != first.password


def test_a_client_from_the_future_is_closed_without_an_answer() -> None:
    rig = Rig()
    rig.client()
    equal, ahead, negative = rig.peer(), rig.peer(), rig.peer()
    assert equal.handshake(last_zxid_seen=1) is not None
    assert ahead.handshake(last_zxid_seen=3) is None
    assert ahead.is_closed
    assert negative.handshake(last_zxid_seen=-5) is not None


def test_reattaching_keeps_the_session_and_its_password_and_negotiates_again() -> None:
    rig = Rig()
    client = rig.client(10_000)
    client.create("/e", flags=EPHEMERAL)
    rig.disconnect(client)
    again = rig.peer()
    response = again.handshake(20_000, client.session_id, rig.password_of(client))
    assert response == ConnectResponse(20_000, client.session_id, rig.password_of(client), False)
    assert again.stat("/e").stat.ephemeral_owner == client.session_id


def test_reattaching_cuts_the_old_connection() -> None:
    rig = Rig()
    old = rig.client()
    new = rig.reattach(old)
    assert old.is_closed
    assert not new.is_closed
    rig.disconnect(old)
    assert new.error(records.Sync("/")) == 0


def test_a_refusal_is_all_zeros_and_looks_the_same_in_every_case() -> None:
    rig = Rig()
    closed, expired, alive = rig.client(), rig.client(4000), rig.client(40_000)
    closed.request(records.CloseSession())
    rig.advance(5000)
    attempts = [
        (0x1234, b"x" * 16),
        (closed.session_id, rig.password_of(closed)),
        (expired.session_id, rig.password_of(expired)),
        (alive.session_id, b"x" * 16),
        (alive.session_id, None),
    ]
    for session_id, password in attempts:
        peer = rig.peer()
        assert peer.handshake(10_000, session_id, password) == ConnectResponse(0, 0, b"\0" * 16, False)
        assert peer.is_closed
    assert not alive.is_closed
    assert alive.error(records.Sync("/")) == 0


def test_requests_right_behind_a_new_sessions_handshake_are_answered_in_order() -> None:
    peer = Rig().peer()
    peer.reads_frames = True
    frames = [encode_request(xid, records.Sync(f"/{xid}")) for xid in (1, 2)]
    peer.send(ConnectRequest(0, 10_000, 0, b"\0" * 16).encode() + b"".join(frames))
    assert [item.xid for item in peer.inbox if isinstance(item, Answer)] == [1, 2]


def test_bytes_may_dribble_in_one_by_one() -> None:
    peer = Rig().peer()
    peer.reads_frames = True
    for byte in ConnectRequest(0, 10_000, 0, b"\0" * 16).encode() + encode_request(5, records.Sync("/x")):
        peer.send(bytes([byte]))
    answer = peer.inbox[-1]
    assert isinstance(answer, Answer)
    assert answer.xid == 5


@pytest.mark.parametrize("length", [b"\0\0\0\0", b"\xff\xff\xff\xff", (MAX_FRAME + 1).to_bytes(4, "big"), b"ruok"])
def test_a_frame_of_an_impossible_length_closes_the_connection_and_not_the_session(length: bytes) -> None:
    rig = Rig()
    client = rig.client()
    client.send(length + b"abc")
    assert client.is_closed
    assert rig.reattach(client).error(records.Sync("/")) == 0


def test_what_stands_before_a_broken_frame_is_still_answered() -> None:
    client = Rig().client()
    requests = b"".join(encode_request(xid, records.Sync("/")) for xid in range(1, 1001))
    client.send(requests + b"\xff\xff\xff\xff and junk")
    assert [item.xid for item in client.inbox if isinstance(item, Answer)] == list(range(1, 1001))
    assert client.is_closed


def test_the_largest_frame_is_taken() -> None:
    client = Rig().client()
    overhead = len(encode_request(1, records.Create("/a", b"", OPEN_ACL, 0))) - 4
    client.create("/a", b"x" * (MAX_FRAME - overhead))
    assert client.stat("/a").stat.data_length == MAX_FRAME - overhead


def test_pings_are_answered_with_their_own_xid_whatever_came() -> None:
    client = Rig().client()
    client.request(records.Ping(), xid=55)
    answer = client.inbox[-1]
    assert isinstance(answer, Answer)
    assert (answer.xid, answer.zxid, answer.error) == (-2, 1, 0)


@pytest.mark.parametrize("xid", [0, -1, -8, 2**31 - 1, -(2**31)])
def test_other_xids_are_echoed(xid: int) -> None:
    client = Rig().client()
    client.request(records.GetAcl("/"), xid=xid)
    # An answer with xid -1 looks like an event, which is the client's own fault.
    item = client.inbox[-1]
    assert isinstance(item, Event) if xid == -1 else isinstance(item, Answer) and item.xid == xid


@pytest.mark.parametrize("opcode", [0, 10, 23, 99, 108, -1, 1000])
def test_an_unknown_request_is_answered_and_ends_the_connection_but_not_the_session(opcode: int) -> None:
    rig = Rig()
    client = rig.client()
    client.raw_request(opcode)
    answer = client.inbox[-1]
    assert isinstance(answer, Answer)
    assert (answer.xid, answer.zxid, answer.error) == (77, -1, -6)
    assert client.is_closed
    assert not rig.reattach(client).is_closed


def test_a_create_session_from_a_client_costs_connection_and_session() -> None:
    rig = Rig()
    client = rig.client()
    client.raw_request(OpCode.CREATE_SESSION)
    assert client.is_closed
    assert rig.state.sessions.find(client.session_id) is None


@pytest.mark.parametrize(("opcode", "error"), [(20, -8), (OpCode.RECONFIG, -123)])
def test_requests_that_are_not_for_clients_get_an_error_and_a_zxid(opcode: int, error: int) -> None:
    client = Rig().client()
    client.raw_request(opcode)
    answer = client.inbox[-1]
    assert isinstance(answer, Answer)
    assert (answer.zxid, answer.error) == (2, error)
    assert not client.is_closed


def test_sasl_is_answered_as_by_a_server_without_it() -> None:
    client = Rig().client()
    client.raw_request(OpCode.SASL, b"\0\0\0\0")
    answer = client.inbox[-1]
    assert isinstance(answer, Answer)
    assert (answer.zxid, answer.error, answer.body[16:]) == (0, 0, b"\xff\xff\xff\xff")


def test_a_check_outside_a_multi_is_refused_and_harmless() -> None:
    client = Rig().client()
    assert client.error(records.Check("/", -1)) == -6
    assert not client.is_closed


def test_a_request_without_a_whole_header_closes_the_connection() -> None:
    client = Rig().client()
    client.send(frame(b"\0\0\0\1"))
    assert client.is_closed


def test_an_unreadable_body_is_an_error_and_the_connection_stays() -> None:
    client = Rig().client()
    client.raw_request(OpCode.GET_DATA, b"\0\0\0\x09/ab")
    client.raw_request(OpCode.CREATE, b"\0\0\0\x09/ab")
    read, write = client.inbox
    assert isinstance(read, Answer)
    assert isinstance(write, Answer)
    assert (read.zxid, read.error) == (1, -5)
    assert (write.zxid, write.error) == (2, -5)
    assert not client.is_closed


def test_junk_behind_a_body_is_ignored() -> None:
    client = Rig().client()
    client.raw_request(OpCode.EXISTS, b"\0\0\0\x01/\0junk")
    answer = client.inbox[-1]
    assert isinstance(answer, Answer)
    assert answer.error == 0


def test_every_write_takes_a_zxid_also_when_it_fails_and_no_read_does() -> None:
    client = Rig().client()
    assert client.ask(records.Create("/a", b"", OPEN_ACL, 0)).zxid == 2
    assert client.ask(records.Create("/a", b"", OPEN_ACL, 0)) == (2, 3, -110, client_body(2, 3, -110))
    assert client.ask(records.SetData("/a", b"", 7)).zxid == 4
    assert client.ask(records.Delete("/b", -1)).zxid == 5
    assert client.ask(records.GetData("/a", False)).zxid == 5
    assert client.ask(records.Sync("/a")).zxid == 5
    assert client.ask(records.AddWatch("/a", 0)).zxid == 5
    assert client.ask(records.SetWatches(0, (), (), ())).zxid == 5


def client_body(xid: int, zxid: int, error: int) -> bytes:
    return xid.to_bytes(4, "big") + zxid.to_bytes(8, "big") + error.to_bytes(4, "big", signed=True)


def test_reattaching_drops_watches_and_credentials() -> None:
    rig = Rig()
    client, other = rig.client(), rig.client()
    client.body(records.Auth(0, "digest", b"al:pw"))
    client.error(records.Exists("/n", True))
    again = rig.reattach(client)
    other.create("/n")
    assert again.take_events() == []
    identities = again.body(records.WhoAmI())
    assert isinstance(identities, records.WhoAmIReply)
    assert [(info.scheme, info.user) for info in identities.infos] == [("ip", "127.0.0.1")]


def test_a_refused_credential_ends_the_connection_and_not_the_session() -> None:
    rig = Rig()
    client = rig.client()
    client.request(records.Auth(0, "world", b"anyone"), xid=-4)
    answer = client.inbox[-1]
    assert isinstance(answer, Answer)
    assert (answer.xid, answer.zxid, answer.error) == (-4, 0, -115)
    assert client.is_closed
    assert not rig.reattach(client).is_closed


def test_who_am_i_tells_the_users_and_not_their_hashes() -> None:
    client = Rig().client()
    answer = client.ask(records.Auth(0, "digest", b"al:pw"))
    assert (answer.zxid, answer.error) == (0, 0)
    client.body(records.Auth(0, "digest", b"bo:pw"))
    client.body(records.Auth(0, "digest", b"bo:pw"))
    identities = client.body(records.WhoAmI())
    assert isinstance(identities, records.WhoAmIReply)
    assert [info.user for info in identities.infos] == ["127.0.0.1", "al", "bo"]


def test_a_fresh_state_can_begin_at_any_zxid() -> None:
    rig = Rig(state=State(100, 1, zxid=5 << 32))
    client = rig.client()
    client.create("/a")
    assert client.stat("/a").stat.czxid == (5 << 32) + 2


def test_a_flood_of_requests_is_handled_in_rounds_and_in_order() -> None:
    rig = Rig()
    client = rig.client()
    frames = b"".join(encode_request(xid, records.Sync("/")) for xid in range(1, 2001))
    rig.machine.receive(client.connection, frames, rig.now)
    assert client.connection.backlog
    rig.settle()
    assert [item.xid for item in client.inbox if isinstance(item, Answer)] == list(range(1, 2001))


def test_a_client_that_asks_for_much_gets_it_in_bounded_portions() -> None:
    rig = Rig()
    client = rig.client()
    client.create("/big", b"x" * 1_000_000)
    frames = b"".join(encode_request(xid, records.GetData("/big", False)) for xid in range(1, 301))
    rig.machine.receive(client.connection, frames, rig.now)
    assert client.connection.outgoing_size < 3_000_000
    rig.settle()
    assert len([item for item in client.inbox if isinstance(item, Answer)]) == 300
