"""Every request and reply of the protocol as a frozen record: the fields in the order of the wire, and their codecs.

`layout` is in the order of the fields, so `read` and `write` are one loop each. The few records that make up nearly all
traffic spell them out, which takes half the time. A request names its `opcode` and the record of its reply. Multi and
multiRead, whose bodies are lists of other records, are in `multi.py`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Generic, Self, TypeVar

import msgspec

from herdmaster.zookeeper.model import Acl, ClientInfo, Stat
from herdmaster.zookeeper.wire.opcodes import OpCode
from herdmaster.zookeeper.wire.primitives import (
    ACLS,
    BOOL,
    BUFFER,
    INT,
    LONG,
    NULLABLE_USTRING,
    STAT,
    STRINGS,
    USTRING,
    Codec,
    Reader,
    Vector,
    pack_int,
    packed_acls,
    packed_buffer,
    packed_string,
)


class Record(msgspec.Struct, frozen=True, gc=False):
    """A sequence of fields."""

    layout: ClassVar[tuple[Codec[Any], ...]] = ()  # the codecs differ in type; each fits its own field

    def write(self, out: bytearray) -> None:
        for codec, value in zip(self.layout, msgspec.structs.astuple(self), strict=True):
            codec.write(out, value)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(*[codec.read(reader) for codec in cls.layout])


ReplyT_co = TypeVar("ReplyT_co", bound=Record, covariant=True)


class Request(Record, Generic[ReplyT_co], frozen=True, gc=False):
    """A request of a client; `reply_type` is the record of a successful reply."""

    opcode: ClassVar[OpCode]
    reply_type: ClassVar[type[Record]]

    @property
    def subject(self) -> str:
        """The path that the request is about, for errors; empty if there is none."""
        path = getattr(self, "path", "")
        return path if isinstance(path, str) else ""


# --- replies ---------------------------------------------------------------------------------------------------------


class EmptyReply(Record, frozen=True, gc=False):
    pass


class PathReply(Record, frozen=True, gc=False):
    path: str
    layout = (USTRING,)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(USTRING.read(reader))


class PathStatReply(Record, frozen=True, gc=False):
    path: str
    stat: Stat
    layout = (USTRING, STAT)


class StatReply(Record, frozen=True, gc=False):
    stat: Stat
    layout = (STAT,)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(STAT.read(reader))


class DataReply(Record, frozen=True, gc=False):
    data: bytes | None
    stat: Stat
    layout = (BUFFER, STAT)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(BUFFER.read(reader), STAT.read(reader))


class AclReply(Record, frozen=True, gc=False):
    acl: tuple[Acl, ...]
    stat: Stat
    layout = (ACLS, STAT)


class ChildrenReply(Record, frozen=True, gc=False):
    children: tuple[str, ...]
    layout = (STRINGS,)


class Children2Reply(Record, frozen=True, gc=False):
    children: tuple[str, ...]
    stat: Stat
    layout = (STRINGS, STAT)


class NumberReply(Record, frozen=True, gc=False):
    number: int
    layout = (INT,)


class _ClientInfo:
    def write(self, out: bytearray, value: ClientInfo, /) -> None:
        USTRING.write(out, value.scheme)
        USTRING.write(out, value.user)

    def read(self, reader: Reader, /) -> ClientInfo:
        return ClientInfo(USTRING.read(reader), USTRING.read(reader))


class WhoAmIReply(Record, frozen=True, gc=False):
    infos: tuple[ClientInfo, ...]
    layout = (Vector(_ClientInfo()),)


# --- requests --------------------------------------------------------------------------------------------------------


class Create(Request[PathReply], frozen=True, gc=False):
    path: str
    data: bytes | None
    acl: tuple[Acl, ...]
    flags: int
    layout = (USTRING, BUFFER, ACLS, INT)
    opcode = OpCode.CREATE
    reply_type = PathReply

    def write(self, out: bytearray) -> None:
        out += packed_string(self.path) + packed_buffer(self.data) + packed_acls(self.acl) + pack_int(self.flags)


class Create2(Request[PathStatReply], frozen=True, gc=False):
    path: str
    data: bytes | None
    acl: tuple[Acl, ...]
    flags: int
    layout = (USTRING, BUFFER, ACLS, INT)
    opcode = OpCode.CREATE2
    reply_type = PathStatReply


class CreateContainer(Request[PathStatReply], frozen=True, gc=False):
    path: str
    data: bytes | None
    acl: tuple[Acl, ...]
    flags: int
    layout = (USTRING, BUFFER, ACLS, INT)
    opcode = OpCode.CREATE_CONTAINER
    reply_type = PathStatReply


class CreateTtl(Request[PathStatReply], frozen=True, gc=False):
    """Create a znode with a time to live. `ttl` is in milliseconds."""

    path: str
    data: bytes | None
    acl: tuple[Acl, ...]
    flags: int
    ttl: int
    layout = (USTRING, BUFFER, ACLS, INT, LONG)
    opcode = OpCode.CREATE_TTL
    reply_type = PathStatReply


class Delete(Request[EmptyReply], frozen=True, gc=False):
    path: str
    version: int
    layout = (USTRING, INT)
    opcode = OpCode.DELETE
    reply_type = EmptyReply

    def write(self, out: bytearray) -> None:
        out += packed_string(self.path) + pack_int(self.version)


class Exists(Request[StatReply], frozen=True, gc=False):
    path: str
    watch: bool
    layout = (USTRING, BOOL)
    opcode = OpCode.EXISTS
    reply_type = StatReply

    def write(self, out: bytearray) -> None:
        out += packed_string(self.path) + (b"\x01" if self.watch else b"\x00")


class GetData(Request[DataReply], frozen=True, gc=False):
    path: str
    watch: bool
    layout = (USTRING, BOOL)
    opcode = OpCode.GET_DATA
    reply_type = DataReply

    def write(self, out: bytearray) -> None:
        out += packed_string(self.path) + (b"\x01" if self.watch else b"\x00")


class SetData(Request[StatReply], frozen=True, gc=False):
    path: str
    data: bytes | None
    version: int
    layout = (USTRING, BUFFER, INT)
    opcode = OpCode.SET_DATA
    reply_type = StatReply

    def write(self, out: bytearray) -> None:
        out += packed_string(self.path) + packed_buffer(self.data) + pack_int(self.version)


class GetAcl(Request[AclReply], frozen=True, gc=False):
    path: str
    layout = (USTRING,)
    opcode = OpCode.GET_ACL
    reply_type = AclReply


class SetAcl(Request[StatReply], frozen=True, gc=False):
    """Replace an ACL. `version` is compared with the znode's aversion."""

    path: str
    acl: tuple[Acl, ...]
    version: int
    layout = (USTRING, ACLS, INT)
    opcode = OpCode.SET_ACL
    reply_type = StatReply


class GetChildren(Request[ChildrenReply], frozen=True, gc=False):
    path: str
    watch: bool
    layout = (USTRING, BOOL)
    opcode = OpCode.GET_CHILDREN
    reply_type = ChildrenReply


class GetChildren2(Request[Children2Reply], frozen=True, gc=False):
    path: str
    watch: bool
    layout = (USTRING, BOOL)
    opcode = OpCode.GET_CHILDREN2
    reply_type = Children2Reply


class Sync(Request[PathReply], frozen=True, gc=False):
    path: str
    layout = (USTRING,)
    opcode = OpCode.SYNC
    reply_type = PathReply


class Ping(Request[EmptyReply], frozen=True, gc=False):
    opcode = OpCode.PING
    reply_type = EmptyReply


class Check(Request[EmptyReply], frozen=True, gc=False):
    """Check a version. Only inside a multi: some real servers mishandle it elsewhere."""

    path: str
    version: int
    layout = (USTRING, INT)
    opcode = OpCode.CHECK
    reply_type = EmptyReply


class Auth(Request[EmptyReply], frozen=True, gc=False):
    type: int
    scheme: str
    credential: bytes | None
    layout = (INT, USTRING, BUFFER)
    opcode = OpCode.AUTH
    reply_type = EmptyReply

    def __repr__(self) -> str:
        return f"Auth({self.type}, {self.scheme!r}, ***)"  # a traceback may show it


class SaslReply(Record, frozen=True, gc=False):
    token: bytes | None
    layout = (BUFFER,)

    def __repr__(self) -> str:
        return "SaslReply(***)"


class Sasl(Request[SaslReply], frozen=True, gc=False):
    token: bytes | None
    layout = (BUFFER,)
    opcode = OpCode.SASL
    reply_type = SaslReply

    def __repr__(self) -> str:
        return "Sasl(***)"


NO_SIGNS_OF_LIFE: Final[frozenset[type[Record]]] = frozenset({Auth, Sasl})
"""The requests that do not keep a session alive on the server."""


class SetWatches(Request[EmptyReply], frozen=True, gc=False):
    relative_zxid: int
    data: tuple[str, ...]
    exist: tuple[str, ...]
    child: tuple[str, ...]
    layout = (LONG, STRINGS, STRINGS, STRINGS)
    opcode = OpCode.SET_WATCHES
    reply_type = EmptyReply


class SetWatches2(Request[EmptyReply], frozen=True, gc=False):
    relative_zxid: int
    data: tuple[str, ...]
    exist: tuple[str, ...]
    child: tuple[str, ...]
    persistent: tuple[str, ...]
    recursive: tuple[str, ...]
    layout = (LONG, STRINGS, STRINGS, STRINGS, STRINGS, STRINGS)
    opcode = OpCode.SET_WATCHES2
    reply_type = EmptyReply


class CheckWatches(Request[EmptyReply], frozen=True, gc=False):
    path: str
    type: int
    layout = (USTRING, INT)
    opcode = OpCode.CHECK_WATCHES
    reply_type = EmptyReply


class RemoveWatches(Request[EmptyReply], frozen=True, gc=False):
    path: str
    type: int
    layout = (USTRING, INT)
    opcode = OpCode.REMOVE_WATCHES
    reply_type = EmptyReply


class AddWatch(Request[NumberReply], frozen=True, gc=False):
    path: str
    mode: int
    layout = (USTRING, INT)
    opcode = OpCode.ADD_WATCH
    reply_type = NumberReply


class GetEphemerals(Request[ChildrenReply], frozen=True, gc=False):
    """The ephemerals of the caller's session; the prefix is a plain string, null for all."""

    prefix: str | None
    layout = (NULLABLE_USTRING,)
    opcode = OpCode.GET_EPHEMERALS
    reply_type = ChildrenReply


class GetAllChildrenNumber(Request[NumberReply], frozen=True, gc=False):
    path: str
    layout = (USTRING,)
    opcode = OpCode.GET_ALL_CHILDREN_NUMBER
    reply_type = NumberReply


class WhoAmI(Request[WhoAmIReply], frozen=True, gc=False):
    opcode = OpCode.WHO_AM_I
    reply_type = WhoAmIReply


class CloseSession(Request[EmptyReply], frozen=True, gc=False):
    opcode = OpCode.CLOSE_SESSION
    reply_type = EmptyReply
