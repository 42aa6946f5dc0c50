"""The tree by itself: stats, the counter of children, order, and what the sweep finds."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.model import OPEN_ACL, READ_ONLY_ACL, Acl, EventType, Id
from herdmaster.zookeeper.server.effects import AclSet, DataSet, NodeCreated, NodeDeleted
from herdmaster.zookeeper.server.snapshots import restore, snapshot_of
from herdmaster.zookeeper.server.state import State
from herdmaster.zookeeper.server.tree import Tree, Znode, wrap32


def create(tree: Tree, path: str, zxid: int = 1, data: bytes | None = b"", **more: int | bool) -> None:
    tree.apply(NodeCreated(path, data, OPEN_ACL, **more), zxid, 1000 + zxid)  # type: ignore[arg-type]  # by name


def node(tree: Tree, path: str) -> Znode:
    found = tree.find(path)
    assert found is not None
    return found


def test_a_fresh_tree_is_zookeepers() -> None:
    tree = Tree()
    assert len(tree) == 5
    assert tree.children_of("/") == ("zookeeper",)
    assert node(tree, "/").stat().cversion == -1
    assert tree.children_of("/zookeeper") == ("config", "quota")
    assert node(tree, "/zookeeper").stat().cversion == -2
    config = node(tree, "/zookeeper/config")
    assert config.acl == READ_ONLY_ACL
    assert config.stat().aversion == -1


def test_the_empty_path_is_the_root() -> None:
    tree = Tree()
    assert tree.find("") is tree.find("/")


def test_a_create_touches_the_parents_cversion_and_pzxid_only() -> None:
    tree = Tree()
    create(tree, "/p", 1)
    create(tree, "/p/c", 2)
    create(tree, "/p/c/g", 3)
    stat = node(tree, "/p").stat()
    assert (stat.czxid, stat.mzxid, stat.pzxid) == (1, 1, 2)
    assert (stat.version, stat.cversion, stat.aversion, stat.num_children) == (0, 1, 0, 1)
    assert stat.mtime == stat.ctime == 1001


def test_cversion_is_twice_the_creates_less_the_children() -> None:
    tree = Tree()
    create(tree, "/p")
    for index in range(3):
        create(tree, f"/p/{index}", 2 + index)
    tree.apply(NodeDeleted("/p/1"), 9, 0)
    stat = node(tree, "/p").stat()
    assert (stat.cversion, stat.num_children, stat.pzxid) == (4, 2, 9)
    assert node(tree, "/p").created == 3


def test_set_data_counts_versions_and_leaves_the_parent_alone() -> None:
    tree = Tree()
    create(tree, "/p", 1, b"abc")
    tree.apply(DataSet("/p", b"abc"), 5, 2000)
    stat = node(tree, "/p").stat()
    assert (stat.version, stat.mzxid, stat.mtime, stat.ctime, stat.czxid) == (1, 5, 2000, 1001, 1)
    assert node(tree, "/").pzxid == 1


def test_null_data_is_kept_apart_from_empty_data() -> None:
    tree = Tree()
    create(tree, "/null", data=None)
    create(tree, "/empty", data=b"")
    assert node(tree, "/null").data is None
    assert node(tree, "/empty").data == b""
    assert node(tree, "/null").stat().data_length == 0


def test_an_acl_counts_its_own_version_and_tells_no_session() -> None:
    tree = Tree()
    create(tree, "/p", 1)
    assert tree.apply(AclSet("/p", READ_ONLY_ACL), 5, 2000) is None
    stat = node(tree, "/p").stat()
    assert (stat.aversion, stat.version, stat.mzxid, stat.mtime) == (1, 0, 1, 1001)


def test_children_come_in_the_order_of_creation() -> None:
    tree = Tree()
    for name in ("c", "a", "b"):
        create(tree, f"/{name}")
    tree.apply(NodeDeleted("/a"), 2, 0)
    create(tree, "/a")
    assert tree.children_of("/") == ("zookeeper", "c", "b", "a")


def test_ephemerals_belong_to_their_session() -> None:
    tree = Tree()
    create(tree, "/e2", session_id=5)
    create(tree, "/e1", session_id=5)
    create(tree, "/other", session_id=6)
    assert tree.ephemerals_of(5) == ("/e2", "/e1")
    assert node(tree, "/e1").stat().ephemeral_owner == 5
    tree.apply(NodeDeleted("/e1"), 2, 0)
    assert tree.ephemerals_of(5) == ("/e2",)
    assert tree.ephemerals_of(7) == ()


def test_containers_and_ttl_nodes_show_no_owner() -> None:
    tree = Tree()
    create(tree, "/c", container=True)
    create(tree, "/t", ttl=10)
    assert node(tree, "/c").stat().ephemeral_owner == 0
    assert node(tree, "/t").stat().ephemeral_owner == 0


def test_a_container_is_swept_once_it_had_a_child_and_is_empty() -> None:
    tree = Tree()
    create(tree, "/c", container=True)
    assert tree.expired_paths(10**9) == []
    create(tree, "/c/x")
    assert tree.expired_paths(10**9) == []
    tree.apply(NodeDeleted("/c/x"), 3, 0)
    assert tree.expired_paths(10**9) == ["/c"]
    tree.apply(NodeDeleted("/c"), 4, 0)
    assert tree.expired_paths(10**9) == []


def test_a_time_to_live_counts_from_the_last_change_and_only_without_children() -> None:
    tree = Tree()
    create(tree, "/t", 1, ttl=50)
    assert tree.expired_paths(1051) == []
    assert tree.expired_paths(1052) == ["/t"]
    tree.apply(DataSet("/t", b""), 2, 1040)
    assert tree.expired_paths(1052) == []
    create(tree, "/t/x", 3)
    assert tree.expired_paths(5000) == []


def test_descendants_are_counted_at_any_depth_and_not_by_prefix() -> None:
    tree = Tree()
    for path in ("/a", "/a/b", "/a/b/c", "/a/d", "/aa"):
        create(tree, path)
    assert tree.count_descendants("/a") == 3
    assert tree.count_descendants("/a/b") == 1
    assert tree.count_descendants("/") == 8


def test_changes_name_the_kind_and_the_path() -> None:
    tree = Tree()
    created = tree.apply(NodeCreated("/a", b"", OPEN_ACL), 1, 0)
    changed = tree.apply(DataSet("/a", b"x"), 2, 0)
    deleted = tree.apply(NodeDeleted("/a"), 3, 0)
    assert [change and (change.type, change.path) for change in (created, changed, deleted)] == [
        (EventType.CREATED, "/a"),
        (EventType.DATA_CHANGED, "/a"),
        (EventType.DELETED, "/a"),
    ]


def test_the_data_size_returns_to_where_it_was() -> None:
    tree = Tree()
    before = tree.data_size
    create(tree, "/a", data=b"12345")
    assert tree.data_size == before + 7
    tree.apply(DataSet("/a", None), 2, 0)
    assert tree.data_size == before + 2
    tree.apply(NodeDeleted("/a"), 3, 0)
    assert tree.data_size == before


def of(user: int) -> tuple[Acl, ...]:
    return (Acl(31, Id("digest", f"user{user}:hash")),)


def test_an_acl_is_kept_once_for_all_znodes_that_have_it_and_goes_with_the_last() -> None:
    tree = Tree()
    before = tree.acl_count
    for path in ("/a", "/b"):
        tree.apply(NodeCreated(path, b"", of(1)), 1, 0)
    assert node(tree, "/a").acl is node(tree, "/b").acl
    assert tree.acl_count == before + 1
    tree.apply(NodeDeleted("/a"), 2, 0)
    assert tree.acl_count == before + 1
    tree.apply(AclSet("/b", of(2)), 3, 0)
    assert tree.acl_count == before + 1
    tree.apply(AclSet("/b", of(2)), 4, 0)
    tree.apply(AclSet("/b", tuple(OPEN_ACL)), 5, 0)
    assert node(tree, "/b").acl is OPEN_ACL
    assert tree.acl_count == before
    tree.apply(NodeDeleted("/b"), 6, 0)
    assert tree.acl_count == before


def test_acls_of_short_lived_znodes_are_not_kept() -> None:
    tree = Tree()
    before = tree.acl_count
    for number in range(1000):
        tree.apply(NodeCreated("/a", b"", of(number)), 2 * number, 0)
        tree.apply(NodeDeleted("/a"), 2 * number + 1, 0)
    assert tree.acl_count == before


def test_acls_of_a_restored_tree_are_counted_as_before() -> None:
    state = State(100, 1)
    for path in ("/zookeeper/config", "/zookeeper/quota", "/"):
        state.tree.apply(AclSet(path, of(1)), 1, 0)
    for path in ("/a", "/b"):
        state.tree.apply(NodeCreated(path, b"", of(2)), 1, 0)
    snapshot = snapshot_of(state, b"secret")
    state.tree.apply(NodeDeleted("/a"), 2, 0)
    state.tree.apply(NodeDeleted("/b"), 3, 0)
    restored = restore(snapshot, 100, 1).tree
    assert restored.acl_count == 2
    assert node(restored, "/a").acl == of(2)
    for path in ("/a", "/b"):
        restored.apply(NodeDeleted(path), 4, 0)
    assert restored.acl_count == 1
    for path in ("/zookeeper/config", "/zookeeper/quota", "/"):
        restored.apply(AclSet(path, OPEN_ACL), 5, 0)
    assert restored.acl_count == 0


@pytest.mark.parametrize(
    ("number", "wrapped"), [(0, 0), (2147483647, 2147483647), (2147483648, -2147483648), (-2147483649, 2147483647)]
)
def test_counters_wrap_as_signed_32_bit_integers(number: int, wrapped: int) -> None:
    assert wrap32(number) == wrapped


def test_the_count_of_children_wraps() -> None:
    tree = Tree()
    create(tree, "/p")
    node(tree, "/p").created = 2147483647
    create(tree, "/p/x")
    assert node(tree, "/p").created == -2147483648
