"""Requests: how they are sent, and what each answer means."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.requests import Pending
from herdmaster.zookeeper.model import EventType, SessionState
from herdmaster.zookeeper.secret import Secret
from herdmaster.zookeeper.wire.framing import MAX_FRAME, encode_reply
from herdmaster.zookeeper.wire.opcodes import MAX_XID
from herdmaster.zookeeper.wire.records import (
    Auth,
    DataReply,
    PathReply,
    SetData,
)
from tests.zookeeper.client.peer import OK, STAT, Peer

DATA = DataReply(b"data", STAT)


def attached(*, chroot: str = "") -> Peer:
    peer = Peer(chroot=chroot)
    peer.attach()
    return peer


# --- out ------------------------------------------------------------------------------------------------


def test_all_that_waits_leaves_in_one_piece_in_order() -> None:
    peer = attached()
    calls = [peer.write(f"/{number}") for number in range(5)]
    assert peer.sent() == [(number, call.pending.request) for number, call in enumerate(calls, 1)]
    assert peer.sent() == []


def test_a_cancelled_request_that_has_not_left_is_not_sent() -> None:
    peer = attached()
    first, second = peer.write("/1"), peer.write("/2")
    first.is_cancelled = True
    assert peer.sent() == [(1, second.pending.request)]
    peer.reply(1, PathReply("/2"))
    assert second.reply == PathReply("/2")
    assert not first.is_done


def test_nothing_leaves_while_the_socket_takes_no_more() -> None:
    peer = attached()
    peer.session.paused = True
    call = peer.write()
    assert peer.sent() == []
    peer.session.paused = False
    assert peer.requests() == [call.pending.request]


def test_the_xid_wraps_to_1() -> None:
    peer = attached()
    peer.session._last_xid = MAX_XID - 1
    calls = [peer.read() for _ in range(3)]
    assert [xid for xid, _ in peer.sent()] == [MAX_XID, 1, 2]
    for xid in (MAX_XID, 1, 2):
        peer.reply(xid, DATA)
    assert [call.reply for call in calls] == [DATA] * 3


def test_a_request_as_large_as_a_frame_may_be_is_sent() -> None:
    size = MAX_FRAME - 8 - len("/a") - 4 - 4 - 4
    assert len(Pending(SetData("/a", bytes(size), -1), lambda *_: None).frame) == 4 + MAX_FRAME
    with pytest.raises(errors.RequestTooLarge, match="1048576 bytes: the limit of a frame is 1048575"):
        Pending(SetData("/a", bytes(size + 1), -1), lambda *_: None)


def test_a_number_that_the_wire_cannot_carry_is_refused() -> None:
    with pytest.raises(ValueError, match="a number of this SetData does not fit"):
        Pending(SetData("/a", b"", 2**31), lambda *_: None)


# --- answers --------------------------------------------------------------------------------------------


def test_replies_come_to_their_callers_in_order() -> None:
    peer = attached()
    calls = [peer.read(f"/{number}") for number in range(3)]
    peer.sent()
    replies = [DataReply(str(number).encode(), STAT) for number in range(3)]
    peer.receive(b"".join(encode_reply(xid, 1, 0, reply) for xid, reply in enumerate(replies, 1)))
    assert [call.reply for call in calls] == replies


@pytest.mark.parametrize("kind", errors.ServerError.by_code.values())
def test_an_error_code_is_an_error_of_its_own_class(kind: type[errors.ServerError]) -> None:
    if kind in (errors.ThrottledOp, errors.SaslRequired):
        return  # asked again, and the end of the session: see below
    peer = attached()
    call = peer.write("/a")
    peer.sent()
    peer.reply(1, error=kind.code)
    assert type(call.error) is kind
    assert isinstance(call.error, errors.ServerError)
    assert call.error.path == "/a"


@pytest.mark.parametrize("code", [-9999, -118, -122, 5, 2**31 - 1])
def test_a_code_without_a_name_is_an_error_with_its_number(code: int) -> None:
    peer = attached()
    call = peer.write("/a")
    peer.sent()
    peer.reply(1, error=code)
    assert isinstance(call.error, errors.UnknownServerError)
    assert call.error.number == code
    assert peer.drops == []


def test_an_error_names_the_path_without_the_chroot() -> None:
    peer = attached(chroot="/app")
    call = peer.read("/app/a")
    peer.sent()
    peer.reply(1, error=-101)
    assert isinstance(call.error, errors.NoNode)
    assert call.error.path == "/a"


def test_a_body_behind_an_error_is_ignored() -> None:
    peer = attached()
    call = peer.read()
    peer.sent()
    body = encode_reply(1, 1, -5, None)[4:] + b"\xff" * 9
    peer.receive(len(body).to_bytes(4) + body)
    assert isinstance(call.error, errors.MarshallingError)
    assert peer.drops == []


def test_a_throttled_request_is_asked_again() -> None:
    peer = attached()
    throttled, other = peer.write("/1"), peer.write("/2")
    peer.sent()
    peer.reply(1, error=-127)
    peer.reply(2, PathReply("/2"))
    assert not throttled.is_done
    assert other.is_done
    assert peer.sent() == [(3, throttled.pending.request)]
    peer.reply(3, PathReply("/1"))
    assert throttled.reply == PathReply("/1")


def test_a_throttled_request_that_waits_survives_a_reconnect() -> None:
    peer = attached()
    call = peer.write()
    peer.sent()
    peer.reply(1, error=-127)
    peer.lose()
    assert not call.is_done
    peer.attach()
    assert peer.requests() == [call.pending.request]


def test_only_replies_move_the_newest_zxid() -> None:
    peer = attached()
    peer.read()
    peer.sent()
    peer.reply(1, DATA, zxid=50)
    peer.event(EventType.CREATED, "/a", zxid=999)  # since 3.9 an event has its change's zxid
    peer.lose()
    assert peer.connect().last_zxid_seen == 50


@pytest.mark.parametrize("zxid", [-1, 0, 3])
def test_a_zxid_that_is_older_is_not_taken(zxid: int) -> None:
    peer = attached()
    peer.read()
    peer.read()
    peer.sent()
    peer.reply(1, DATA, zxid=50)
    peer.reply(2, error=-6, zxid=zxid)
    assert peer.session.last_zxid == 50


def test_a_pong_does_not_move_the_newest_zxid() -> None:
    peer = attached()
    peer.now += 3
    assert peer.ping()
    peer.pong(zxid=99)
    assert peer.session.last_zxid == 0


# --- authentication -------------------------------------------------------------------------------------


def test_a_refused_credential_of_the_preface_ends_the_session() -> None:
    peer = Peer(credentials=(("nonsense", b""),))
    peer.attach()
    call = peer.write()
    peer.sent()
    peer.reply(-4, error=-115)
    assert peer.states[-1] is SessionState.AUTH_FAILED
    assert isinstance(call.error, errors.AuthenticationFailed)
    with pytest.raises(errors.AuthenticationFailed):
        peer.read()


def test_a_credential_may_be_added_and_is_shown_on_every_later_connection() -> None:
    peer = attached()
    answers: list[object] = []
    peer.session.add_credential("digest", Secret(b"al:pw"), lambda reply, error: answers.append(error or reply))
    assert peer.sent() == [(1, Auth(0, "digest", b"al:pw"))]
    peer.reply(1, OK)
    assert answers == [OK]
    peer.lose()
    peer.attach()
    assert peer.sent() == [(-4, Auth(0, "digest", b"al:pw"))]


def test_a_credential_whose_answer_was_lost_is_shown_again_and_answered() -> None:
    peer = attached()
    answers: list[object] = []
    peer.session.add_credential("digest", Secret(b"al:pw"), lambda reply, error: answers.append(error or reply))
    peer.sent()
    peer.lose()
    peer.attach()
    assert peer.sent() == [(-4, Auth(0, "digest", b"al:pw")), (2, Auth(0, "digest", b"al:pw"))]
    peer.reply(-4, OK)
    peer.reply(2, OK)
    assert answers == [OK]


def test_an_added_credential_that_is_refused_ends_the_session() -> None:
    peer = attached()
    answers: list[object] = []
    peer.session.add_credential("nonsense", Secret(b""), lambda reply, error: answers.append(error or reply))
    other = peer.read()
    peer.sent()
    peer.reply(1, error=-115)
    assert isinstance(answers[0], errors.AuthenticationFailed)
    assert isinstance(other.error, errors.AuthenticationFailed)
    assert peer.states[-1] is SessionState.AUTH_FAILED
