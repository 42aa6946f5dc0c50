"""The tables of watches."""

from __future__ import annotations

from herdmaster.zookeeper.model import WatcherType
from herdmaster.zookeeper.server.watches import Watches


def test_a_one_shot_watch_is_used_up() -> None:
    watches: Watches[str] = Watches()
    watches.data.add("/n", "a")
    assert list(watches.node_changed("/n")) == ["a"]
    assert list(watches.node_changed("/n")) == []
    assert len(watches) == 0


def test_the_same_watch_twice_is_one() -> None:
    watches: Watches[str] = Watches()
    watches.data.add("/n", "a")
    watches.data.add("/n", "a")
    assert len(watches) == 1
    assert list(watches.node_changed("/n")) == ["a"]


def test_a_deletion_tells_a_watcher_of_both_tables_once_and_uses_both_up() -> None:
    watches: Watches[str] = Watches()
    watches.data.add("/n", "a")
    watches.child.add("/n", "a")
    watches.child.add("/n", "b")
    assert list(watches.node_changed("/n", deleted=True)) == ["a", "b"]
    assert len(watches) == 0


def test_a_persistent_watch_hears_of_the_node_and_of_its_children_and_stays() -> None:
    watches: Watches[str] = Watches()
    watches.persistent.add("/n", "a")
    for _ in range(2):
        assert list(watches.node_changed("/n")) == ["a"]
        assert list(watches.children_changed("/n")) == ["a"]
    assert list(watches.node_changed("/n/x")) == []


def test_a_recursive_watch_hears_of_descendants_at_segment_boundaries_and_never_of_children() -> None:
    watches: Watches[str] = Watches()
    watches.recursive.add("/n", "a")
    assert list(watches.node_changed("/n")) == ["a"]
    assert list(watches.node_changed("/n/x/y")) == ["a"]
    assert list(watches.node_changed("/nn")) == []
    assert list(watches.node_changed("/")) == []
    assert list(watches.children_changed("/n")) == []


def test_a_recursive_watch_on_the_root_hears_of_everything() -> None:
    watches: Watches[str] = Watches()
    watches.recursive.add("/", "a")
    assert list(watches.node_changed("/")) == ["a"]
    assert list(watches.node_changed("/x")) == ["a"]
    assert list(watches.node_changed("/x/y")) == ["a"]


def test_several_modes_on_a_path_stand_side_by_side_and_give_one_event() -> None:
    watches: Watches[str] = Watches()
    watches.recursive.add("/n", "a")
    watches.recursive.add("/", "a")
    watches.persistent.add("/n", "a")
    watches.data.add("/n", "a")
    assert list(watches.node_changed("/n")) == ["a"]
    assert list(watches.node_changed("/n")) == ["a"]
    assert len(watches) == 3


def test_types_1_and_2_remove_one_shot_watches_only() -> None:
    watches: Watches[str] = Watches()
    watches.persistent.add("/n", "a")
    watches.child.add("/n", "a")
    assert not watches.remove("/n", WatcherType.DATA, "a")
    assert watches.remove("/n", WatcherType.CHILDREN, "a")
    assert watches.holds("/n", WatcherType.PERSISTENT, "a")
    assert not watches.remove("/n", WatcherType.PERSISTENT_RECURSIVE, "a")
    assert watches.remove("/n", WatcherType.PERSISTENT, "a")


def test_any_removes_every_watch_of_this_watcher_on_this_path() -> None:
    watches: Watches[str] = Watches()
    for table in (watches.data, watches.child, watches.persistent, watches.recursive):
        table.add("/n", "a")
        table.add("/n", "b")
        table.add("/m", "a")
    assert watches.remove("/n", WatcherType.ANY, "a")
    assert not watches.holds("/n", WatcherType.ANY, "a")
    assert watches.holds("/n", WatcherType.ANY, "b")
    assert watches.holds("/m", WatcherType.ANY, "a")
    assert not watches.remove("/n", WatcherType.ANY, "a")


def test_a_watcher_that_is_gone_leaves_nothing_behind() -> None:
    watches: Watches[str] = Watches()
    for table in (watches.data, watches.child, watches.persistent, watches.recursive):
        table.add("/n", "a")
    watches.drop("a")
    assert len(watches) == 0
    assert not watches.data.by_path
    assert not watches.recursive.by_path


def test_watchers_hear_in_the_order_in_which_they_asked() -> None:
    watches: Watches[str] = Watches()
    names = [f"w{index}" for index in range(50)]
    for name in names:
        watches.data.add("/n", name)
    assert list(watches.node_changed("/n")) == names
