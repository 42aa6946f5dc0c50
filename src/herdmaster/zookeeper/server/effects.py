"""The effects of a transaction whose checks have passed: deterministic changes that are applied, journalled and
replayed. A request is never evaluated twice: the effect of a sequential create, for example, has its final name."""

from __future__ import annotations

import msgspec

from herdmaster.zookeeper.model import Acl


class NodeCreated(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="create"):
    """A znode was created. `session_id` is the owner of an ephemeral, otherwise 0; `ttl` is in milliseconds, 0 for a
    znode without one."""

    path: str
    data: bytes | None
    acl: tuple[Acl, ...]
    session_id: int = 0
    ttl: int = 0
    container: bool = False


class NodeDeleted(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="delete"):
    path: str


class DataSet(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="data"):
    path: str
    data: bytes | None


class AclSet(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="acl"):
    path: str
    acl: tuple[Acl, ...]


class SessionOpened(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="open"):
    """A session was opened. `timeout` is in milliseconds, as negotiated when it began."""

    session_id: int
    timeout: int


class SessionClosed(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="close"):
    """A session was closed. Its ephemerals go with it."""

    session_id: int


NodeEffect = NodeCreated | NodeDeleted | DataSet | AclSet
Effect = NodeEffect | SessionOpened | SessionClosed


class Transaction(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What one zxid stands for. `effects` is empty if a request failed, which takes a zxid, too.

    `time` is the server's clock in unix milliseconds.
    """

    zxid: int
    time: int
    effects: tuple[Effect, ...] = ()
