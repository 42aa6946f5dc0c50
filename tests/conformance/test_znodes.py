"""Fact sheet 2.1 and 2.2 (null data, stats), 2.3 (create and its kin), 3.2 (stat rules) and 3.5 (containers and TTL).

Left out: a counter of children that wraps, which takes 2^31 creates (tested with the embedded server). The stat of a
fresh root and times to live where the server has them off are in test_settings.py.
"""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.model import OPEN_ACL, READ_ONLY_ACL, Acl, Id, Stat
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.multi import Multi
from tests.conformance.rig import Event, Peer

EPHEMERAL, SEQUENTIAL, EPHEMERAL_SEQUENTIAL, CONTAINER, TTL, SEQUENTIAL_TTL = 1, 2, 3, 4, 5, 6


def stat_of(peer: Peer, path: str) -> Stat:
    return peer.stat(path).stat


def test_null_data_comes_back_as_null(client: Peer) -> None:
    client.create("/null", None)
    client.create("/empty", b"")
    null, empty = client.body(records.GetData("/null", False)), client.body(records.GetData("/empty", False))
    assert isinstance(null, records.DataReply)
    assert isinstance(empty, records.DataReply)
    assert (null.data, null.stat.data_length) == (None, 0)
    assert (empty.data, empty.stat.data_length) == (b"", 0)
    client.body(records.SetData("/empty", None, -1))
    empty = client.body(records.GetData("/empty", False))
    assert isinstance(empty, records.DataReply)
    assert empty.data is None


def test_a_new_node_has_one_zxid_and_no_versions(client: Peer) -> None:
    answer = client.ask(records.Create("/a", b"xyz", OPEN_ACL, 0))
    stat = stat_of(client, "/a")
    assert stat.ctime == stat.mtime > 0
    zxid = answer.zxid
    assert stat == Stat(zxid, zxid, stat.ctime, stat.ctime, 0, 0, 0, 0, 3, 0, zxid)


def test_create_answers_the_path_and_create2_the_stat_too(client: Peer) -> None:
    assert client.body(records.Create("/a", b"", OPEN_ACL, 0)) == records.PathReply("/a")
    reply = client.body(records.Create2("/b", b"xyz", OPEN_ACL, EPHEMERAL))
    assert isinstance(reply, records.PathStatReply)
    assert reply == records.PathStatReply("/b", stat_of(client, "/b"))
    assert reply.stat.ephemeral_owner == client.session_id


def test_set_data_counts_versions_also_for_the_same_data_and_leaves_the_parent_alone(client: Peer) -> None:
    client.create("/p")
    client.create("/p/a", b"same")
    parent, before = stat_of(client, "/p"), stat_of(client, "/p/a")
    answer = client.ask(records.SetData("/p/a", b"same", -1))
    after = stat_of(client, "/p/a")
    assert (after.version, after.mzxid) == (1, answer.zxid)
    assert after.mtime >= before.mtime
    assert (after.czxid, after.ctime, after.pzxid) == (before.czxid, before.ctime, before.pzxid)
    assert stat_of(client, "/p") == parent


def test_set_acl_counts_the_aversion_alone(client: Peer) -> None:
    client.create("/a")
    before = stat_of(client, "/a")
    client.body(records.SetAcl("/a", (*OPEN_ACL, *READ_ONLY_ACL), -1))
    after = stat_of(client, "/a")
    assert after.aversion == 1
    assert (after.version, after.mzxid, after.mtime) == (before.version, before.mzxid, before.mtime)


def test_a_child_changes_its_parents_cversion_and_pzxid_only_and_a_grandchild_nothing(client: Peer) -> None:
    client.create("/p")
    before = stat_of(client, "/p")
    created = client.ask(records.Create("/p/c", b"", OPEN_ACL, 0)).zxid
    with_child = stat_of(client, "/p")
    assert (with_child.cversion, with_child.num_children, with_child.pzxid) == (1, 1, created)
    client.create("/p/c/g")
    assert stat_of(client, "/p") == with_child
    client.body(records.Delete("/p/c/g", -1))
    deleted = client.ask(records.Delete("/p/c", -1)).zxid
    after = stat_of(client, "/p")
    assert (after.cversion, after.num_children, after.pzxid) == (2, 0, deleted)
    assert (after.mzxid, after.mtime, after.version) == (before.mzxid, before.mtime, before.version)


def test_a_sequence_number_counts_creates_of_any_kind_and_not_deletes_or_failures(client: Peer) -> None:
    client.create("/p")
    client.create("/p/plain")
    assert client.create("/p/s-", flags=SEQUENTIAL) == "/p/s-0000000001"
    client.body(records.Delete("/p/plain", -1))
    assert client.error(records.Create("/p/s-0000000001", b"", OPEN_ACL, 0)) == -110
    assert client.create("/p/e-", flags=EPHEMERAL_SEQUENTIAL) == "/p/e-0000000002"
    assert stat_of(client, "/p").cversion == 4
    assert client.create("/p/", flags=SEQUENTIAL) == "/p/0000000003"


def test_the_reserved_folder_is_there_from_the_start(client: Peer) -> None:
    assert client.children("/zookeeper") == ["config", "quota"]
    assert stat_of(client, "/zookeeper").cversion == -2
    assert stat_of(client, "/zookeeper/config").aversion == -1
    reply = client.body(records.GetAcl("/zookeeper/config"))
    assert isinstance(reply, records.AclReply)
    assert reply.acl == READ_ONLY_ACL
    root = stat_of(client, "/")
    assert (root.czxid, root.mzxid, root.ctime, root.version, root.aversion, root.num_children) == (0, 0, 0, 0, 0, 1)


def test_children_with_and_without_a_stat(client: Peer) -> None:
    for path in ("/p", "/p/b", "/p/a"):
        client.create(path)
    assert client.children("/p") == ["a", "b"]
    reply = client.body(records.GetChildren2("/p", False))
    assert isinstance(reply, records.Children2Reply)
    assert sorted(reply.children) == ["a", "b"]
    assert reply.stat == stat_of(client, "/p")


def test_an_acl_comes_with_the_stat_as_it_was_given(client: Peer) -> None:
    acl = (Acl(5, Id("world", "anyone")), Acl(31, Id("ip", "127.0.0.0/8")))
    client.create("/a", acl=acl)
    assert client.body(records.GetAcl("/a")) == records.AclReply(acl, stat_of(client, "/a"))


def test_all_descendants_are_counted_at_segment_boundaries(client: Peer) -> None:
    before = client.body(records.GetAllChildrenNumber("/"))
    assert isinstance(before, records.NumberReply)
    for path in ("/a", "/a/b", "/a/b/c", "/aa"):
        client.create(path)
    assert client.body(records.GetAllChildrenNumber("/a")) == records.NumberReply(2)
    assert client.body(records.GetAllChildrenNumber("/")) == records.NumberReply(before.number + 4)


def test_an_ephemeral_has_an_owner_and_no_children(client: Peer) -> None:
    client.create("/e", flags=EPHEMERAL)
    assert stat_of(client, "/e").ephemeral_owner == client.session_id
    assert client.error(records.Create("/e/x", b"", OPEN_ACL, 0)) == -108


@pytest.mark.parametrize("flags", [4, 0, 3])
def test_a_container_goes_when_it_is_empty_again_and_has_no_owner(client: Peer, flags: int) -> None:
    reply = client.body(records.CreateContainer("/c", b"", OPEN_ACL, flags))
    assert isinstance(reply, records.PathStatReply)
    path = reply.path
    assert path[:2] == "/c"
    assert reply.stat == stat_of(client, path)
    assert reply.stat.ephemeral_owner == 0
    client.create(f"{path}/e", flags=EPHEMERAL)
    assert client.error(records.Exists(path, True)) == 0
    client.body(records.Delete(f"{path}/e", -1))
    assert client.wait_events(1) == [Event(2, path)]
    assert client.error(records.Exists(path, False)) == -101


def test_a_container_that_never_had_a_child_and_a_plain_node_with_its_flags_stay(client: Peer) -> None:
    client.body(records.CreateContainer("/unused", b"", OPEN_ACL, CONTAINER))
    client.create("/plain", flags=CONTAINER)
    client.body(records.Create2("/plain2", b"", OPEN_ACL, CONTAINER))
    client.body(records.CreateContainer("/used", b"", OPEN_ACL, CONTAINER))
    for path in ("/plain", "/plain2", "/used"):
        client.create(f"{path}/x")
        client.error(records.Exists(path, True))
        client.body(records.Delete(f"{path}/x", -1))
    # One sweep looks at all of them.
    assert client.wait_events(1) == [Event(2, "/used")]
    assert client.children("/") == ["plain", "plain2", "unused", "zookeeper"]


def test_a_node_with_a_time_to_live_goes_when_it_is_over_and_has_no_owner(client: Peer) -> None:
    client.body(records.AddWatch("/t", 0))
    reply = client.body(records.CreateTtl("/t", b"", OPEN_ACL, TTL, 300))
    assert isinstance(reply, records.PathStatReply)
    assert reply.stat.ephemeral_owner == 0
    assert client.wait_events(2) == [Event(1, "/t"), Event(2, "/t")]
    assert client.error(records.Exists("/t", False)) == -101


def test_a_time_to_live_waits_until_there_are_no_children(client: Peer) -> None:
    full = (records.CreateTtl("/full", b"", OPEN_ACL, TTL, 1), records.Create("/full/x", b"", OPEN_ACL, 0))
    client.body(Multi(full))
    client.body(records.AddWatch("/witness", 0))
    client.body(records.CreateTtl("/witness", b"", OPEN_ACL, TTL, 1))
    # The sweep that takes the witness away has passed the other one by.
    assert client.wait_events(2) == [Event(1, "/witness"), Event(2, "/witness")]
    assert client.children("/") == ["full", "zookeeper"]
    client.error(records.Exists("/full", True))
    client.body(records.Delete("/full/x", -1))
    assert client.wait_events(1) == [Event(2, "/full")]


@pytest.mark.long
def test_a_time_to_live_starts_again_with_a_change(client: Peer) -> None:
    client.body(records.AddWatch("/witness", 0))
    for path in ("/changed", "/witness"):
        client.body(records.CreateTtl(path, b"", OPEN_ACL, TTL, 1500))
    while Event(2, "/witness") not in client.inbox:
        client.body(records.SetData("/changed", b"", -1))
    assert client.children("/") == ["changed", "zookeeper"]


def test_the_longest_time_to_live_and_one_with_a_sequence_number(client: Peer) -> None:
    assert client.error(records.CreateTtl("/t", b"", OPEN_ACL, TTL, 0xFFFFFFFFFF)) == 0
    reply = client.body(records.CreateTtl("/s-", b"", OPEN_ACL, SEQUENTIAL_TTL, 60_000))
    assert isinstance(reply, records.PathStatReply)
    assert reply.path[:-10] == "/s-"
