"""The tree of znodes that the embedded server holds.

Pure: the same effects give the same tree, and iteration follows the order of creation.

A znode keeps C, the number of children ever created in it. On the wire its cversion is 2C - numChildren, and the
suffix of a sequential child is C before the create.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from herdmaster.zookeeper.model import OPEN_ACL, READ_ONLY_ACL, Acl, EventType, Stat
from herdmaster.zookeeper.server.effects import DataSet, NodeCreated, NodeDeleted, NodeEffect

SPECIAL_PATHS: Final = frozenset({"/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"})
"""Znodes that are always there and cannot be deleted."""


def wrap32(number: int) -> int:
    """Return the number as a signed int32, which the counters of a znode are."""
    return (number + 0x80000000 & 0xFFFFFFFF) - 0x80000000


class Znode(msgspec.Struct, gc=False):
    data: bytes | None
    acl: tuple[Acl, ...]
    czxid: int = 0
    mzxid: int = 0
    pzxid: int = 0
    ctime: int = 0
    mtime: int = 0
    version: int = 0
    aversion: int = 0
    created: int = 0
    """C: how many children were ever created here."""
    session_id: int = 0
    ttl: int = 0
    container: bool = False
    children: dict[str, None] | None = None
    """Names, in the order of creation; None until the first child."""

    @property
    def num_children(self) -> int:
        return len(self.children) if self.children else 0

    def stat(self) -> Stat:
        count = len(self.children) if self.children else 0
        return Stat(
            self.czxid,
            self.mzxid,
            self.ctime,
            self.mtime,
            self.version,
            wrap32(2 * self.created - count),
            self.aversion,
            self.session_id,
            len(self.data) if self.data is not None else 0,
            count,
            self.pzxid,
        )


class Change(msgspec.Struct, frozen=True, gc=False):
    """A change that watchers may be told of. `acl` is that of the znode, `parent_acl` that of its parent: they say who
    may be told."""

    type: EventType
    path: str
    acl: tuple[Acl, ...]
    parent_acl: tuple[Acl, ...]


class AclTable:
    """The ACLs of all znodes. Equal ones are one object, kept for as long as a znode has it. The open one is always
    there."""

    def __init__(self) -> None:
        self._uses: dict[tuple[Acl, ...], _Uses] = {}

    def __len__(self) -> int:
        return len(self._uses)

    def take(self, acl: tuple[Acl, ...]) -> tuple[Acl, ...]:
        """Return the shared ACL for one more znode."""
        if acl is OPEN_ACL or acl == OPEN_ACL:
            return OPEN_ACL
        uses = self._uses.get(acl)
        if uses is None:
            uses = self._uses[acl] = _Uses(acl)
        uses.count += 1
        return uses.acl

    def release(self, acl: tuple[Acl, ...]) -> None:
        """Note that one znode fewer has it."""
        if acl is OPEN_ACL:
            return
        uses = self._uses[acl]
        uses.count -= 1
        if not uses.count:
            del self._uses[acl]


class _Uses(msgspec.Struct):
    acl: tuple[Acl, ...]
    count: int = 0


def parent_key(path: str) -> str:
    """Return the parent's key in the tree; "" is the root's second key, as in ZooKeeper."""
    return path[: path.rindex("/")]


class Tree:
    def __init__(self) -> None:
        root = Znode(b"", OPEN_ACL)
        # "" is an alias of "/" in every look-up of the protocol, so the root has two keys.
        self._nodes: dict[str, Znode] = {"": root, "/": root}
        self._ephemerals: dict[int, dict[str, None]] = {}
        self._sweepable: dict[str, None] = {}
        self._acls = AclTable()
        self._data_size = 0
        self._plant("/zookeeper", Znode(b"", OPEN_ACL))
        self._plant("/zookeeper/config", Znode(b"", READ_ONLY_ACL, aversion=-1))
        self._plant("/zookeeper/quota", Znode(b"", OPEN_ACL))

    def find(self, path: str) -> Znode | None:
        return self._nodes.get(path)

    def __len__(self) -> int:
        """ZooKeeper counts both keys of the root, and so does `Node count` of its four-letter words."""
        return len(self._nodes)

    def items(self) -> Iterator[tuple[str, Znode]]:
        """Yield every znode once, parents before children, siblings in the order of creation."""
        return ((path, node) for path, node in self._nodes.items() if path)

    def children_of(self, path: str) -> tuple[str, ...]:
        children = self._nodes[path].children
        return tuple(children) if children else ()

    def count_descendants(self, path: str) -> int:
        """Return the number of znodes below a path. ZooKeeper counts "/" among the descendants of ""."""
        pending, count = ["" if path == "/" else path], 0 if path else 1
        while pending:
            parent = pending.pop()
            names = self.children_of(parent)
            count += len(names)
            pending.extend(f"{parent}/{name}" for name in names)
        return count

    def ephemerals_of(self, session_id: int) -> tuple[str, ...]:
        return tuple(self._ephemerals.get(session_id, ()))

    @property
    def ephemerals(self) -> dict[int, tuple[str, ...]]:
        """The ephemerals of every session that has some."""
        return {session_id: tuple(paths) for session_id, paths in self._ephemerals.items()}

    @property
    def acl_count(self) -> int:
        """The number of different ACLs, without the open one."""
        return len(self._acls)

    @property
    def data_size(self) -> int:
        """Bytes of data and of paths, roughly what the tree holds."""
        return self._data_size

    def expired_paths(self, unix_ms: int) -> list[str]:
        """Return the containers that had a child and are empty, and the childless znodes that outlived their time to
        live."""
        found = []
        for path in self._sweepable:
            node = self._nodes[path]
            if node.num_children:
                continue
            if node.created > 0 if node.container else unix_ms - node.mtime > node.ttl:
                found.append(path)
        return found

    def apply(self, effect: NodeEffect, zxid: int, time: int) -> Change | None:
        """Apply an effect, which must fit the tree: its checks have passed. Return the changes that watchers should be
        told of; a new ACL is none."""
        if isinstance(effect, NodeCreated):
            return self._create(effect, zxid, time)
        if isinstance(effect, DataSet):
            return self._set_data(effect, zxid, time)
        if isinstance(effect, NodeDeleted):
            return self._delete(effect.path, zxid)
        node = self._nodes[effect.path]
        self._acls.release(node.acl)
        node.acl = self._acls.take(effect.acl)
        node.aversion = wrap32(node.aversion + 1)
        return None

    def restore(self, path: str, node: Znode) -> None:
        """Put back a znode of a snapshot as it was; parents come before their children."""
        node.acl = self._acls.take(node.acl)
        if path in SPECIAL_PATHS:
            known = self._nodes[path]
            self._acls.release(known.acl)
            for field in ("data", "acl", "mzxid", "pzxid", "mtime", "version", "aversion", "created"):
                setattr(known, field, getattr(node, field))
        else:
            self._attach(path, node, self._nodes[parent_key(path)])

    def _plant(self, path: str, node: Znode) -> None:
        node.acl = self._acls.take(node.acl)
        self._attach(path, node, self._nodes[parent_key(path)])

    def _create(self, effect: NodeCreated, zxid: int, time: int) -> Change:
        path = effect.path
        acl = self._acls.take(effect.acl)
        node = Znode(effect.data, acl, zxid, zxid, zxid, time, time)
        node.session_id = effect.session_id
        node.ttl = effect.ttl
        node.container = effect.container
        parent = self._nodes[parent_key(path)]
        parent.created = wrap32(parent.created + 1)
        parent.pzxid = zxid
        self._attach(path, node, parent)
        return Change(EventType.CREATED, path, acl, parent.acl)

    def _attach(self, path: str, node: Znode, parent: Znode) -> None:
        self._nodes[path] = node
        if parent.children is None:
            parent.children = {}
        parent.children[path[path.rindex("/") + 1 :]] = None
        if node.session_id:
            self._ephemerals.setdefault(node.session_id, {})[path] = None
        if node.container or node.ttl:
            self._sweepable[path] = None
        self._data_size += len(path) + len(node.data or b"")

    def _set_data(self, effect: DataSet, zxid: int, time: int) -> Change:
        path = effect.path
        node = self._nodes[path]
        self._data_size += len(effect.data or b"") - len(node.data or b"")
        node.data = effect.data
        node.version = wrap32(node.version + 1)
        node.mzxid = zxid
        node.mtime = time
        return Change(EventType.DATA_CHANGED, path, node.acl, node.acl)

    def _delete(self, path: str, zxid: int) -> Change:
        node = self._nodes.pop(path)
        parent = self._nodes[parent_key(path)]
        if parent.children is not None:
            del parent.children[path[path.rindex("/") + 1 :]]
        parent.pzxid = zxid
        if node.session_id:
            owned = self._ephemerals[node.session_id]
            del owned[path]
            if not owned:
                del self._ephemerals[node.session_id]
        if node.container or node.ttl:
            del self._sweepable[path]
        self._data_size -= len(path) + len(node.data or b"")
        self._acls.release(node.acl)
        return Change(EventType.DELETED, path, node.acl, parent.acl)
