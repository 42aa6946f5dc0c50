"""Who is told of an event, and what is armed again on a new connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.zookeeper.client.watches import REARM_LIMIT, Watcher, WatchRegistry, WatchTable, arming_packets
from herdmaster.zookeeper.model import EventType, WatchEvent
from herdmaster.zookeeper.wire.records import SetWatches2

DATA, EXIST, CHILD = WatchTable.DATA, WatchTable.EXIST, WatchTable.CHILD
PERSISTENT, RECURSIVE = WatchTable.PERSISTENT, WatchTable.RECURSIVE
CREATED, DELETED = EventType.CREATED, EventType.DELETED
DATA_CHANGED, CHILDREN_CHANGED = EventType.DATA_CHANGED, EventType.CHILDREN_CHANGED


def watcher_named(name: str) -> Watcher:
    def watcher(_event: WatchEvent) -> None:
        raise AssertionError(f"the registry must not call {name}")

    return watcher


ONE, TWO = watcher_named("one"), watcher_named("two")


@pytest.mark.parametrize(
    ("table", "kinds"),
    [
        (DATA, {CREATED, DATA_CHANGED, DELETED}),
        (EXIST, {CREATED, DATA_CHANGED, DELETED}),
        (CHILD, {DELETED, CHILDREN_CHANGED}),
        (PERSISTENT, {CREATED, DATA_CHANGED, DELETED, CHILDREN_CHANGED}),
        (RECURSIVE, {CREATED, DATA_CHANGED, DELETED}),
    ],
)
@pytest.mark.parametrize("kind", EventType)
def test_each_table_hears_of_its_own_events(table: WatchTable, kinds: set[EventType], kind: EventType) -> None:
    registry = WatchRegistry()
    registry.add(table, "/a", ONE)
    assert registry.fire(kind, "/a") == ([ONE] if kind in kinds else [])


@pytest.mark.parametrize("table", [DATA, EXIST, CHILD])
def test_a_one_shot_watch_fires_once(table: WatchTable) -> None:
    registry = WatchRegistry()
    registry.add(table, "/a", ONE)
    assert registry.fire(DELETED, "/a") == [ONE]
    assert registry.fire(DELETED, "/a") == []
    assert not registry.holds("/a")


@pytest.mark.parametrize("table", [PERSISTENT, RECURSIVE])
def test_a_persistent_watch_fires_until_it_is_removed(table: WatchTable) -> None:
    registry = WatchRegistry()
    registry.add(table, "/a", ONE)
    for kind in (CREATED, DELETED, CREATED):
        assert registry.fire(kind, "/a") == [ONE]
    assert registry.remove(table, "/a", ONE)
    assert registry.fire(CREATED, "/a") == []


def test_a_deletion_ends_every_one_shot_watch_of_the_path() -> None:
    registry = WatchRegistry()
    for table in (DATA, EXIST, CHILD):
        registry.add(table, "/a", ONE)
    registry.add(CHILD, "/a", TWO)
    assert registry.fire(DELETED, "/a") == [ONE, TWO]
    assert not registry.holds("/a")


def test_a_watcher_that_is_concerned_twice_is_told_once() -> None:
    registry = WatchRegistry()
    for table in (DATA, PERSISTENT, RECURSIVE):
        registry.add(table, "/a", ONE)
    registry.add(RECURSIVE, "/", ONE)
    registry.add(RECURSIVE, "/", TWO)
    assert registry.fire(DATA_CHANGED, "/a") == [ONE, TWO]


@pytest.mark.parametrize("root", ["/", "/a", "/a/b", "/a/b/c"])
def test_a_recursive_watch_covers_what_is_below_it(root: str) -> None:
    registry = WatchRegistry()
    registry.add(RECURSIVE, root, ONE)
    assert registry.fire(CREATED, "/a/b/c") == [ONE]


@pytest.mark.parametrize("path", ["/ab", "/ab/c", "/", "/b/a"])
def test_a_recursive_watch_ends_at_a_segment(path: str) -> None:
    registry = WatchRegistry()
    registry.add(RECURSIVE, "/a", ONE)
    assert registry.fire(CREATED, path) == []


def test_a_recursive_watch_added_or_removed_later_counts_for_a_folder_that_has_been_seen() -> None:
    registry = WatchRegistry()
    registry.add(RECURSIVE, "/a", ONE)
    assert registry.fire(CREATED, "/a/b/c") == [ONE]
    registry.add(RECURSIVE, "/a/b", TWO)
    assert set(registry.fire(CREATED, "/a/b/c")) == {ONE, TWO}
    registry.remove(RECURSIVE, "/a", ONE)
    assert registry.fire(CREATED, "/a/b/c") == [TWO]


@given(st.text("/ab", max_size=8), st.sampled_from(EventType))
def test_a_path_that_no_server_would_send_harms_nothing(path: str, kind: EventType) -> None:
    registry = WatchRegistry()
    registry.add(RECURSIVE, "/", ONE)
    assert registry.fire(kind, path) == ([] if kind is CHILDREN_CHANGED else [ONE])


def test_a_watcher_may_be_any_callable() -> None:
    class Unhashable:
        def __eq__(self, other: object) -> bool:
            return self is other

        __hash__ = None  # type: ignore[assignment]  # as a class with an `__eq__` of its own

        def __call__(self, event: WatchEvent) -> None: ...

    first, second = Unhashable(), Unhashable()
    registry = WatchRegistry()
    for table in (DATA, PERSISTENT, RECURSIVE):
        registry.add(table, "/a", first)
        registry.add(table, "/a", second)
    assert registry.fire(DATA_CHANGED, "/a") == [first, second]


def test_the_same_watcher_added_twice_is_armed_once() -> None:
    registry = WatchRegistry()
    registry.add(PERSISTENT, "/a", ONE)
    registry.add(PERSISTENT, "/a", ONE)
    assert registry.remove(PERSISTENT, "/a", ONE)
    assert not registry.remove(PERSISTENT, "/a", ONE)
    assert not registry.holds("/a")


def test_removing_one_watcher_leaves_the_other() -> None:
    registry = WatchRegistry()
    registry.add(PERSISTENT, "/a", ONE)
    registry.add(PERSISTENT, "/a", TWO)
    assert registry.remove(PERSISTENT, "/a", ONE)
    assert registry.holds("/a")
    assert registry.fire(CREATED, "/a") == [TWO]


def test_a_path_is_held_by_a_watch_of_any_kind() -> None:
    for table in WatchTable:
        registry = WatchRegistry()
        assert not registry.holds("/a")
        registry.add(table, "/a", ONE)
        assert registry.holds("/a")


def watches_of(packet: SetWatches2) -> Iterator[tuple[WatchTable, str]]:
    lists = (packet.data, packet.exist, packet.child, packet.persistent, packet.recursive)
    for table, paths in zip(WatchTable, lists, strict=True):
        yield from ((table, path) for path in paths)


def test_nothing_armed_needs_no_packet() -> None:
    assert WatchRegistry().rearm(7) == []


def test_each_watch_goes_into_the_list_of_its_table() -> None:
    registry = WatchRegistry()
    for table in WatchTable:
        registry.add(table, f"/{table.value}", ONE)
    assert registry.rearm(7) == [
        SetWatches2(7, ("/data",), ("/exist",), ("/child",), ("/persistent",), ("/recursive",))
    ]


def test_a_watch_that_fired_is_not_armed_again() -> None:
    registry = WatchRegistry()
    registry.add(DATA, "/a", ONE)
    registry.add(PERSISTENT, "/b", ONE)
    registry.fire(DATA_CHANGED, "/a")
    registry.fire(DATA_CHANGED, "/b")
    assert registry.rearm(7) == [SetWatches2(7, (), (), (), ("/b",), ())]


@given(st.lists(st.tuples(st.sampled_from(WatchTable), st.text("/aé漢", min_size=1, max_size=30)), max_size=60))
def test_the_packets_hold_every_watch_once_and_in_bounds(watches: list[tuple[WatchTable, str]]) -> None:
    blow_up = [(table, path * 700) for table, path in watches]
    packets = list(arming_packets(blow_up, 3))
    assert sorted((table.value, path) for packet in packets for table, path in watches_of(packet)) == sorted(
        (table.value, path) for table, path in blow_up
    )
    for packet in packets:
        assert packet.relative_zxid == 3
        assert sum(4 + len(path.encode()) for _, path in watches_of(packet)) <= REARM_LIMIT


def test_a_path_longer_than_a_packet_goes_alone() -> None:
    long = "/" + "a" * REARM_LIMIT
    packets = list(arming_packets([(DATA, "/a"), (DATA, long), (DATA, "/b")], 1))
    assert [packet.data for packet in packets] == [("/a",), (long,), ("/b",)]
