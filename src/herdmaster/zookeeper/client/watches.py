"""The watches that a session has armed, and who is told when one fires. Pure bookkeeping, full paths only."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator

from herdmaster.zookeeper.model import EventType, WatchEvent
from herdmaster.zookeeper.wire.records import SetWatches2

Watcher = Callable[[WatchEvent], None]
"""Called in the order of the wire, before any reply that shows the change. It must not block."""

REARM_LIMIT = 128 * 1024
"""Bytes of paths in one setWatches packet: a larger one can make the server close, again and again (ZOOKEEPER-706)."""


class WatchTable(enum.Enum):
    """Where a watch is kept; the server has the same tables, DATA and EXIST being one there."""

    DATA = "data"
    EXIST = "exist"
    CHILD = "child"
    PERSISTENT = "persistent"
    RECURSIVE = "recursive"


_ONE_SHOT_TABLES = {
    EventType.CREATED: (WatchTable.DATA, WatchTable.EXIST),
    EventType.DATA_CHANGED: (WatchTable.DATA, WatchTable.EXIST),
    EventType.DELETED: (WatchTable.DATA, WatchTable.EXIST, WatchTable.CHILD),
    EventType.CHILDREN_CHANGED: (WatchTable.CHILD,),
}


class WatchRegistry:
    """One-shot watches leave when they fire; persistent ones stay until removed."""

    def __init__(self) -> None:
        self._tables: dict[WatchTable, dict[str, list[Watcher]]] = {table: {} for table in WatchTable}

    def add(self, table: WatchTable, path: str, watcher: Watcher) -> None:
        watchers = self._tables[table].setdefault(path, [])
        if watcher not in watchers:
            watchers.append(watcher)

    def remove(self, table: WatchTable, path: str, watcher: Watcher) -> bool:
        """Forgets the watcher; True when it was the last one of that path in the table."""
        watchers = self._tables[table].get(path)
        if watchers is None or watcher not in watchers:
            return False
        watchers.remove(watcher)
        if watchers:
            return False
        del self._tables[table][path]
        return True

    def fire(self, kind: EventType, path: str) -> list[Watcher]:
        """Whom an event concerns, each once. A persistent and a one-shot watch may both want one event of the wire."""
        found: list[Watcher] = []
        for table in _ONE_SHOT_TABLES[kind]:
            found += self._tables[table].pop(path, ())
        found += self._tables[WatchTable.PERSISTENT].get(path, ())
        # Recursive watches have no children events of their own (ZOOKEEPER-4475): one that arrives is somebody else's.
        if self._tables[WatchTable.RECURSIVE] and kind is not EventType.CHILDREN_CHANGED:
            for ancestor in _with_ancestors(path):
                found += self._tables[WatchTable.RECURSIVE].get(ancestor, ())
        return found if len(found) < 2 else list(dict.fromkeys(found))

    def rearm(self, relative_zxid: int) -> list[SetWatches2]:
        """The packets that arm everything again on a new connection, each of at most about 128 KiB."""
        packets: list[SetWatches2] = []
        batch: dict[WatchTable, list[str]] = {table: [] for table in WatchTable}
        size = 0
        for table, paths in self._tables.items():
            for path in paths:
                cost = 4 + len(path.encode())
                if size and size + cost > REARM_LIMIT:
                    packets.append(_packet(relative_zxid, batch))
                    batch = {table: [] for table in WatchTable}
                    size = 0
                batch[table].append(path)
                size += cost
        if size:
            packets.append(_packet(relative_zxid, batch))
        return packets


def _packet(relative_zxid: int, batch: dict[WatchTable, list[str]]) -> SetWatches2:
    return SetWatches2(relative_zxid, *(tuple(batch[table]) for table in WatchTable))


def _with_ancestors(path: str) -> Iterator[str]:
    yield path
    end = path.rfind("/")
    while end > 0:
        yield path[:end]
        end = path.rfind("/", 0, end)
    if path != "/":
        yield "/"
