"""Connecting, re-attaching, and the preface of every connection."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.requests import DropConnection
from herdmaster.zookeeper.client.watches import WatchTable
from herdmaster.zookeeper.model import EventType, SessionState
from herdmaster.zookeeper.wire.framing import ConnectResponse, encode_reply
from herdmaster.zookeeper.wire.records import (
    AddWatch,
    Auth,
    DataReply,
    Exists,
    GetData,
    NumberReply,
    SetWatches2,
    StatReply,
)
from tests.zookeeper.client.peer import CONNECT_TIMEOUT, OK, PASSWORD, SESSION_ID, STAT, TIMEOUT, Peer

CREDENTIALS = (("digest", b"al:pw"), ("digest", b"bo:pw"))


def test_a_new_session_is_asked_for_with_id_0() -> None:
    request = Peer().connect()
    assert (request.session_id, request.password, request.last_zxid_seen) == (0, bytes(16), 0)
    assert request.timeout == TIMEOUT * 1000
    assert request.read_only is False


def test_the_server_grants_id_password_and_timeout() -> None:
    peer = Peer()
    peer.connect()
    peer.accept(timeout=4.0)
    assert peer.states == [SessionState.CONNECTED]
    assert peer.session.timeout == 4.0
    assert peer.session.client_id is not None
    assert (peer.session.client_id.session_id, peer.session.client_id.password) == (SESSION_ID, PASSWORD)


def test_the_password_is_never_shown() -> None:
    peer = Peer()
    peer.attach()
    assert repr(peer.session.client_id) == "ClientId(0x100000000000007)"


def test_a_request_waits_for_the_handshake() -> None:
    peer = Peer()
    call = peer.write()
    peer.connect()
    assert peer.sent() == []
    peer.accept()
    assert peer.requests() == [call.pending.request]


def test_a_response_may_arrive_byte_by_byte_and_together_with_a_reply() -> None:
    response = ConnectResponse(9000, SESSION_ID, PASSWORD).encode()
    peer = Peer()
    peer.connect()
    for index in range(len(response) - 1):
        assert peer.receive(response[index : index + 1]) == []
    peer.receive(response[-1:])
    assert peer.states == [SessionState.CONNECTED]
    peer.lose()
    peer.connect()
    peer.receive(response + encode_reply(-2, 5, 0, OK))
    assert peer.states[-1] is SessionState.CONNECTED
    assert peer.drops == []


def test_a_response_without_the_read_only_byte_will_do() -> None:
    peer = Peer()
    peer.connect()
    peer.receive(ConnectResponse(9000, SESSION_ID, PASSWORD, read_only=None).encode())
    assert peer.states == [SessionState.CONNECTED]


@pytest.mark.parametrize(("timeout", "session_id"), [(0, SESSION_ID), (0, 0), (9, 0), (-1, SESSION_ID)])
def test_a_new_session_that_is_refused_is_asked_for_again(timeout: float, session_id: int) -> None:
    peer = Peer()
    call = peer.write()
    peer.connect()
    peer.accept(timeout=timeout, session_id=session_id)
    assert peer.drops == ["the server refused a session"]
    assert peer.states == []
    peer.lose()
    peer.attach()
    assert peer.requests() == [call.pending.request]


def test_reattaching_shows_id_password_and_the_newest_zxid() -> None:
    peer = Peer()
    peer.attach()
    peer.read()
    ((xid, _),) = peer.sent()
    peer.reply(xid, DataReply(b"", STAT), zxid=77)
    peer.lose()
    request = peer.connect()
    assert (request.session_id, request.password, request.last_zxid_seen) == (SESSION_ID, PASSWORD, 77)
    assert request.timeout == TIMEOUT * 1000


def test_the_timeout_is_negotiated_anew_on_every_connection() -> None:
    peer = Peer()
    peer.connect()
    peer.accept(timeout=4.0)
    peer.lose()
    assert peer.connect().timeout == TIMEOUT * 1000, "what was asked for, not what was granted the last time"
    peer.accept(timeout=8.0)
    assert peer.session.timeout == 8.0


def test_a_refused_session_is_over() -> None:
    peer = Peer()
    peer.attach()
    peer.lose()
    read, write = peer.read(), peer.write()
    peer.connect()
    peer.accept(timeout=0, session_id=0)
    assert peer.states[-1] is SessionState.EXPIRED
    assert peer.session.is_gone
    assert isinstance(read.error, errors.SessionExpired)
    assert isinstance(write.error, errors.SessionExpired)
    assert read.error is not write.error, "each traceback is its own"
    with pytest.raises(errors.SessionExpired):
        peer.write()


def test_a_server_that_hands_out_another_id_ends_the_session() -> None:
    peer = Peer()
    peer.attach()
    peer.lose()
    peer.connect()
    peer.accept(session_id=SESSION_ID + 1)
    assert peer.states[-1] is SessionState.EXPIRED


def test_a_server_that_does_not_answer_the_handshake_is_left() -> None:
    peer = Peer()
    peer.connect()
    assert peer.session.next_tick() == peer.now + CONNECT_TIMEOUT
    assert peer.wait(CONNECT_TIMEOUT - 0.1) == []
    assert peer.wait(0.1) == [DropConnection("the server did not answer the handshake in time")]


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\3abc", b"\0\0\0\0", encode_reply(1, 1, 0, OK)]
)
def test_a_server_that_speaks_something_else_is_left(garbage: bytes) -> None:
    peer = Peer()
    call = peer.write()
    peer.connect()
    peer.receive(garbage)
    assert len(peer.drops) == 1
    assert not call.is_done


def test_bytes_of_a_server_that_gives_no_session_keep_none_alive() -> None:
    peer = Peer()
    peer.attach()
    peer.lose()
    for _ in range(7):
        peer.now += TIMEOUT / 6
        peer.connect()
        peer.receive(b"\0\0\1")
        peer.lose()
    assert SessionState.EXPIRED not in peer.states
    peer.wait(TIMEOUT / 6)
    assert SessionState.EXPIRED in peer.states


# --- the preface ----------------------------------------------------------------------------------------


def test_credentials_come_before_every_request() -> None:
    peer = Peer(credentials=CREDENTIALS)
    call = peer.write()
    peer.attach()
    assert peer.sent() == [
        (-4, Auth(0, "digest", b"al:pw")),
        (-4, Auth(0, "digest", b"bo:pw")),
        (1, call.pending.request),
    ]


def test_after_a_reconnect_come_credentials_then_watches_then_requests() -> None:
    peer = Peer(credentials=CREDENTIALS[:1])
    peer.attach()
    peer.sent()
    peer.reply(-4, OK)
    peer.watch(GetData("/data", watch=True), WatchTable.DATA, "/data")
    ((xid, _),) = peer.sent()
    peer.reply(xid, DataReply(b"", STAT), zxid=50)
    asked_again = peer.read()
    peer.sent()
    peer.lose()
    waiting = peer.write()
    peer.attach()
    assert peer.sent() == [
        (-4, Auth(0, "digest", b"al:pw")),
        (-8, SetWatches2(50, ("/data",), (), (), (), ())),
        (3, asked_again.pending.request),
        (4, waiting.pending.request),
    ]


def test_a_preface_that_was_not_sent_goes_with_its_connection() -> None:
    peer = Peer(credentials=CREDENTIALS[:1])
    peer.connect()
    peer.session.paused = True
    peer.accept()
    assert peer.sent() == []
    peer.lose()
    peer.session.paused = False
    peer.attach()
    assert peer.requests() == [Auth(0, "digest", b"al:pw")]


def test_a_preface_that_was_sent_is_not_asked_again_beside_the_next_one() -> None:
    peer = Peer(credentials=CREDENTIALS[:1])
    peer.attach()
    assert len(peer.requests()) == 1
    peer.lose()
    peer.attach()
    assert len(peer.requests()) == 1


def test_many_watches_go_in_packets_of_at_most_128_kib_with_one_zxid() -> None:
    peer = Peer()
    peer.attach()
    paths = [f"/status/{number:06d}-{'x' * 80}" for number in range(4000)]
    for path in paths:
        peer.session.watches.add(WatchTable.EXIST, path, peer.fired.append)
    peer.session.last_zxid = 123
    peer.lose()
    peer.attach()
    packets = peer.requests()
    assert len(packets) > 2
    assert all(isinstance(packet, SetWatches2) and packet.relative_zxid == 123 for packet in packets)
    assert [path for packet in packets if isinstance(packet, SetWatches2) for path in packet.exist] == paths
    for packet in packets:
        out = bytearray()
        packet.write(out)
        assert len(out) < 128 * 1024 + 100


def test_the_zxid_of_the_watches_is_frozen_before_the_new_connection_answers_anything() -> None:
    peer = Peer()
    peer.attach()
    peer.session.watches.add(WatchTable.DATA, "/a", peer.fired.append)
    peer.session.last_zxid = 5
    peer.lose()
    peer.connect()
    response = ConnectResponse(9000, SESSION_ID, PASSWORD).encode()
    peer.receive(response + encode_reply(-2, 999, 0, OK))
    assert peer.requests() == [SetWatches2(5, ("/a",), (), (), (), ())]


def test_events_of_the_catch_up_come_before_the_replies_to_waiting_requests() -> None:
    peer = Peer()
    peer.attach()
    peer.session.watches.add(WatchTable.DATA, "/a", peer.fired.append)
    peer.lose()
    read = peer.read()
    peer.attach()
    (_, (xid, _)) = peer.sent()
    peer.log.clear()
    peer.event(EventType.DATA_CHANGED, "/a")
    peer.reply(-8, OK)
    peer.reply(xid, DataReply(b"", STAT))
    assert [line.split(":")[0] for line in peer.log] == ["DATA_CHANGED /a", "SetWatches2", "GetData"]
    assert read.is_done


@pytest.mark.parametrize("error", [-5, -6, -127])
def test_a_connection_whose_watches_were_refused_is_dropped(error: int) -> None:
    # The session would be deaf otherwise, without a sign of it.
    peer = Peer()
    peer.attach()
    peer.session.watches.add(WatchTable.PERSISTENT, "/a", peer.fired.append)
    peer.lose()
    peer.attach()
    peer.sent()
    peer.reply(-8, error=error)
    assert peer.drops == [f"the server refused the SetWatches2 that begins a connection: {error}"]
    peer.lose()
    peer.attach()
    assert peer.requests() == [SetWatches2(1, (), (), (), ("/a",), ())]


def test_a_connection_was_of_use_when_more_than_its_preface_was_answered() -> None:
    peer = Peer(credentials=CREDENTIALS[:1])
    for answer_with in ("reply", "error", "pong"):
        of_use: list[bool] = []
        peer.attach()
        of_use.append(peer.session.was_answered)
        peer.sent()
        peer.reply(-4, OK)
        of_use.append(peer.session.was_answered)
        if answer_with == "pong":
            peer.now += 3
            assert peer.ping()
            peer.pong()
        else:
            peer.read()
            ((xid, _),) = peer.sent()
            peer.reply(xid, DataReply(b"", STAT), error=-101 if answer_with == "error" else 0)
        of_use.append(peer.session.was_answered)
        peer.lose()
        assert of_use == [False, False, True]


def test_only_watches_that_were_answered_are_armed_again() -> None:
    peer = Peer()
    peer.attach()
    peer.watch(AddWatch("/answered", 0), WatchTable.PERSISTENT, "/answered")
    peer.watch(Exists("/failed", watch=True), WatchTable.DATA, "/failed")
    (first, _), (second, _) = peer.sent()
    peer.reply(first, NumberReply(0))
    peer.reply(second, error=-101)
    peer.call(Exists("/lost", watch=True))
    peer.sent()
    peer.lose()
    peer.attach()
    assert peer.requests() == [SetWatches2(1, (), (), (), ("/answered",), ())]


def test_an_exists_watch_stands_in_the_exist_list_only_while_the_znode_is_missing() -> None:
    peer = Peer()
    peer.attach()
    peer.watch(Exists("/there", watch=True), WatchTable.EXIST, "/there")
    peer.watch(Exists("/missing", watch=True), WatchTable.EXIST, "/missing")
    (there, _), (missing, _) = peer.sent()
    peer.reply(there, StatReply(STAT))
    peer.reply(missing, error=-101)
    peer.lose()
    peer.attach()
    assert peer.requests() == [SetWatches2(1, ("/there",), ("/missing",), (), (), ())]
