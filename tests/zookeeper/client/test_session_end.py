"""Watches on their way, and the ends that a session can have."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.watches import WatchTable
from herdmaster.zookeeper.model import EventType, SessionState
from herdmaster.zookeeper.wire.records import (
    AddWatch,
    DataReply,
    GetData,
    NumberReply,
    PathReply,
    Sync,
)
from tests.zookeeper.client.peer import OK, STAT, Peer

DATA = DataReply(b"data", STAT)


def attached(*, chroot: str = "") -> Peer:
    peer = Peer(chroot=chroot)
    peer.attach()
    return peer


# --- watches on their way -------------------------------------------------------------------------------


def test_a_cancelled_call_arms_nothing() -> None:
    peer = attached()
    call = peer.watch(GetData("/a", watch=True), WatchTable.DATA, "/a")
    peer.sent()
    call.is_cancelled = True
    peer.reply(1, DATA)
    assert not peer.session.watches.holds("/a")


def test_a_watch_is_taken_off_while_it_is_on_its_way() -> None:
    peer = attached()
    call = peer.watch(AddWatch("/a", 0), WatchTable.PERSISTENT, "/a")
    assert call.pending.arm is not None
    arm = call.pending.arm
    peer.sent()
    assert peer.session.disarm(arm), "the server must forget it, too"
    peer.reply(1, NumberReply(0))
    assert call.reply == NumberReply(0)
    assert not peer.session.watches.holds("/a")
    assert not peer.session.disarm(arm)


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_watch_is_left_on_the_server_while_another_watcher_watches_the_path(is_answered: bool) -> None:
    peer = attached()
    mine = peer.watch(AddWatch("/a", 0), WatchTable.PERSISTENT, "/a").pending.arm
    assert mine is not None
    peer.sent()
    peer.reply(1, NumberReply(0))
    peer.watch(GetData("/a", watch=True), WatchTable.DATA, "/a")
    peer.sent()
    if is_answered:
        peer.reply(2, DATA)
    assert not peer.session.disarm(mine)
    assert peer.session.watches.fire(EventType.CHILDREN_CHANGED, "/a") == []


# --- the end --------------------------------------------------------------------------------------------


def close(peer: Peer) -> list[object]:
    answers: list[object] = []
    peer.handle(peer.session.close(lambda _reply, error: answers.append(error)))
    return answers


def test_closing_asks_the_server_and_ends_with_its_answer() -> None:
    peer = attached()
    before = peer.write("/before")
    answers = close(peer)
    after = peer.write("/after")
    assert [xid for xid, _ in peer.sent()] == [1, 2, 3]
    peer.reply(1, PathReply("/before"))
    assert answers == []
    peer.reply(2, OK)
    assert answers == [None]
    assert before.reply == PathReply("/before")
    assert isinstance(after.error, errors.ClientClosed)
    assert peer.states[-1] is SessionState.CLOSED
    with pytest.raises(errors.ClientClosed):
        peer.read()


def test_closing_before_the_first_connection_is_done_at_once() -> None:
    peer = Peer()
    call = peer.write()
    assert close(peer) == [None]
    assert isinstance(call.error, errors.ClientClosed)


def test_closing_while_disconnected_is_done_at_once() -> None:
    peer = attached()
    peer.lose()
    call = peer.read()
    assert close(peer) == [None]
    assert peer.states[-1] is SessionState.CLOSED
    assert not peer.session.is_gone
    assert isinstance(call.error, errors.ClientClosed)


def test_a_connection_lost_while_closing_is_the_end_as_well() -> None:
    peer = attached()
    write = peer.write()
    answers = close(peer)
    peer.sent()
    peer.lose()
    assert answers == [None]
    assert peer.states[-1] is SessionState.CLOSED
    assert isinstance(write.error, errors.ClientClosed)


def test_a_close_that_had_not_left_goes_out_on_the_next_connection() -> None:
    peer = attached()
    answers = close(peer)
    peer.lose()
    assert answers == []
    peer.attach()
    ((xid, _),) = peer.sent()
    peer.reply(xid, OK)
    assert answers == [None]


@pytest.mark.parametrize("state", [SessionState.EXPIRED, SessionState.CLOSED, SessionState.AUTH_FAILED])
def test_closing_again_after_the_end_changes_nothing(state: SessionState) -> None:
    peer = attached()
    if state is SessionState.CLOSED:
        close(peer)
        peer.sent()
        peer.reply(1, OK)
    else:
        peer.write()
        peer.sent()
        peer.reply(1, error=-115 if state is SessionState.AUTH_FAILED else -112)
    assert peer.states[-1] is state
    assert peer.session.is_gone is (state is not SessionState.AUTH_FAILED)
    assert close(peer) == [None]
    assert peer.states[-1] is state


def test_closing_twice_answers_both() -> None:
    peer = attached()
    first, second = close(peer), close(peer)
    ((xid, _), _) = peer.sent()
    peer.reply(xid, OK)
    assert (first, second) == ([None], [None])


def test_expiry_while_closing_is_the_end_as_well() -> None:
    peer = attached()
    answers = close(peer)
    peer.lose()
    peer.wait(12)
    assert answers == [None]
    assert peer.states[-1] is SessionState.EXPIRED
    assert not peer.session.is_gone, "only a server can say that"


def test_abandoning_tells_the_server_nothing() -> None:
    peer = attached()
    call = peer.call(Sync("/"))
    peer.handle(peer.session.abandon())
    assert peer.sent() == []
    assert isinstance(call.error, errors.ClientClosed)
    assert peer.session.abandon() == []
