"""What becomes of requests when a connection is lost, or brings garbage."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.model import SessionState
from herdmaster.zookeeper.wire.framing import encode_reply
from herdmaster.zookeeper.wire.records import (
    DataReply,
    GetChildren,
    PathReply,
)
from tests.zookeeper.client.peer import OK, STAT, Peer

DATA = DataReply(b"data", STAT)


def attached(*, chroot: str = "") -> Peer:
    peer = Peer(chroot=chroot)
    peer.attach()
    return peer


# --- the loss of a connection ---------------------------------------------------------------------------


def test_the_loss_is_told_before_its_consequences() -> None:
    peer = attached()
    peer.write()
    peer.sent()
    peer.lose()
    assert peer.log[-2] == "disconnected"
    assert peer.log[-1].startswith("Create: ")


def test_what_had_not_left_goes_out_on_the_next_connection() -> None:
    peer = attached()
    call = peer.write()
    peer.lose()
    assert not call.is_done
    peer.attach()
    assert peer.requests() == [call.pending.request]


def test_a_write_that_had_left_may_be_applied_and_says_so() -> None:
    peer = attached()
    call = peer.write()
    peer.sent()
    peer.lose()
    assert isinstance(call.error, errors.ConnectionLoss)
    assert str(call.error) == "the connection was lost after a Create had been sent: it may be applied"
    peer.attach()
    assert peer.requests() == []


def test_reads_that_had_left_are_asked_again_in_their_old_order() -> None:
    peer = attached()
    reads = [peer.read(f"/{number}") for number in range(3)]
    peer.sent()
    peer.reply(1, DATA)
    later = peer.read("/later")
    peer.lose()
    peer.attach()
    assert peer.requests() == [reads[1].pending.request, reads[2].pending.request, later.pending.request]
    peer.reply(4, DATA)
    assert reads[1].reply == DATA


def test_a_cancelled_request_is_not_asked_again() -> None:
    peer = attached()
    left, waiting = peer.read("/left"), peer.write("/waiting")
    left.is_cancelled = True
    peer.sent()
    late = peer.read("/late")
    late.is_cancelled = True
    peer.lose()
    peer.attach()
    assert peer.requests() == []
    assert isinstance(waiting.error, errors.ConnectionLoss)
    assert peer.session.unsent == 0


def test_a_connection_may_be_lost_before_its_handshake() -> None:
    peer = Peer()
    call = peer.write()
    for _ in range(3):
        peer.connect()
        assert peer.lose() == []
    peer.attach()
    assert peer.requests() == [call.pending.request]


# --- garbage --------------------------------------------------------------------------------------------


def test_a_read_whose_reply_is_garbage_fails_and_is_not_asked_again() -> None:
    peer = attached()
    poisoned, other = peer.call(GetChildren("/a", watch=False), retry=True), peer.read("/b")
    peer.sent()
    peer.receive(b"\0\0\0\x14" + encode_reply(1, 1, 0, None)[4:] + b"\x7f\xff\xff\xff")
    assert isinstance(poisoned.error, errors.WireError)
    assert len(peer.drops) == 1
    assert "not the protocol" in peer.drops[0]
    assert not other.is_done
    peer.lose()
    peer.attach()
    assert peer.requests() == [other.pending.request]


def test_a_write_whose_reply_is_garbage_may_be_applied() -> None:
    peer = attached()
    call = peer.write()
    peer.sent()
    peer.receive(encode_reply(1, 1, 0, OK))
    assert isinstance(call.error, errors.ConnectionLoss)
    assert len(peer.drops) == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        b"\0\0\0\0",
        b"\0\0\0\x04\0\0\0\1",
        encode_reply(99, 1, 0, OK),
        encode_reply(-8, 1, 0, OK),
        b"\0\0\0\x10" + b"\xff\xff\xff\xff" + bytes(12),
    ],
    ids=["negative", "too long", "empty", "no header", "unknown xid", "unknown preface", "event without body"],
)
def test_garbage_costs_the_connection_and_one_request(garbage: bytes) -> None:
    peer = attached()
    first, second = peer.read("/1"), peer.read("/2")
    peer.sent()
    peer.receive(garbage)
    assert len(peer.drops) == 1
    assert isinstance(first.error, errors.WireError)
    assert not second.is_done
    peer.lose()
    peer.attach()
    assert peer.requests() == [second.pending.request]


def test_replies_in_front_of_garbage_count() -> None:
    peer = attached()
    first, second = peer.write("/1"), peer.write("/2")
    peer.sent()
    peer.receive(encode_reply(1, 1, 0, PathReply("/1")) + b"\xff\xff\xff\xff")
    assert first.reply == PathReply("/1")
    assert isinstance(second.error, errors.ConnectionLoss)


def test_garbage_with_nothing_under_way_just_costs_the_connection() -> None:
    peer = attached()
    peer.receive(b"\xff\xff\xff\xff")
    assert len(peer.drops) == 1
    peer.lose()
    assert peer.states[-1] is SessionState.DISCONNECTED
