"""Pings, silence, the deadline and expiry: T is 9 s."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.requests import DropConnection
from herdmaster.zookeeper.client.watches import WatchTable
from herdmaster.zookeeper.model import EventType, SessionState
from herdmaster.zookeeper.wire.framing import ConnectResponse, encode_reply
from herdmaster.zookeeper.wire.records import DataReply
from tests.zookeeper.client.peer import OK, PASSWORD, SESSION_ID, STAT, TIMEOUT, Peer

DATA = DataReply(b"", STAT)


def attached() -> Peer:
    peer = Peer()
    peer.attach()
    return peer


# --- pings ----------------------------------------------------------------------------------------------


def test_a_ping_is_sent_after_a_third_of_the_timeout_without_a_request() -> None:
    peer = attached()
    assert peer.session.next_tick() == peer.now + TIMEOUT / 3
    peer.wait(TIMEOUT / 3 - 0.01)
    assert not peer.ping()
    peer.wait(0.01)
    assert peer.ping()


def test_a_request_counts_as_a_heartbeat() -> None:
    peer = attached()
    peer.now += 2
    peer.read()
    ((xid, _),) = peer.sent()
    peer.reply(xid, DATA)
    assert peer.session.next_tick() == peer.now + 3
    peer.now += 2
    assert not peer.ping()
    peer.now += 1
    assert peer.ping()


def test_one_ping_is_under_way_at_a_time() -> None:
    peer = attached()
    peer.now += 3
    assert peer.ping()
    peer.now += 2.9
    assert not peer.ping()
    peer.pong()
    assert not peer.ping()
    peer.now += 0.1
    assert peer.ping()


def test_no_ping_goes_out_before_the_handshake_is_done() -> None:
    peer = Peer()
    peer.connect()
    peer.now += 3
    assert not peer.ping()


def test_a_ping_of_an_old_connection_does_not_hold_up_the_next() -> None:
    peer = attached()
    peer.now += 3
    assert peer.ping()
    peer.lose()
    peer.attach()
    peer.now += 3
    assert peer.ping()


def test_a_pong_that_was_not_asked_for_is_ignored() -> None:
    peer = attached()
    deadline = peer.session.deadline
    peer.now += 1
    assert peer.pong() == []
    assert peer.session.deadline == deadline


# --- silence --------------------------------------------------------------------------------------------


def test_a_silent_server_is_dropped_after_two_thirds_of_the_timeout() -> None:
    peer = attached()
    peer.now += 3
    assert peer.ping()
    assert peer.session.next_tick() == peer.now + 3
    assert peer.wait(2.99) == []
    assert peer.wait(0.01) == [DropConnection("the server answered nothing for 6.0 s")]
    assert peer.states == [SessionState.CONNECTED], "the connection is at an end, the session is not"


def test_the_shell_may_be_slow_to_close_a_dropped_connection() -> None:
    peer = attached()
    peer.wait(6)
    peer.wait(1)
    assert len(peer.drops) == 2
    peer.lose()
    assert peer.states[-1] is SessionState.DISCONNECTED


def test_events_alone_do_not_hide_that_a_ping_is_not_answered() -> None:
    peer = attached()
    peer.now += 3
    assert peer.ping()
    for _ in range(8):
        peer.event(EventType.CREATED, "/somewhere")
        assert peer.wait(1) == []
    peer.event(EventType.CREATED, "/somewhere")
    assert peer.session.next_tick() == peer.now + 1
    assert peer.wait(1) == [DropConnection("the server answered nothing for 12.0 s")]


def test_events_alone_do_not_hide_that_a_request_is_not_answered() -> None:
    peer = attached()
    peer.now += 1
    peer.write()
    peer.sent()
    for _ in range(8):
        peer.event(EventType.CREATED, "/somewhere")
        assert peer.wait(1) == []
    assert peer.wait(1) == [DropConnection("the server answered nothing for 10.0 s")]


def test_a_long_queue_that_is_being_answered_is_no_silence() -> None:
    peer = attached()
    for _ in range(30):
        peer.read()
    queue = [xid for xid, _ in peer.sent()]
    for xid in queue:
        assert peer.wait(1) == []
        peer.reply(xid, DATA)
    assert peer.drops == []


def test_part_of_a_long_reply_is_a_sign_of_life_but_not_for_ever() -> None:
    peer = attached()
    peer.read()
    ((xid, _),) = peer.sent()
    reply = encode_reply(xid, 1, 0, DataReply(bytes(100), STAT))
    for start in (0, 20):
        assert peer.wait(4) == []
        peer.receive(reply[start : start + 20])
    assert peer.wait(0.9) == []
    assert peer.wait(0.1) == [DropConnection("the server answered nothing for 9.0 s")]


# --- the deadline ---------------------------------------------------------------------------------------


def test_the_session_certainly_lives_for_the_timeout_after_the_handshake_was_sent() -> None:
    peer = Peer()
    peer.connect()
    sent_at = peer.now
    peer.now += 1.5
    peer.accept()
    assert peer.session.deadline == sent_at + TIMEOUT


def test_the_deadline_counts_from_when_the_newest_answered_request_was_sent() -> None:
    peer = attached()
    peer.now += 1
    first_sent = peer.now
    peer.read()
    ((first, _),) = peer.sent()
    peer.now += 1
    second_sent = peer.now
    peer.read()
    ((second, _),) = peer.sent()
    peer.now += 1
    assert peer.session.deadline == 100 + TIMEOUT
    peer.reply(first, DATA)
    assert peer.session.deadline == first_sent + TIMEOUT
    peer.reply(second, error=-101)
    assert peer.session.deadline == second_sent + TIMEOUT, "an error is an answer"


def test_a_pong_moves_the_deadline_to_its_ping() -> None:
    peer = attached()
    peer.now += 3
    assert peer.ping()
    peer.now += 2
    peer.pong()
    assert peer.session.deadline == 103 + TIMEOUT


def test_an_event_does_not_move_the_deadline() -> None:
    peer = attached()
    peer.now += 3
    peer.event(EventType.CREATED, "/a")
    assert peer.session.deadline == 100 + TIMEOUT


def test_the_deadline_stays_while_the_connection_is_away_and_moves_with_the_next_handshake() -> None:
    peer = attached()
    peer.now += 2
    peer.lose()
    assert peer.session.deadline == 100 + TIMEOUT
    peer.now += 1
    peer.connect()
    sent_at = peer.now
    peer.now += 1
    peer.accept(timeout=5)
    assert peer.session.deadline == sent_at + 5


# --- expiry ---------------------------------------------------------------------------------------------


def test_a_client_that_reaches_no_server_ends_the_session_after_four_thirds_of_the_timeout() -> None:
    peer = attached()
    peer.lose()
    read, write = peer.read(), peer.write()
    assert peer.session.next_tick() == 100 + 12
    assert peer.wait(11.99) == []
    peer.wait(0.01)
    assert peer.states == [SessionState.CONNECTED, SessionState.DISCONNECTED, SessionState.EXPIRED]
    for call in (read, write):
        assert isinstance(call.error, errors.SessionExpired)
    with pytest.raises(errors.SessionExpired):
        peer.read()
    assert peer.session.next_tick() is None


def test_expiry_is_judged_during_a_connection_attempt_too() -> None:
    peer = attached()
    peer.lose()
    peer.now += 11
    peer.connect()
    assert peer.session.next_tick() == 112
    peer.wait(1)
    assert peer.states[-1] is SessionState.EXPIRED


def test_expiry_is_judged_when_the_connection_is_lost() -> None:
    peer = attached()
    peer.now += 12
    peer.lose()
    assert peer.states[-1] is SessionState.EXPIRED


def test_a_session_that_was_never_granted_does_not_expire() -> None:
    peer = Peer()
    call = peer.write()
    for _ in range(10):
        peer.connect()
        peer.wait(5)
        peer.lose()
    assert peer.states == []
    assert not call.is_done


@pytest.mark.parametrize("is_attached", [True, False])
def test_after_a_stall_the_session_is_judged_before_what_arrived_meanwhile(is_attached: bool) -> None:
    peer = attached()
    peer.session.watches.add(WatchTable.PERSISTENT, "/a", peer.fired.append)
    write = peer.write()
    peer.sent()
    if not is_attached:
        peer.lose()
        peer.connect()
    peer.now += TIMEOUT * 4 / 3
    if is_attached:
        peer.event(EventType.CREATED, "/a")
    else:
        peer.receive(ConnectResponse(9000, SESSION_ID, PASSWORD).encode())
    assert peer.states[-1] is SessionState.EXPIRED
    assert peer.fired == []
    assert write.error is not None


def test_after_a_shorter_stall_what_arrived_meanwhile_counts() -> None:
    peer = attached()
    peer.now += 3
    assert peer.ping()
    peer.now += 8.5
    peer.pong()
    assert peer.tick() == []
    assert peer.states == [SessionState.CONNECTED]


def test_the_granted_timeout_decides_not_the_one_asked_for() -> None:
    peer = Peer()
    peer.connect()
    peer.accept(timeout=3.0)
    assert peer.session.next_tick() == peer.now + 1
    peer.lose()
    peer.wait(4)
    assert peer.states[-1] is SessionState.EXPIRED


def test_the_server_may_say_that_the_session_is_over() -> None:
    peer = attached()
    first, second = peer.write(), peer.read()
    ((xid, _), _) = peer.sent()
    peer.reply(xid, error=-112)
    assert peer.states[-1] is SessionState.EXPIRED
    assert isinstance(first.error, errors.SessionExpired)
    assert isinstance(second.error, errors.SessionExpired)
    assert len(peer.drops) == 1


def test_nothing_is_believed_after_the_end() -> None:
    peer = attached()
    peer.session.watches.add(WatchTable.PERSISTENT, "/a", peer.fired.append)
    peer.lose()
    peer.wait(12)
    assert peer.event(EventType.CREATED, "/a") == []
    assert peer.tick() == []
    assert peer.lose() == []
    assert peer.reply(1, OK) == []
