"""Watches as a client sees them: what fires, how often, in which order, and what a re-attached client catches up on."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.model import OPEN_ACL, Acl, EventType, Id
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import encode_event
from tests.zookeeper.server.rig import Answer, Event, Peer, Rig

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


def delete(peer: Peer, path: str) -> None:
    peer.body(records.Delete(path, -1))


def test_the_sample_of_an_event() -> None:
    body = "ffffffff ffffffffffffffff 00000000 00000003 00000003 0000000a 2f66616374732f772f6e"
    assert encode_event(-1, EventType.DATA_CHANGED, "/facts/w/n")[4:] == bytes.fromhex(body)


def test_an_event_carries_the_zxid_of_its_transaction(client: Peer) -> None:
    client.error(records.Exists("/n", True))
    client.create("/n")
    assert client.event_zxids == [2]


@pytest.mark.parametrize("request_type", [records.GetData, records.Exists])
def test_a_data_watch_fires_once_for_a_change_or_a_deletion(
    client: Peer, other: Peer, request_type: type[records.GetData | records.Exists]
) -> None:
    client.create("/n")
    client.body(request_type("/n", True))
    other.create("/n/child")
    other.body(records.SetAcl("/n", OPEN_ACL, -1))
    assert client.take_events() == []
    set_data(other, "/n")
    set_data(other, "/n")
    assert client.take_events() == [Event(CHANGED, "/n")]
    delete(other, "/n/child")
    client.body(request_type("/n", True))
    delete(other, "/n")
    assert client.take_events() == [Event(DELETED, "/n")]


def test_an_exists_watch_on_nothing_fires_on_creation(client: Peer, other: Peer) -> None:
    assert client.error(records.Exists("/n", True)) == -101
    other.create("/n")
    set_data(other, "/n")
    assert client.take_events() == [Event(CREATED, "/n")]


@pytest.mark.parametrize("request_type", [records.GetChildren, records.GetChildren2])
def test_a_child_watch_fires_for_children_and_for_the_deletion(
    client: Peer, other: Peer, request_type: type[records.GetChildren | records.GetChildren2]
) -> None:
    client.create("/n")
    client.body(request_type("/n", True))
    set_data(other, "/n")
    assert client.take_events() == []
    other.create("/n/a")
    assert client.take_events() == [Event(CHILDREN, "/n")]
    client.body(request_type("/n", True))
    set_data(other, "/n/a")
    assert client.take_events() == []
    delete(other, "/n/a")
    assert client.take_events() == [Event(CHILDREN, "/n")]
    client.body(request_type("/n", True))
    delete(other, "/n")
    assert client.take_events() == [Event(DELETED, "/n")]


def test_a_failed_read_sets_no_watch(client: Peer, other: Peer) -> None:
    client.error(records.GetData("/n", True))
    client.error(records.GetChildren("/n", True))
    other.create("/n")
    set_data(other, "/n")
    assert client.take_events() == []


def test_a_data_and_a_child_watch_on_one_node_give_one_deletion(client: Peer, other: Peer) -> None:
    client.create("/n")
    client.body(records.GetData("/n", True))
    client.body(records.GetChildren("/n", True))
    delete(other, "/n")
    assert client.take_events() == [Event(DELETED, "/n")]


def test_a_read_without_watch_leaves_an_armed_one_alone(client: Peer, other: Peer) -> None:
    client.create("/n")
    client.body(records.GetData("/n", True))
    client.body(records.GetData("/n", False))
    set_data(other, "/n")
    assert client.take_events() == [Event(CHANGED, "/n")]


def test_the_nodes_own_event_comes_before_its_parents_and_both_before_the_reply(client: Peer) -> None:
    client.create("/p")
    client.body(records.GetChildren("/p", True))
    client.error(records.Exists("/p/c", True))
    client.request(records.Create("/p/c", b"", OPEN_ACL, 0))
    assert client.inbox[:2] == [Event(CREATED, "/p/c"), Event(CHILDREN, "/p")]
    assert isinstance(client.inbox[2], Answer)


def test_without_read_an_event_is_dropped_and_the_watch_used_up(client: Peer, other: Peer) -> None:
    other.body(records.Auth(0, "digest", b"al:pw"))
    secret = (Acl(31, Id("auth", "")),)
    assert client.error(records.Exists("/n", True)) == -101
    other.body(records.Create("/n", b"", secret, 0))
    assert client.take_events() == []
    other.body(records.SetAcl("/n", OPEN_ACL, -1))
    set_data(other, "/n")
    assert client.take_events() == []


def test_for_a_child_event_the_parents_list_counts(client: Peer, other: Peer) -> None:
    other.body(records.Auth(0, "digest", b"al:pw"))
    client.create("/open")
    client.body(records.GetChildren("/open", True))
    other.body(records.Create("/open/n", b"", (Acl(31, Id("auth", "")),), 0))
    assert client.take_events() == [Event(CHILDREN, "/open")]


def test_a_persistent_watch_hears_everything_of_its_node_and_stays(client: Peer, other: Peer) -> None:
    client.body(records.AddWatch("/n", 0))
    other.create("/n")
    set_data(other, "/n")
    other.create("/n/c")
    set_data(other, "/n/c")
    delete(other, "/n/c")
    delete(other, "/n")
    other.create("/n")
    assert [event.type for event in client.take_events()] == [CREATED, CHANGED, CHILDREN, CHILDREN, DELETED, CREATED]


def test_a_recursive_watch_hears_of_nodes_and_never_of_children(client: Peer, other: Peer) -> None:
    client.body(records.AddWatch("/n", 1))
    for path in ("/n", "/n/a", "/n/a/b", "/nn"):
        other.create(path)
    set_data(other, "/n/a/b")
    delete(other, "/n/a/b")
    expected = [(CREATED, "/n"), (CREATED, "/n/a"), (CREATED, "/n/a/b"), (CHANGED, "/n/a/b"), (DELETED, "/n/a/b")]
    assert client.take_events() == [Event(*each) for each in expected]


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


@pytest.mark.parametrize("mode", [-1, 2, 5])
def test_an_unknown_mode_is_unreadable(client: Peer, mode: int) -> None:
    assert client.error(records.AddWatch("/n", mode)) == -5


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


class TestSetWatches:
    def relative(self, peer: Peer) -> int:
        return peer.ask(records.Sync("/")).zxid

    def test_data_watches_catch_up_or_arm(self, client: Peer, other: Peer) -> None:
        client.create("/changed")
        client.create("/same")
        since = self.relative(client)
        set_data(other, "/changed")
        client.request(records.SetWatches(since, ("/gone", "/changed", "/same"), (), ()))
        assert client.inbox[:2] == [Event(DELETED, "/gone"), Event(CHANGED, "/changed")]
        answer = client.inbox[2]
        assert isinstance(answer, Answer)
        assert (answer.error, answer.body[16:]) == (0, b"")
        client.take_events()
        set_data(other, "/same")
        set_data(other, "/changed")
        other.create("/gone")
        assert client.take_events() == [Event(CHANGED, "/same")]

    def test_exist_watches_fire_for_whatever_exists(self, client: Peer, other: Peer) -> None:
        client.create("/old")
        client.body(records.SetWatches(2**62, (), ("/old", "/none"), ()))
        assert client.take_events() == [Event(CREATED, "/old")]
        other.create("/none")
        assert client.take_events() == [Event(CREATED, "/none")]

    def test_child_watches_catch_up_or_arm(self, client: Peer, other: Peer) -> None:
        client.create("/changed")
        client.create("/same")
        since = self.relative(client)
        other.create("/changed/c")
        client.body(records.SetWatches(since, (), (), ("/gone", "/changed", "/same")))
        assert client.take_events() == [Event(DELETED, "/gone"), Event(CHILDREN, "/changed")]
        other.create("/same/c")
        assert client.take_events() == [Event(CHILDREN, "/same")]

    def test_persistent_watches_catch_up_on_nothing(self, client: Peer, other: Peer) -> None:
        client.create("/changed")
        other.create("/changed/c")
        client.body(records.SetWatches2(0, (), (), (), ("/changed", "/gone"), ("/changed", "/gone")))
        assert client.take_events() == []
        set_data(other, "/changed/c")
        other.create("/gone")
        assert client.take_events() == [Event(CHANGED, "/changed/c"), Event(CREATED, "/gone")]

    def test_a_path_in_two_lists_gives_two_deletions(self, client: Peer) -> None:
        client.body(records.SetWatches(0, ("/none",), (), ("/none",)))
        assert client.take_events() == [Event(DELETED, "/none"), Event(DELETED, "/none")]

    def test_the_same_zxid_is_not_newer(self, client: Peer) -> None:
        client.create("/n")
        stat = client.stat("/n").stat
        client.body(records.SetWatches(stat.mzxid, ("/n",), (), ("/n",)))
        assert client.take_events() == []
        client.body(records.SetWatches(stat.mzxid - 1, ("/n",), (), ()))
        assert client.take_events() == [Event(CHANGED, "/n")]

    def test_catching_up_carries_no_zxid(self, client: Peer) -> None:
        client.body(records.SetWatches(0, ("/none",), (), ()))
        assert client.event_zxids == [-1]

    def test_a_null_list_is_unreadable(self, client: Peer) -> None:
        client.raw_request(101, b"\0" * 8 + b"\xff" * 4 + b"\0" * 8)
        answer = client.inbox[-1]
        assert isinstance(answer, Answer)
        assert answer.error == -5


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
