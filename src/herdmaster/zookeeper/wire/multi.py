"""Transactions (multi) and batched reads (multiRead): lists of other records, each behind a header.

A header is {type int, done bool, err int}; the list ends with {-1, true, -1}. A failed multi is answered with header
error 0 and a list of errors: 0 for the operations before the one that failed, an error for that one, -2 for those after
it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, TypeVar

from herdmaster.zookeeper.errors import WireError
from herdmaster.zookeeper.wire.opcodes import MULTI_ERROR, OpCode
from herdmaster.zookeeper.wire.primitives import Reader
from herdmaster.zookeeper.wire.records import (
    Check,
    ChildrenReply,
    Create,
    Create2,
    CreateContainer,
    CreateTtl,
    DataReply,
    Delete,
    EmptyReply,
    GetChildren,
    GetData,
    PathReply,
    PathStatReply,
    Record,
    Request,
    SetData,
    StatReply,
)

_HEADER = struct.Struct(">i?i")
_END: Final = _HEADER.pack(-1, True, -1)
_ERROR_BODY = struct.Struct(">i")

WriteOperation = Create | Create2 | CreateContainer | CreateTtl | Delete | SetData | Check
ReadOperation = GetData | GetChildren

OperationT = TypeVar("OperationT", bound=Record)

_WRITES: Final[dict[int, type[WriteOperation]]] = {
    OpCode.CREATE: Create,
    OpCode.CREATE2: Create2,
    OpCode.CREATE_CONTAINER: CreateContainer,
    OpCode.CREATE_TTL: CreateTtl,
    OpCode.DELETE: Delete,
    OpCode.SET_DATA: SetData,
    OpCode.CHECK: Check,
}
_READS: Final[dict[int, type[ReadOperation]]] = {OpCode.GET_DATA: GetData, OpCode.GET_CHILDREN: GetChildren}

# By the type that arrives, never by the one that was sent: 3.8.0 answers create2 inside a multi with type 1
# (ZOOKEEPER-4026), and op 19 with type 15.
_RESULTS: Final[dict[int, type[Record]]] = {
    OpCode.CREATE: PathReply,
    OpCode.CREATE2: PathStatReply,
    OpCode.CREATE_CONTAINER: PathStatReply,
    OpCode.CREATE_TTL: PathStatReply,
    OpCode.DELETE: EmptyReply,
    OpCode.SET_DATA: StatReply,
    OpCode.CHECK: EmptyReply,
    OpCode.GET_DATA: DataReply,
    OpCode.GET_CHILDREN: ChildrenReply,
}


class ErrorResult(Record, frozen=True, gc=False):
    """The error of one operation in the reply to a multi or multiRead."""

    code: int


class MultiReply(Record, frozen=True, gc=False):
    """The reply to both. `results` are in the order of the operations; `types` is the wire type of each (-1 for an
    error)."""

    results: tuple[Record, ...]
    types: tuple[int, ...]

    def write(self, out: bytearray) -> None:
        for kind, result in zip(self.types, self.results, strict=True):
            if isinstance(result, ErrorResult):
                out += _HEADER.pack(MULTI_ERROR, False, result.code)
                out += _ERROR_BODY.pack(result.code)
            else:
                out += _HEADER.pack(kind, False, 0)
                result.write(out)
        out += _END

    @classmethod
    def read(cls, reader: Reader) -> MultiReply:
        results: list[Record] = []
        types: list[int] = []
        while True:
            kind, done, _ = reader.read_struct(_HEADER)
            if done:
                return cls(tuple(results), tuple(types))
            if kind == MULTI_ERROR:
                results.append(ErrorResult(reader.read_int()))
            else:
                record = _RESULTS.get(kind)
                if record is None:
                    raise WireError(f"a multi reply holds a result of type {kind}")
                results.append(record.read(reader))
            types.append(kind)


def _write_operations(out: bytearray, operations: Sequence[Request[Record]]) -> None:
    for operation in operations:
        out += _HEADER.pack(operation.opcode, False, -1)
        operation.write(out)
    out += _END


def _read_operations(reader: Reader, allowed: Mapping[int, type[OperationT]]) -> tuple[OperationT, ...]:
    operations: list[OperationT] = []
    while True:
        kind, done, _ = reader.read_struct(_HEADER)
        if done:
            return tuple(operations)
        record = allowed.get(kind)
        if record is None:
            raise WireError(f"an operation of type {kind} inside a multi")
        operations.append(record.read(reader))


class Multi(Request[MultiReply], frozen=True, gc=False):
    """Writes of which all are applied, or none."""

    operations: tuple[WriteOperation, ...]
    opcode: ClassVar[OpCode] = OpCode.MULTI
    reply_type: ClassVar[type[Record]] = MultiReply

    def write(self, out: bytearray) -> None:
        _write_operations(out, self.operations)

    @classmethod
    def read(cls, reader: Reader) -> Multi:
        return cls(_read_operations(reader, _WRITES))


class MultiRead(Request[MultiReply], frozen=True, gc=False):
    """Several reads in one request; each has a result or an error of its own, and the watch flag is ignored."""

    operations: tuple[ReadOperation, ...]
    opcode: ClassVar[OpCode] = OpCode.MULTI_READ
    reply_type: ClassVar[type[Record]] = MultiReply

    def write(self, out: bytearray) -> None:
        _write_operations(out, self.operations)

    @classmethod
    def read(cls, reader: Reader) -> MultiRead:
        return cls(_read_operations(reader, _READS))
