"""SASL in the session core: nothing else leaves before it has ended, and what each way to end it leads to."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.requests import Accepted, Pending
from herdmaster.zookeeper.client.watches import WatchTable
from herdmaster.zookeeper.model import SessionState
from herdmaster.zookeeper.wire.records import Auth, GetData, Sasl, SaslReply, SetWatches2
from tests.zookeeper.client.peer import CONNECT_TIMEOUT, OK, TIMEOUT, Peer

MECHANISM = "DIGEST-MD5"


class Conversation:
    """The answers to the tokens that the client sends."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.answers: list[object] = []

    def send(self, token: bytes) -> None:
        request = Pending.for_preface(Sasl(token), -4)
        request.done = lambda reply, error: self.answers.append(error or reply)
        self._peer.session.tokens.append(request)


def accepted(credentials: tuple[tuple[str, bytes], ...] = ()) -> tuple[Peer, Conversation]:
    """A peer whose handshake is done and whose SASL is not."""
    peer = Peer(mechanism=MECHANISM, credentials=credentials)
    peer.connect()
    assert peer.accept() == [Accepted()]
    return peer, Conversation(peer)


def test_only_tokens_leave_until_sasl_has_ended_then_credentials_and_requests() -> None:
    peer, conversation = accepted(credentials=(("digest", b"al:pw"),))
    call = peer.read()
    assert peer.sent() == []
    conversation.send(b"first")
    assert peer.sent() == [(-4, Sasl(b"first"))]
    peer.reply(-4, SaslReply(b"challenge"), zxid=0)
    assert conversation.answers == [SaslReply(b"challenge")]
    assert peer.states == []
    peer.handle(peer.session.establish())
    assert peer.states == [SessionState.CONNECTED]
    assert peer.sent() == [(-4, Auth(0, "digest", b"al:pw")), (1, call.pending.request)]


def test_after_a_reconnect_sasl_comes_before_the_watches() -> None:
    peer, _ = accepted()
    peer.handle(peer.session.establish())
    peer.session.watches.add(WatchTable.PERSISTENT, "/a", peer.fired.append)
    peer.lose()
    peer.connect()
    peer.accept()
    conversation = Conversation(peer)
    assert peer.sent() == []
    conversation.send(b"")
    assert peer.requests() == [Sasl(b"")]
    peer.reply(-4, SaslReply(b"x"), zxid=0)
    peer.handle(peer.session.establish())
    assert peer.requests() == [SetWatches2(0, (), (), (), ("/a",), ())]


@pytest.mark.parametrize("code", [-115, -124])
def test_a_refused_token_ends_the_session_with_one_clear_error(code: int) -> None:
    peer, conversation = accepted()
    call = peer.read()
    conversation.send(b"wrong")
    peer.sent()
    peer.reply(-4, error=code)
    assert peer.states == [SessionState.AUTH_FAILED]
    for error in (conversation.answers[0], call.error):
        assert isinstance(error, errors.AuthenticationFailed)
        assert "SASL DIGEST-MD5" in str(error)
    with pytest.raises(errors.AuthenticationFailed, match="SASL DIGEST-MD5"):
        peer.read()


@pytest.mark.parametrize("kind", ["request", "watches", "ping"])
def test_a_server_that_wants_another_scheme_ends_the_session(kind: str) -> None:
    peer = Peer(credentials=(("digest", b"al:pw"),))
    peer.session.watches.add(WatchTable.PERSISTENT, "/a", peer.fired.append)
    peer.attach()
    peer.read()
    xids = [xid for xid, _ in peer.sent()]
    peer.reply(xids[0], OK)
    if kind == "ping":
        peer.wait(TIMEOUT / 3)
        assert peer.ping()
        peer.reply(-2, error=-124, zxid=0)
    else:
        peer.reply(xids[1], error=-124, zxid=0)
    assert peer.states[-1] is SessionState.AUTH_FAILED
    with pytest.raises(errors.AuthenticationFailed, match=r"enforce\.auth\.schemes; this client has presented digest"):
        peer.read()


def test_a_connection_lost_during_sasl_takes_its_tokens_with_it() -> None:
    peer, conversation = accepted()
    call = peer.write()
    conversation.send(b"sent")
    peer.sent()
    conversation.send(b"unsent")
    peer.lose()
    assert conversation.answers == []
    peer.connect()
    peer.accept()
    assert peer.sent() == []
    peer.handle(peer.session.establish())
    assert peer.requests() == [call.pending.request]


def test_sasl_that_takes_too_long_costs_the_connection() -> None:
    peer, _ = accepted()
    peer.wait(CONNECT_TIMEOUT - 0.1)
    assert peer.drops == []
    peer.wait(0.2)
    assert peer.drops == ["the server did not answer the handshake in time"]


def test_no_ping_leaves_during_sasl() -> None:
    peer, _ = accepted()
    peer.now += TIMEOUT / 2
    assert not peer.ping()


@pytest.mark.parametrize("request_", [Sasl(b""), Auth(0, "digest", b"al:pw")], ids=["sasl", "auth"])
def test_an_answer_to_authentication_is_no_sign_that_the_session_lives_on(request_: Sasl | Auth) -> None:
    # The server counts neither as a sign of life, so the deadline must not move.
    peer, _ = accepted()
    deadline = peer.session.deadline
    peer.now += 1
    peer.session.tokens.append(Pending.for_preface(request_, -4))
    peer.sent()
    peer.reply(-4, request_.reply_type(*[b""] * isinstance(request_, Sasl)))
    assert peer.session.deadline == deadline
    peer.handle(peer.session.establish())
    peer.call(GetData("/a", False))
    ((xid, _),) = peer.sent()
    peer.reply(xid, error=-101)
    assert peer.session.deadline == deadline + 1


def test_a_session_that_is_closed_during_sasl_ends_at_once() -> None:
    peer, _ = accepted()
    answers: list[object] = []
    peer.handle(peer.session.close(lambda reply, error: answers.append((reply, error))))
    assert answers == [(None, None)]
    assert peer.states == [SessionState.CLOSED]
