"""The types of ZooKeeper that client, server and wire share."""

from __future__ import annotations

import enum
from typing import Final

import msgspec


class Stat(msgspec.Struct, frozen=True, gc=False):
    """The stat of a znode, in the order of the wire. Times are unix milliseconds of the server's clock."""

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    data_length: int
    num_children: int
    pzxid: int


class Permission(enum.IntFlag):
    READ = 1
    WRITE = 2
    CREATE = 4
    DELETE = 8
    ADMIN = 16
    ALL = 31


class Id(msgspec.Struct, frozen=True, gc=False):
    """An identity: a scheme (`world`, `auth`, `digest`, `ip`) and an id within it."""

    scheme: str
    id: str


class Acl(msgspec.Struct, frozen=True, gc=False):
    """An entry of an ACL: what an identity may do. `permissions` is a sum of `Permission` values."""

    permissions: int
    id: Id


OPEN_ACL: Final = (Acl(int(Permission.ALL), Id("world", "anyone")),)
CREATOR_ALL_ACL: Final = (Acl(int(Permission.ALL), Id("auth", "")),)
READ_ONLY_ACL: Final = (Acl(int(Permission.READ), Id("world", "anyone")),)


class CreateMode(enum.IntEnum):
    """The flags of a create request."""

    PERSISTENT = 0
    EPHEMERAL = 1
    PERSISTENT_SEQUENTIAL = 2
    EPHEMERAL_SEQUENTIAL = 3
    CONTAINER = 4
    PERSISTENT_TTL = 5
    PERSISTENT_SEQUENTIAL_TTL = 6

    @property
    def is_sequential(self) -> bool:
        return self in (
            CreateMode.PERSISTENT_SEQUENTIAL,
            CreateMode.EPHEMERAL_SEQUENTIAL,
            CreateMode.PERSISTENT_SEQUENTIAL_TTL,
        )

    @property
    def is_ephemeral(self) -> bool:
        return self in (CreateMode.EPHEMERAL, CreateMode.EPHEMERAL_SEQUENTIAL)


class EventType(enum.IntEnum):
    """What happened to a znode, as a watch reports it."""

    CREATED = 1
    DELETED = 2
    DATA_CHANGED = 3
    CHILDREN_CHANGED = 4


class WatchEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of a watch. `path` is without the client's chroot."""

    type: EventType
    path: str


class AddWatchMode(enum.IntEnum):
    PERSISTENT = 0
    PERSISTENT_RECURSIVE = 1


class WatcherType(enum.IntEnum):
    """Which watches a removeWatches request means. 4 and 5 exist since 3.9.0."""

    CHILDREN = 1
    DATA = 2
    ANY = 3
    PERSISTENT = 4
    PERSISTENT_RECURSIVE = 5


class SessionState(enum.Enum):
    """The state of a client's session. EXPIRED, CLOSED and AUTH_FAILED are final."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    EXPIRED = "expired"
    CLOSED = "closed"
    AUTH_FAILED = "auth failed"

    @property
    def is_final(self) -> bool:
        return self is SessionState.EXPIRED or self is SessionState.CLOSED or self is SessionState.AUTH_FAILED


class ClientId(msgspec.Struct, frozen=True):
    """What a client attaches to a session with: its id and its secret. Never logged: `repr` hides the password."""

    session_id: int
    password: bytes

    def __repr__(self) -> str:
        return f"ClientId(0x{self.session_id & 0xFFFFFFFFFFFFFFFF:x})"


class ClientInfo(msgspec.Struct, frozen=True, gc=False):
    """An identity that a connection has proved, as `whoAmI` returns it."""

    scheme: str
    user: str
