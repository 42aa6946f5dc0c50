"""Watches as 3.9 has them: zxids of events, modes side by side, removal by type; and what they cost.

What holds for Apache's 3.8 too is in tests/conformance.
"""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.model import EventType
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import encode_event
from tests.zookeeper.server.rig import Event, Peer, Rig

CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def client(rig: Rig) -> Peer:
    return rig.client()


@pytest.fixture
def other(rig: Rig) -> Peer:
    return rig.client()


def set_data(peer: Peer, path: str) -> None:
    peer.body(records.SetData(path, b"", -1))


def test_the_sample_of_an_event() -> None:
    body = "ffffffff ffffffffffffffff 00000000 00000003 00000003 0000000a 2f66616374732f772f6e"
    assert encode_event(-1, EventType.DATA_CHANGED, "/facts/w/n")[4:] == bytes.fromhex(body)


def test_an_event_carries_the_zxid_of_its_transaction(client: Peer) -> None:
    client.error(records.Exists("/n", True))
    client.create("/n")
    assert client.event_zxids == [2]


def test_overlapping_watches_give_one_event_per_change_and_the_parents_event_apart(client: Peer, other: Peer) -> None:
    client.create("/n")
    client.body(records.AddWatch("/", 1))
    client.body(records.AddWatch("/n", 1))
    client.body(records.AddWatch("/n", 0))
    client.body(records.GetChildren("/n", True))
    client.error(records.Exists("/n/c", True))
    other.create("/n/c")
    assert client.take_events() == [Event(CREATED, "/n/c"), Event(CHILDREN, "/n")]


def test_one_shot_reads_do_not_end_a_persistent_watch(client: Peer, other: Peer) -> None:
    client.create("/n")
    client.body(records.AddWatch("/n", 0))
    client.body(records.AddWatch("/n", 1))
    client.body(records.GetData("/n", True))
    set_data(other, "/n")
    set_data(other, "/n")
    other.create("/n/c")
    expected = [(CHANGED, "/n"), (CHANGED, "/n"), (CREATED, "/n/c"), (CHILDREN, "/n")]
    assert client.take_events() == [Event(*each) for each in expected]


def test_watches_are_checked_and_removed_by_type(client: Peer, other: Peer) -> None:
    client.error(records.Exists("/n", True))
    client.body(records.AddWatch("/n", 0))
    assert client.error(records.CheckWatches("/n", 2)) == 0
    assert client.error(records.CheckWatches("/n", 1)) == -121
    assert other.error(records.CheckWatches("/n", 3)) == -121
    assert client.error(records.RemoveWatches("/n", 5)) == -121
    assert client.error(records.RemoveWatches("/n", 2)) == 0
    assert client.error(records.RemoveWatches("/n", 2)) == -121
    assert client.error(records.RemoveWatches("/n", 3)) == 0
    assert client.error(records.CheckWatches("/n", 9)) == -5
    other.create("/n")
    assert client.take_events() == []


def test_catching_up_carries_no_zxid(client: Peer) -> None:
    client.body(records.SetWatches(0, ("/none",), (), ()))
    assert client.event_zxids == [-1]


def test_ten_thousand_exists_watches_cost_nothing_to_those_who_write_elsewhere(rig: Rig, client: Peer) -> None:
    for index in range(10_000):
        client.request(records.Exists(f"/status/{index}", True))
    client.inbox.clear()
    assert len(rig.machine.watches) == 10_000
    other = rig.client()
    other.create("/status")
    other.create("/status/77")
    assert client.take_events() == [Event(CREATED, "/status/77")]
    assert len(rig.machine.watches) == 9_999
    rig.disconnect(client)
    assert len(rig.machine.watches) == 0
