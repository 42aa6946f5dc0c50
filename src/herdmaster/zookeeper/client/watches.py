"""The watches that a session has armed, and the watchers of each. Bookkeeping without I/O, full paths only."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence

from herdmaster.zookeeper.model import EventType, WatchEvent
from herdmaster.zookeeper.wire.records import SetWatches2

Watcher = Callable[[WatchEvent], None]
"""Called in the order of the wire, before any reply that shows the change. It must not block."""

REARM_LIMIT = 128 * 1024
"""Bytes of paths in one setWatches packet: a larger one can make the server close, again and again (ZOOKEEPER-706)."""

_MAX_COVERING = 10_000
_CHILDREN_CHANGED = EventType.CHILDREN_CHANGED


class WatchTable(enum.Enum):
    """The kind of a watch. The server has the same tables, except that DATA and EXIST are one there."""

    DATA = "data"
    EXIST = "exist"
    CHILD = "child"
    PERSISTENT = "persistent"
    RECURSIVE = "recursive"


class WatchRegistry:
    """The watchers by kind and path. One-shot watches leave when they fire; persistent ones stay until removed."""

    def __init__(self) -> None:
        self._tables: dict[WatchTable, dict[str, list[Watcher]]] = {table: {} for table in WatchTable}
        data, exist, child = (self._tables[table] for table in (WatchTable.DATA, WatchTable.EXIST, WatchTable.CHILD))
        # By event type, which starts at 1. Every event of a busy folder passes here, so each step is a plain look-up.
        self._one_shot = ((), (data, exist), (data, exist, child), (data, exist), (child,))
        self._persistent = self._tables[WatchTable.PERSISTENT]
        self._recursive = self._tables[WatchTable.RECURSIVE]
        self._covering: dict[str, list[Watcher]] = {}  # folder: the recursive watchers of its children

    def add(self, table: WatchTable, path: str, watcher: Watcher) -> None:
        watchers = self._tables[table].setdefault(path, [])
        if watcher not in watchers:
            watchers.append(watcher)
            self._covering.clear()

    def holds(self, path: str) -> bool:
        """Return whether a watch of any kind is armed for the path."""
        return any(path in paths for paths in self._tables.values())

    def remove(self, table: WatchTable, path: str, watcher: Watcher) -> bool:
        """Forget the watcher. Return whether it was there."""
        watchers = self._tables[table].get(path)
        if watchers is None or watcher not in watchers:
            return False
        self._covering.clear()
        watchers.remove(watcher)
        if not watchers:
            del self._tables[table][path]
        return True

    def fire(self, kind: EventType, path: str) -> Sequence[Watcher]:
        """Return the watchers of an event, each once, and remove the one-shot watches. One event of the wire may
        concern both a persistent and a one-shot watch."""
        found: list[Watcher] = []
        for table in self._one_shot[kind]:
            if path in table:
                found += table.pop(path)
        if path in self._persistent:
            found += self._persistent[path]
        # Recursive watches have no children events (ZOOKEEPER-4475): one that arrives belongs to another watch.
        if self._recursive and kind is not _CHILDREN_CHANGED:
            if path in self._recursive:
                found += self._recursive[path]
            folder = path[: path.rfind("/")]
            covering = self._covering.get(folder)
            if covering is None:
                covering = self._find_covering(folder)
            if not found:
                return covering
            found += covering
        return _each_once(found) if len(found) > 1 else found

    def _find_covering(self, folder: str) -> list[Watcher]:
        if len(self._covering) > _MAX_COVERING:
            self._covering.clear()
        watchers = list(self._recursive.get(folder or "/", ()))
        if folder:
            # Most folders are new ones in a folder that is covered already: what covers that one is found at once.
            parent = folder[: folder.rfind("/")]
            above = self._covering.get(parent)
            above = self._find_covering(parent) if above is None else above
            watchers = _each_once([*watchers, *above]) if watchers else above
        self._covering[folder] = watchers
        return watchers

    def rearm(self, relative_zxid: int) -> list[SetWatches2]:
        """Return the packets that arm everything again on a new connection."""
        return list(
            arming_packets(((table, path) for table, paths in self._tables.items() for path in paths), relative_zxid)
        )


def _each_once(watchers: list[Watcher]) -> list[Watcher]:
    # Compared, not hashed: a watcher may be any callable.
    return [watcher for index, watcher in enumerate(watchers) if watcher not in watchers[:index]]


def arming_packets(watches: Iterable[tuple[WatchTable, str]], relative_zxid: int) -> Iterator[SetWatches2]:
    """Yield packets that arm the watches, each of at most REARM_LIMIT bytes of paths (or of one path)."""
    batch: dict[WatchTable, list[str]] = {table: [] for table in WatchTable}
    size = 0
    for table, path in watches:
        cost = 4 + len(path.encode())
        if size and size + cost > REARM_LIMIT:
            yield _packet(relative_zxid, batch)
            batch = {table: [] for table in WatchTable}
            size = 0
        batch[table].append(path)
        size += cost
    if size:
        yield _packet(relative_zxid, batch)


def _packet(relative_zxid: int, batch: dict[WatchTable, list[str]]) -> SetWatches2:
    return SetWatches2(relative_zxid, *(tuple(batch[table]) for table in WatchTable))
