"""The session core under random calls, losses, answers, garbage and stalls: each caller gets one true answer."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.watches import WatchTable
from herdmaster.zookeeper.model import OPEN_ACL, EventType, SessionState
from herdmaster.zookeeper.wire.framing import Framer, decode_request, decode_request_header
from herdmaster.zookeeper.wire.records import (
    Auth,
    CloseSession,
    Create,
    DataReply,
    GetData,
    PathReply,
    Record,
    Request,
    SetWatches2,
)
from tests.zookeeper.client.peer import OK, SESSION_ID, STAT, Call, Peer

FINAL = {SessionState.EXPIRED, SessionState.CLOSED, SessionState.AUTH_FAILED}
NAMES = st.sampled_from("abcd")


class SessionMachine(RuleBasedStateMachine):
    """A server that applies what reaches it, on a network that loses connections."""

    def __init__(self) -> None:
        super().__init__()
        self.peer = Peer(credentials=(("digest", b"al:pw"),))
        self.calls: list[Call] = []
        self.link: str = "none"  # or "handshake", or "attached"
        self.received: list[tuple[int, Request[Record]]] = []  # by the server, not answered yet
        self.deliveries: dict[str, int] = {}  # of each write
        self.throttled: dict[str, int] = {}
        self.zxid = 10

    @property
    def is_over(self) -> bool:
        return self.peer.session.state in FINAL

    # --- the caller -------------------------------------------------------------------------------------

    @precondition(lambda self: not self.is_over)
    @rule()
    def write(self) -> None:
        path = f"/write-{len(self.calls)}"
        self.calls.append(self.peer.call(Create(path, b"", OPEN_ACL, 0)))

    @precondition(lambda self: not self.is_over)
    @rule(name=NAMES, is_watched=st.booleans())
    def read(self, name: str, is_watched: bool) -> None:
        request = GetData(f"/{name}", is_watched)
        if is_watched:
            self.calls.append(self.peer.watch(request, WatchTable.DATA, f"/{name}"))
        else:
            self.calls.append(self.peer.call(request, retry=True))

    @precondition(lambda self: any(not call.is_done for call in self.calls))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from([call for call in self.calls if not call.is_done]))
        call.is_cancelled = True

    @rule(is_paused=st.booleans())
    def pause(self, is_paused: bool) -> None:
        self.peer.session.paused = is_paused

    @precondition(lambda self: not self.is_over and self.link == "attached" and len(self.calls) > 5)
    @rule()
    def close(self) -> None:
        self.peer.handle(self.peer.session.close(lambda _reply, _error: None))

    # --- the network ------------------------------------------------------------------------------------

    @precondition(lambda self: self.link == "none" and not self.is_over)
    @rule()
    def connect(self) -> None:
        self.peer.connect()
        self.peer.session.paused = False
        self.link = "handshake"

    @precondition(lambda self: self.link == "handshake")
    @rule()
    def accept(self) -> None:
        self.peer.accept()
        self.link = "attached"

    @precondition(lambda self: self.link != "none")
    @rule()
    def lose(self) -> None:
        self.link = "none"
        self.received.clear()
        self.peer.lose()

    @precondition(lambda self: self.link != "none")
    @rule(garbage=st.binary(min_size=4, max_size=40))
    def receive_garbage(self, garbage: bytes) -> None:
        count = len(self.peer.drops)
        self.peer.receive(b"\xff" + garbage)
        assert self.is_over or len(self.peer.drops) > count
        self.lose()

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.0, 3.5]))
    def wait(self, seconds: float) -> None:
        self.peer.ping()
        count = len(self.peer.drops)
        self.peer.wait(seconds)
        if len(self.peer.drops) > count and self.link != "none":
            self.lose()

    # --- the server -------------------------------------------------------------------------------------

    @precondition(lambda self: self.link == "attached")
    @rule()
    def take(self) -> None:
        first = len(self.received)
        framer = Framer(0xFFFFF)
        for body in framer.feed(self.peer.session.take_output(self.peer.now)):
            request = decode_request(body)
            assert request is not None
            self.received.append((decode_request_header(body).xid, request))
            if isinstance(request, Create):
                self.deliveries[request.path] = self.deliveries.get(request.path, 0) + 1
        kinds = [type(request) for _, request in self.received[first:]]
        own = [kind for kind in kinds if kind in (Auth, SetWatches2)]
        assert kinds[: len(own)] == own, "the preface comes first"
        assert own in ([], [Auth], [Auth, SetWatches2])

    @precondition(lambda self: self.received)
    @rule(error=st.sampled_from([0, 0, 0, -101, -127, -9999]))
    def answer(self, error: int) -> None:
        xid, request = self.received.pop(0)
        self.zxid += 1
        if xid < 0 or isinstance(request, CloseSession):
            self.peer.reply(xid, OK, zxid=self.zxid)
            return
        if error == -127 and isinstance(request, Create):
            self.deliveries[request.path] -= 1  # it was not executed
        reply = DataReply(b"", STAT) if isinstance(request, GetData) else PathReply("/")
        self.peer.reply(xid, reply, error=error, zxid=self.zxid)

    @precondition(lambda self: self.link == "attached")
    @rule(name=NAMES, kind=st.sampled_from(EventType))
    def fire(self, name: str, kind: EventType) -> None:
        self.peer.event(kind, f"/{name}", zxid=self.zxid + 1000)

    @precondition(lambda self: self.link == "none" and self.peer.session.client_id is not None and not self.is_over)
    @rule(session_id=st.sampled_from([0, SESSION_ID + 1]))
    def expire(self, session_id: int) -> None:
        self.connect()
        self.peer.accept(session_id=session_id)
        assert self.is_over
        self.link = "none"

    # --- what always holds ------------------------------------------------------------------------------

    @invariant()
    def every_call_has_one_answer_when_the_session_is_over(self) -> None:
        for call in self.calls:
            assert call.is_done or call.is_cancelled or not self.is_over

    @invariant()
    def a_write_is_delivered_once_and_loss_is_said_only_of_what_had_left(self) -> None:
        assert all(count <= 1 for count in self.deliveries.values())
        for call in self.calls:
            if call.is_done and isinstance(call.error, errors.ConnectionLoss):
                assert isinstance(call.pending.request, Create)
                assert call.pending.xid > 0

    @invariant()
    def the_newest_zxid_is_one_of_a_reply(self) -> None:
        assert self.peer.session.last_zxid <= self.zxid

    @invariant()
    def there_is_always_a_next_tick_while_there_is_something_to_wait_for(self) -> None:
        when = self.peer.session.next_tick()
        if self.is_over:
            assert when is None
            assert self.peer.session.take_output(self.peer.now) == b""
        elif self.peer.session.client_id is not None or self.link != "none":
            assert when is not None

    def teardown(self) -> None:
        self.peer.handle(self.peer.session.abandon())
        assert all(call.is_done or call.is_cancelled for call in self.calls)


SessionMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
test_random_histories = pytest.mark.long(SessionMachine.TestCase)
