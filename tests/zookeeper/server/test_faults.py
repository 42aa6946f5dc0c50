"""The seam for tests: what can be made to go wrong with one request."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from herdmaster.zookeeper.model import OPEN_ACL
from herdmaster.zookeeper.server.faults import Arrival, Delay, Drop, Refuse, Truncate
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.zookeeper.server.rig import Answer, Event, Peer, Rig


class Script:
    """Does the same to every request of one opcode."""

    def __init__(self, opcode: OpCode) -> None:
        self.opcode = opcode
        self.first: Drop | Refuse | None = None
        self.then: Drop | Delay | Truncate | None = None
        self.seen: list[Arrival] = []

    def before(self, arrival: Arrival) -> Drop | Refuse | None:
        self.seen.append(arrival)
        return self.first if arrival.opcode == self.opcode else None

    def after(self, arrival: Arrival) -> Drop | Delay | Truncate | None:
        return self.then if arrival.opcode == self.opcode else None


@pytest.fixture
def script() -> Script:
    return Script(OpCode.CREATE)


@pytest.fixture
def rig(script: Script) -> Rig:
    return Rig(faults=script)


CREATE = records.Create("/a", b"", OPEN_ACL, 0)


def exists(rig: Rig) -> bool:
    return rig.state.tree.find("/a") is not None


def test_an_arrival_tells_session_xid_opcode_and_request(rig: Rig, script: Script) -> None:
    client = rig.client()
    client.request(CREATE, xid=9)
    assert script.seen == [Arrival(client.session_id, 9, OpCode.CREATE, CREATE)]


def test_a_connection_dropped_before_applying_leaves_no_trace(rig: Rig, script: Script) -> None:
    client = rig.client()
    script.first = Drop()
    client.request(CREATE)
    assert client.is_closed
    assert client.inbox == []
    assert not exists(rig)
    assert rig.state.zxid == 1
    assert not rig.reattach(client).is_closed


def test_a_connection_dropped_after_applying_loses_only_the_answer(rig: Rig, script: Script) -> None:
    client = rig.client()
    client.error(records.Exists("/a", True))
    script.then = Drop()
    client.request(CREATE)
    assert client.is_closed
    assert client.inbox == []
    assert exists(rig)


def test_a_refused_request_is_answered_and_not_applied(rig: Rig, script: Script) -> None:
    client = rig.client()
    script.first = Refuse()
    assert client.error(CREATE) == -127
    assert not exists(rig)
    script.first = None
    assert client.error(CREATE) == 0


def test_a_delayed_answer_holds_back_what_follows_and_keeps_the_order(rig: Rig, script: Script) -> None:
    client, other = rig.client(), rig.client()
    client.error(records.Exists("/b", True))
    script.then = Delay(500)
    client.request(CREATE, xid=50)
    script.then = None
    client.request(records.Sync("/"), xid=51)
    other.create("/b")
    rig.advance(500)  # of a clock in whole milliseconds: perhaps 499.1 of them
    assert client.inbox == []
    assert rig.machine.next_due() == rig.now.monotonic + 1
    rig.advance(1)
    assert [item if isinstance(item, Event) else getattr(item, "xid", None) for item in client.inbox] == [
        50,
        51,
        Event(1, "/b"),
    ]


def test_a_stream_of_delayed_answers_flows_on_with_that_delay(rig: Rig, script: Script) -> None:
    client = rig.client()
    script.opcode = OpCode.SYNC
    script.then = Delay(100)
    for xid in range(10):
        client.request(records.Sync("/"), xid=xid)
        rig.advance(30)
    assert [item.xid for item in client.inbox if isinstance(item, Answer)] == list(range(7))
    rig.advance(100)
    assert [item.xid for item in client.inbox if isinstance(item, Answer)] == list(range(10))
    assert rig.machine.next_release() is None


def test_a_truncated_answer_is_the_last_thing_on_the_connection(rig: Rig, script: Script) -> None:
    client = rig.client()
    script.then = Truncate(7)
    before = len(client.raw)
    client.request(CREATE)
    assert client.is_closed
    assert len(client.raw) == before + 7
    assert exists(rig)


@pytest.mark.parametrize("fault", [Drop, lambda: Truncate(3)])
def test_a_fault_behind_a_delayed_answer_ends_the_delay(
    rig: Rig, script: Script, fault: Callable[[], Drop | Truncate]
) -> None:
    client = rig.client()
    script.then = Delay(500)
    client.request(CREATE, xid=50)
    script.then = fault()
    client.request(records.Create("/b", b"", OPEN_ACL, 0), xid=51)
    assert client.is_closed
    assert [item.xid for item in client.inbox if isinstance(item, Answer)] == [50]


def test_a_session_can_be_expired_at_once(rig: Rig) -> None:
    client, other = rig.client(), rig.client()
    client.request(records.Create("/e", b"", OPEN_ACL, 1))
    other.body(records.GetData("/e", True))
    rig.machine.expire_session(client.session_id, rig.now)
    rig.settle()
    assert client.is_closed
    assert other.take_events() == [Event(2, "/e")]
    rig.machine.expire_session(client.session_id, rig.now)
    assert rig.state.sessions.find(client.session_id) is None


def test_a_connection_can_be_cut_and_its_session_lives_on(rig: Rig) -> None:
    client = rig.client()
    assert rig.machine.drop_connection(client.session_id)
    rig.settle()
    assert client.is_closed
    assert not rig.machine.drop_connection(client.session_id)
    assert isinstance(rig.reattach(client), Peer)
