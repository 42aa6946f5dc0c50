"""The whole state as it was after one transaction, and its file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from herdmaster.zookeeper.model import Acl
from herdmaster.zookeeper.server.blocks import Fault, block, header, read_blocks, seed_of
from herdmaster.zookeeper.server.state import State
from herdmaster.zookeeper.server.tree import Znode

_BATCH: Final = 1 << 20


class NodeRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    path: str
    data: bytes | None
    acl: tuple[Acl, ...]
    czxid: int
    mzxid: int
    pzxid: int
    ctime: int
    mtime: int
    version: int
    aversion: int
    created: int
    session_id: int
    ttl: int
    container: bool


class SessionRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    id: int
    timeout: int


class Heading(msgspec.Struct, frozen=True, array_like=True):
    """The first block; `count` says how many znodes follow. `secret` makes the passwords of the sessions."""

    zxid: int
    secret: bytes
    next_session_id: int
    sessions: tuple[SessionRecord, ...]
    count: int


class Snapshot(msgspec.Struct, frozen=True):
    heading: Heading
    nodes: tuple[NodeRecord, ...]
    """Parents before their children, siblings in the order of creation."""

    @property
    def zxid(self) -> int:
        return self.heading.zxid


def snapshot_of(state: State, secret: bytes) -> Snapshot:
    nodes = tuple(
        NodeRecord(
            path,
            node.data,
            node.acl,
            node.czxid,
            node.mzxid,
            node.pzxid,
            node.ctime,
            node.mtime,
            node.version,
            node.aversion,
            node.created,
            node.session_id,
            node.ttl,
            node.container,
        )
        for path, node in state.tree.items()
    )
    sessions = tuple(SessionRecord(session.id, session.timeout) for session in state.sessions.all())
    return Snapshot(Heading(state.zxid, secret, state.sessions.next_id, sessions, len(nodes)), nodes)


def restore(snapshot: Snapshot, tick: int, next_session_id: int) -> State:
    """Return a state like the one of the snapshot. Session ids go on from the higher of the two."""
    heading = snapshot.heading
    state = State(tick, max(heading.next_session_id, next_session_id), heading.zxid)
    for session in heading.sessions:
        state.sessions.open(session.id, session.timeout)
    for record in snapshot.nodes:
        path, data, acl, *rest = msgspec.structs.astuple(record)
        state.tree.restore(path, Znode(data, acl, *rest))
    return state


UNFINISHED: Final = ".tmp"
"""The end of a snapshot's name until it is complete."""


def write_snapshot(snapshot: Snapshot, path: Path, salt: bytes) -> Path:
    """Write the snapshot completely and durably, under the name with UNFINISHED, which is returned. The caller renames
    it and makes the folder durable. Raises OSError."""
    temporary = path.with_name(path.name + UNFINISHED)
    temporary.touch(mode=0o600)
    with temporary.open("wb") as file:
        head = header(salt)
        seed = seed_of(head)
        file.write(head)
        file.write(block(msgspec.msgpack.encode(snapshot.heading), seed))
        file.writelines(block(msgspec.msgpack.encode(batch), seed) for batch in _batches(snapshot.nodes))
        file.flush()
        os.fsync(file.fileno())
    return temporary


def read_snapshot(path: Path) -> Snapshot:
    """Read a snapshot. Raises Fault if it is incomplete or damaged."""
    blocks = read_blocks(path)
    nodes: list[NodeRecord] = []
    at = 0
    try:
        at, first = next(blocks)
        heading = msgspec.msgpack.decode(first, type=Heading)
        for offset, payload in blocks:
            at = offset
            nodes += _NODES.decode(payload)
    except (msgspec.DecodeError, StopIteration):
        raise Fault(at, is_tail=False) from None
    if len(nodes) != heading.count:
        raise Fault(path.stat().st_size, is_tail=False)
    return Snapshot(heading, tuple(nodes))


def _batches(nodes: tuple[NodeRecord, ...]) -> Iterator[list[NodeRecord]]:
    """Yield blocks of about a mebibyte, so that encoding never holds the interpreter for long."""
    batch: list[NodeRecord] = []
    size = 0
    for node in nodes:
        batch.append(node)
        size += len(node.path) + len(node.data or b"") + 100
        if size > _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


_NODES: Final = msgspec.msgpack.Decoder(list[NodeRecord])
