"""Fact sheet 2.2 (events), 3.6 (their order), 3.7 (one-shot watches) and 3.8 (persistent and recursive ones).

Left out, since 3.8.0 and the newer servers differ: one-shot and persistent watches of one session on one path; the
removal of persistent watches by type, and looking for watches that only another session has; the zxid in an event's
header; `exists` of a node that the session may not read.
"""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.model import CREATOR_ALL_ACL, OPEN_ACL
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.framing import encode_request
from tests.conformance.rig import Answer, Event, Peer, Rig

CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4
NO_WATCHER = -121


def set_data(peer: Peer, path: str) -> None:
    peer.body(records.SetData(path, b"", -1))


def delete(peer: Peer, path: str) -> None:
    peer.body(records.Delete(path, -1))


def test_the_sample_of_an_event(client: Peer) -> None:
    client.create("/facts")
    client.create("/facts/w")
    client.create("/facts/w/n")
    client.body(records.GetData("/facts/w/n", True))
    client.raw.clear()
    set_data(client, "/facts/w/n")
    # All but the zxid (bytes 8 to 16), which only the newer servers tell.
    assert client.raw[4:8] == b"\xff" * 4
    assert client.raw[16:42] == bytes.fromhex("00000000 00000003 00000003 0000000a 2f66616374732f772f6e")


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
    client.error(records.GetChildren2("/n", True))
    other.create("/n")
    set_data(other, "/n")
    assert client.take_events() == []


def test_the_same_watch_twice_fires_once(client: Peer, other: Peer) -> None:
    client.create("/n")
    for request in (records.GetData("/n", True), records.GetData("/n", True), records.Exists("/n", True)):
        client.body(request)
    set_data(other, "/n")
    assert client.take_events() == [Event(CHANGED, "/n")]


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


def test_an_event_comes_before_any_reply_that_shows_the_change(rig: Rig) -> None:
    reader, writer = rig.client(), rig.client()
    writer.create("/n", b"0")
    for number in range(1, 51):
        reader.body(records.GetData("/n", True))
        reader.inbox.clear()
        writer.send(encode_request(number, records.SetData("/n", b"%d" % number, -1)))
        reads = 0
        while not any(answer.body[4:-68] == b"%d" % number for answer in reader.answers):
            reads += 1
            reader.request(records.GetData("/n", False))
        first = next(index for index, item in enumerate(reader.inbox) if isinstance(item, Event))
        shown = [
            index
            for index, item in enumerate(reader.inbox)
            if isinstance(item, Answer) and item.body[4:-68] == b"%d" % number
        ]
        assert first < min(shown)


def test_without_read_an_event_is_dropped_and_the_watch_used_up(client: Peer, other: Peer) -> None:
    other.authenticate(b"al:pw")
    assert client.error(records.Exists("/n", True)) == -101
    other.create("/n", acl=CREATOR_ALL_ACL)
    assert client.take_events() == []
    other.body(records.SetAcl("/n", OPEN_ACL, -1))
    set_data(other, "/n")
    assert client.take_events() == []


def test_for_a_child_event_the_parents_list_counts(client: Peer, other: Peer) -> None:
    other.authenticate(b"al:pw")
    client.create("/open")
    client.body(records.GetChildren("/open", True))
    other.create("/open/n", acl=CREATOR_ALL_ACL)
    assert client.take_events() == [Event(CHILDREN, "/open")]


def test_add_watch_looks_at_neither_node_nor_rights(client: Peer, other: Peer) -> None:
    other.authenticate(b"al:pw")
    other.create("/locked", acl=CREATOR_ALL_ACL)
    for path in ("/none", "/locked", "no path", "/a/"):
        assert client.body(records.AddWatch(path, 0)) == records.NumberReply(0)


def test_a_persistent_watch_hears_everything_of_its_node_and_stays(client: Peer, other: Peer) -> None:
    client.body(records.AddWatch("/n", 0))
    other.create("/n")
    set_data(other, "/n")
    other.create("/n/c")
    set_data(other, "/n/c")
    delete(other, "/n/c")
    delete(other, "/n")
    other.create("/n")
    types = [CREATED, CHANGED, CHILDREN, CHILDREN, DELETED, CREATED]
    assert client.take_events() == [Event(type_, "/n") for type_ in types]


def test_a_recursive_watch_hears_of_nodes_and_never_of_children(client: Peer, other: Peer) -> None:
    client.body(records.AddWatch("/n", 1))
    for path in ("/n", "/n/a", "/n/a/b", "/nn"):
        other.create(path)
    set_data(other, "/n/a/b")
    delete(other, "/n/a/b")
    expected = [(CREATED, "/n"), (CREATED, "/n/a"), (CREATED, "/n/a/b"), (CHANGED, "/n/a/b"), (DELETED, "/n/a/b")]
    assert client.take_events() == [Event(*each) for each in expected]


def test_overlapping_recursive_watches_give_one_event_per_change_and_work_at_the_root(
    client: Peer, other: Peer
) -> None:
    client.body(records.AddWatch("/", 1))
    client.body(records.AddWatch("/n", 1))
    other.create("/n")
    other.create("/n/c")
    assert client.take_events() == [Event(CREATED, "/n"), Event(CREATED, "/n/c")]


@pytest.mark.parametrize("parent", [records.GetChildren("/n", True), records.AddWatch("/n", 0)])
def test_a_watch_on_the_parent_adds_its_own_event_to_a_recursive_ones(
    client: Peer, other: Peer, parent: records.GetChildren | records.AddWatch
) -> None:
    client.create("/n")
    client.body(records.AddWatch("/", 1))
    client.body(parent)
    other.create("/n/c")
    assert client.take_events() == [Event(CREATED, "/n/c"), Event(CHILDREN, "/n")]


def test_a_data_watch_under_a_recursive_one_gives_one_event(client: Peer, other: Peer) -> None:
    client.create("/n")
    client.body(records.AddWatch("/", 1))
    client.body(records.GetData("/n", True))
    set_data(other, "/n")
    set_data(other, "/n")
    assert client.take_events() == [Event(CHANGED, "/n")] * 2


@pytest.mark.parametrize("mode", [-1, 2, 5])
def test_an_unknown_mode_is_unreadable(client: Peer, mode: int) -> None:
    assert client.error(records.AddWatch("/n", mode)) == -5


def test_one_shot_watches_are_checked_and_removed_by_type(client: Peer, other: Peer) -> None:
    client.create("/n")
    for type_ in (1, 2, 3):
        assert client.error(records.CheckWatches("/n", type_)) == NO_WATCHER
        assert client.error(records.RemoveWatches("/n", type_)) == NO_WATCHER
    client.body(records.GetData("/n", True))
    assert client.error(records.CheckWatches("/n", 2)) == client.error(records.CheckWatches("/n", 3)) == 0
    assert client.error(records.CheckWatches("/n", 1)) == NO_WATCHER
    client.body(records.GetChildren("/n", True))
    assert client.error(records.RemoveWatches("/n", 2)) == 0
    assert client.error(records.RemoveWatches("/n", 2)) == NO_WATCHER
    set_data(other, "/n")
    other.create("/n/a")
    assert client.take_events() == [Event(CHILDREN, "/n")]


@pytest.mark.parametrize("mode", [0, 1])
def test_type_3_removes_every_watch_without_an_event(client: Peer, other: Peer, mode: int) -> None:
    client.body(records.AddWatch("/n", mode))
    assert client.error(records.CheckWatches("/n", 3)) == 0
    assert client.error(records.RemoveWatches("/n", 3)) == 0
    assert client.error(records.RemoveWatches("/n", 3)) == NO_WATCHER
    other.create("/n")
    assert client.take_events() == []


@pytest.mark.parametrize("request_type", [records.CheckWatches, records.RemoveWatches])
def test_an_unknown_type_of_watch_is_unreadable(
    client: Peer, request_type: type[records.CheckWatches | records.RemoveWatches]
) -> None:
    assert client.error(request_type("/n", 9)) == -5
