"""Fact sheet 3.9: what a client that is back hears about what it has missed."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.model import READ_ONLY_ACL
from herdmaster.zookeeper.wire import records
from tests.conformance.rig import Answer, Event, Peer

CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4


def now(peer: Peer) -> int:
    return peer.ask(records.Sync("/")).zxid


def set_data(peer: Peer, path: str) -> None:
    peer.body(records.SetData(path, b"", -1))


def test_data_watches_catch_up_before_the_reply_or_arm(client: Peer, other: Peer) -> None:
    client.create("/changed")
    client.create("/same")
    since = now(client)
    set_data(other, "/changed")
    client.request(records.SetWatches(since, ("/gone", "/changed", "/same"), (), ()))
    *events, answer = client.inbox
    assert sorted(str(event) for event in events) == sorted(
        map(str, [Event(DELETED, "/gone"), Event(CHANGED, "/changed")])
    )
    assert isinstance(answer, Answer)
    assert (answer.error, answer.body) == (0, b"")
    client.take_events()
    set_data(other, "/same")
    set_data(other, "/changed")
    other.create("/gone")
    assert client.take_events() == [Event(CHANGED, "/same")]


def test_exist_watches_fire_for_whatever_exists(client: Peer, other: Peer) -> None:
    client.create("/old")
    client.body(records.SetWatches(now(client), (), ("/old", "/none"), ()))
    assert client.take_events() == [Event(CREATED, "/old")]
    other.create("/none")
    assert client.take_events() == [Event(CREATED, "/none")]


def test_child_watches_catch_up_or_arm(client: Peer, other: Peer) -> None:
    client.create("/changed")
    client.create("/same")
    since = now(client)
    other.create("/changed/c")
    client.body(records.SetWatches(since, (), (), ("/gone", "/changed", "/same")))
    assert sorted(client.take_events()) == [Event(DELETED, "/gone"), Event(CHILDREN, "/changed")]
    other.create("/same/c")
    other.create("/changed/d")
    assert client.take_events() == [Event(CHILDREN, "/same")]


def test_persistent_watches_catch_up_on_nothing(client: Peer, other: Peer) -> None:
    client.create("/p")
    client.create("/r")
    since = now(client)
    for path in ("/p", "/r"):
        set_data(other, path)
        other.create(f"{path}/c")
    client.body(records.SetWatches2(since, (), (), (), ("/p", "/none"), ("/r", "/nowhere")))
    assert client.take_events() == []
    for path in ("/p", "/r/c"):
        set_data(other, path)
    for path in ("/p/d", "/none", "/nowhere"):
        other.create(path)
    expected = [(CHANGED, "/p"), (CHANGED, "/r/c"), (CHILDREN, "/p"), (CREATED, "/none"), (CREATED, "/nowhere")]
    assert client.take_events() == [Event(*each) for each in expected]


def test_a_path_in_two_lists_gives_two_deletions(client: Peer) -> None:
    client.body(records.SetWatches(now(client), ("/none",), (), ("/none",)))
    assert client.take_events() == [Event(DELETED, "/none"), Event(DELETED, "/none")]


def test_the_same_zxid_is_not_newer(client: Peer) -> None:
    client.create("/n")
    stat = client.stat("/n").stat
    client.body(records.SetWatches(stat.mzxid, ("/n",), (), ("/n",)))
    assert client.take_events() == []
    client.body(records.SetWatches(stat.mzxid - 1, ("/n",), (), ()))
    assert client.take_events() == [Event(CHANGED, "/n")]


def test_a_node_that_was_deleted_and_made_again_shows_as_changed(client: Peer, other: Peer) -> None:
    client.create("/n")
    since = now(client)
    other.body(records.Delete("/n", -1))
    other.create("/n")
    client.body(records.SetWatches(since, ("/n",), (), ()))
    assert client.take_events() == [Event(CHANGED, "/n")]
    client.body(records.SetWatches(since, (), (), ("/n",)))
    assert client.take_events() == [Event(CHILDREN, "/n")]


def test_a_new_acl_shows_as_nothing(client: Peer, other: Peer) -> None:
    client.create("/n")
    since = now(client)
    other.body(records.SetAcl("/n", READ_ONLY_ACL, -1))
    client.body(records.SetWatches(since, ("/n",), (), ("/n",)))
    assert client.take_events() == []


def test_any_string_is_taken_for_a_path(client: Peer) -> None:
    assert client.error(records.SetWatches(now(client), (), ("no path", "/a/", ""), ())) == 0


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_null_list_is_unreadable(client: Peer, position: int) -> None:
    lists = [b"\0" * 4] * 3
    lists[position] = b"\xff" * 4
    assert client.raw_request(101, b"\0" * 8 + b"".join(lists)).error == -5
