"""Frames and requests at the edges, where Apache's server differs or must not be asked; zxids to the number.

What holds for Apache's server too is in tests/conformance.
"""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.server.state import State
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import encode_request, frame
from tests.zookeeper.server.rig import Answer, Event, Rig


def test_the_first_session_is_zxid_1_and_the_first_create_zxid_2() -> None:
    rig = Rig()
    client = rig.client()
    client.create("/a")
    assert client.stat("/a").stat.czxid == 2


def test_an_answer_to_xid_minus_one_looks_like_an_event_which_is_the_clients_own_fault() -> None:
    client = Rig().client()
    client.request(records.GetAcl("/"), xid=-1)
    assert isinstance(client.inbox[-1], Event)


def test_what_stands_before_a_broken_frame_is_still_answered() -> None:
    client = Rig().client()
    requests = b"".join(encode_request(xid, records.Sync("/")) for xid in range(1, 1001))
    client.send(requests + b"\xff\xff\xff\xff and junk")
    assert [item.xid for item in client.inbox if isinstance(item, Answer)] == list(range(1, 1001))
    assert client.is_closed


@pytest.mark.parametrize("opcode", [-1, 1000])
def test_an_unknown_request_is_answered_and_ends_the_connection_but_not_the_session(opcode: int) -> None:
    rig = Rig()
    client = rig.client()
    client.raw_request(opcode)
    answer = client.inbox[-1]
    assert isinstance(answer, Answer)
    assert (answer.xid, answer.zxid, answer.error) == (77, -1, -6)
    assert client.is_closed
    assert not rig.reattach(client).is_closed


def test_a_wrong_password_costs_the_session_nothing() -> None:
    rig = Rig()
    client, intruder = rig.client(), rig.peer()
    refusal = intruder.handshake(10_000, client.session_id, b"x" * 16)
    assert refusal is not None
    assert (refusal.session_id, intruder.is_closed, client.is_closed) == (0, True, False)


def test_a_check_outside_a_multi_is_refused_and_harmless() -> None:
    client = Rig().client()
    assert client.error(records.Check("/", -1)) == -6
    assert not client.is_closed


def test_a_request_without_a_whole_header_closes_the_connection() -> None:
    client = Rig().client()
    client.send(frame(b"\0\0\0\1"))
    assert client.is_closed


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


@pytest.mark.long
def test_a_client_that_asks_for_much_gets_it_in_bounded_portions() -> None:
    rig = Rig()
    client = rig.client()
    client.create("/big", b"x" * 1_000_000)
    frames = b"".join(encode_request(xid, records.GetData("/big", False)) for xid in range(1, 301))
    rig.machine.receive(client.connection, frames, rig.now)
    assert client.connection.outgoing_size < 3_000_000
    rig.settle()
    assert len([item for item in client.inbox if isinstance(item, Answer)]) == 300
