"""Hypothesis strategies for every record of the protocol, derived from the records' own layouts."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

from herdmaster.zookeeper.model import Acl, ClientInfo, Id, Stat
from herdmaster.zookeeper.wire import records
from herdmaster.zookeeper.wire.multi import (
    ErrorResult,
    Multi,
    MultiRead,
    MultiReply,
    ReadOperation,
    WriteOperation,
)
from herdmaster.zookeeper.wire.opcodes import MULTI_ERROR, OpCode
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
)
from herdmaster.zookeeper.wire.records import Record, Request

int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
buffers = st.none() | st.binary(max_size=40)
stats = st.builds(Stat, int64, int64, int64, int64, int32, int32, int32, int64, int32, int32, int64)
acls = st.lists(st.builds(Acl, int32, st.builds(Id, text, text)), max_size=4).map(tuple)

# Any: a strategy for whatever the codec carries.
_BY_CODEC: Final[dict[Any, st.SearchStrategy[Any]]] = {
    ACLS: acls,
    BOOL: st.booleans(),
    BUFFER: buffers,
    INT: int32,
    LONG: int64,
    NULLABLE_USTRING: st.none() | text,
    STAT: stats,
    STRINGS: st.lists(text, max_size=6).map(tuple),
    USTRING: text,
    records.WhoAmIReply.layout[0]: st.lists(st.builds(ClientInfo, text, text), max_size=4).map(tuple),
}


def plain(kind: type[Record]) -> st.SearchStrategy[Record]:
    """Records of a kind that has a layout."""
    return st.builds(kind, *(_BY_CODEC[codec] for codec in kind.layout))


def _classes(base: type[Record]) -> list[type[Record]]:
    found = []
    for kind in base.__subclasses__():
        found += [kind, *_classes(kind)]
    return found


_REQUESTS: Final = {kind for kind in _classes(Request) if "opcode" in kind.__dict__ and issubclass(kind, Request)}

REQUESTS: Final = sorted(_REQUESTS - {Multi, MultiRead}, key=lambda kind: kind.__name__)
"""Every request that is no list of other requests."""

REPLIES: Final = sorted({kind.reply_type for kind in _REQUESTS} - {MultiReply}, key=lambda kind: kind.__name__)
"""Every reply that is no list of others."""

_RESULTS: Final[dict[OpCode, type[Record]]] = {
    OpCode.CREATE: records.PathReply,
    OpCode.CREATE2: records.PathStatReply,
    OpCode.CREATE_CONTAINER: records.PathStatReply,
    OpCode.CREATE_TTL: records.PathStatReply,
    OpCode.DELETE: records.EmptyReply,
    OpCode.SET_DATA: records.StatReply,
    OpCode.CHECK: records.EmptyReply,
    OpCode.GET_DATA: records.DataReply,
    OpCode.GET_CHILDREN: records.ChildrenReply,
}

_results = st.one_of(
    st.builds(ErrorResult, int32).map(lambda error: (MULTI_ERROR, error)),
    *(st.tuples(st.just(int(opcode)), plain(kind)) for opcode, kind in _RESULTS.items()),
)

multi_replies = st.lists(_results, max_size=6).map(
    lambda results: MultiReply(tuple(record for _, record in results), tuple(number for number, _ in results))
)
multis = st.lists(st.one_of(*map(plain, WriteOperation.__args__)), max_size=6).map(
    lambda operations: Multi(tuple(operations))
)
multi_reads = st.lists(st.one_of(*map(plain, ReadOperation.__args__)), max_size=6).map(
    lambda operations: MultiRead(tuple(operations))
)

requests = st.one_of(multis, multi_reads, *map(plain, REQUESTS))
replies = st.one_of(multi_replies, *map(plain, REPLIES))
