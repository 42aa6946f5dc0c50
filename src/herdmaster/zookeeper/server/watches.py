"""The watches of all connections, with the semantics of ZooKeeper 3.9: one-shot, persistent and recursive watches of
one connection on one path exist side by side, and none replaces another (before ZOOKEEPER-4466 the newest mode replaced
the others).

Pure, and generic in the watcher: anything hashable. Dicts serve as sets that keep their order.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Generic, TypeVar

from herdmaster.zookeeper.model import WatcherType

W = TypeVar("W", bound=Hashable)


class Table(Generic[W]):
    """Watchers by path and paths by watcher."""

    def __init__(self) -> None:
        self.by_path: dict[str, dict[W, None]] = {}
        self.by_watcher: dict[W, dict[str, None]] = {}

    def add(self, path: str, watcher: W) -> None:
        self.by_path.setdefault(path, {})[watcher] = None
        self.by_watcher.setdefault(watcher, {})[path] = None

    def holds(self, path: str, watcher: W) -> bool:
        return watcher in self.by_path.get(path, ())

    def discard(self, path: str, watcher: W) -> bool:
        if not self.holds(path, watcher):
            return False
        self._forget(self.by_path, path, watcher)
        self._forget(self.by_watcher, watcher, path)
        return True

    def take(self, path: str) -> Collection[W]:
        """Remove and return the watchers of a path."""
        watchers = self.by_path.pop(path, None)
        if watchers is None:
            return ()
        for watcher in watchers:
            self._forget(self.by_watcher, watcher, path)
        return watchers

    def drop(self, watcher: W) -> None:
        for path in self.by_watcher.pop(watcher, ()):
            self._forget(self.by_path, path, watcher)

    def __len__(self) -> int:
        return sum(len(paths) for paths in self.by_watcher.values())

    @staticmethod
    def _forget(index: dict[A, dict[B, None]], key: A, value: B) -> None:
        entries = index[key]
        del entries[value]
        if not entries:
            del index[key]


A = TypeVar("A", bound=Hashable)
B = TypeVar("B", bound=Hashable)


class Watches(Generic[W]):
    def __init__(self) -> None:
        self.data: Table[W] = Table()
        self.child: Table[W] = Table()
        self.persistent: Table[W] = Table()
        self.recursive: Table[W] = Table()

    def drop(self, watcher: W) -> None:
        """Remove all watches of a watcher that is gone."""
        for table in (self.data, self.child, self.persistent, self.recursive):
            table.drop(watcher)

    def node_changed(self, path: str, *, deleted: bool = False) -> Collection[W]:
        """Return the watchers to tell that a znode was created, changed or deleted, each once. One-shot watches are
        removed.

        A deletion removes the child watches of the znode, too; a watcher in both tables is returned once.
        """
        found: dict[W, None] = dict.fromkeys(self.data.take(path))
        if self.persistent.by_path:
            found.update(self.persistent.by_path.get(path, {}))
        if self.recursive.by_path:
            self._add_recursive(path, found)
        if deleted:
            found.update(dict.fromkeys(self.child.take(path)))
        return found

    def children_changed(self, path: str) -> Collection[W]:
        """Return the watchers to tell that a znode's children changed: never a recursive watch (ZOOKEEPER-4475)."""
        found: dict[W, None] = dict.fromkeys(self.child.take(path))
        if self.persistent.by_path:
            found.update(self.persistent.by_path.get(path, {}))
        return found

    def holds(self, path: str, kind: WatcherType, watcher: W) -> bool:
        return any(table.holds(path, watcher) for table in self._tables(kind))

    def remove(self, path: str, kind: WatcherType, watcher: W) -> bool:
        """Remove a watch. Return whether there was one. Types 1 and 2 mean one-shot watches only (ZOOKEEPER-4471)."""
        removed = [table.discard(path, watcher) for table in self._tables(kind)]
        return any(removed)

    def __len__(self) -> int:
        return len(self.data) + len(self.child) + len(self.persistent) + len(self.recursive)

    def _tables(self, kind: WatcherType) -> tuple[Table[W], ...]:
        if kind is WatcherType.CHILDREN:
            return (self.child,)
        if kind is WatcherType.DATA:
            return (self.data,)
        if kind is WatcherType.PERSISTENT:
            return (self.persistent,)
        if kind is WatcherType.PERSISTENT_RECURSIVE:
            return (self.recursive,)
        return (self.data, self.child, self.persistent, self.recursive)

    def _add_recursive(self, path: str, found: dict[W, None]) -> None:
        """Add the recursive watchers of the path and of every ancestor: `/n` is one of `/n/a`, not of `/nn`."""
        table = self.recursive.by_path
        found.update(table.get(path, {}))
        end = path.rfind("/")
        while end > 0:
            found.update(table.get(path[:end], {}))
            end = path.rfind("/", 0, end)
        if path != "/":
            found.update(table.get("/", {}))
