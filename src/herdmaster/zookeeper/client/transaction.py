"""A transaction: several writes, all of them or none (ZooKeeper's multi)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.model import OPEN_ACL, Acl, CreateMode
from herdmaster.zookeeper.wire.multi import ErrorResult, Multi, MultiReply, WriteOperation
from herdmaster.zookeeper.wire.records import Check, Create, CreateContainer, Delete, Record, SetData

if TYPE_CHECKING:
    from herdmaster.zookeeper.client.client import Client

Results = tuple[Record, ...]
_OPERATION_OVERHEAD = 64  # headers, lengths, flags and an ACL; a little more than any operation takes


class Transaction:
    """Collects operations; `commit` sends them as one request.

    `size` is an upper estimate of the request's bytes, for keeping batches bounded.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._operations: list[WriteOperation] = []
        self.size = 0

    def __len__(self) -> int:
        return len(self._operations)

    def create(
        self,
        path: str,
        data: bytes | None = b"",
        *,
        mode: CreateMode = CreateMode.PERSISTENT,
        acl: tuple[Acl, ...] = OPEN_ACL,
    ) -> Self:
        path = self._client.outward(path, sequential=mode.is_sequential)
        kind = CreateContainer if mode is CreateMode.CONTAINER else Create
        return self._add(kind(path, data, acl, int(mode)), path, data)

    def delete(self, path: str, version: int = -1) -> Self:
        path = self._client.outward(path)
        return self._add(Delete(path, version), path)

    def set(self, path: str, data: bytes | None, version: int = -1) -> Self:
        path = self._client.outward(path)
        return self._add(SetData(path, data, version), path, data)

    def check(self, path: str, version: int = -1) -> Self:
        """The transaction fails unless the znode exists (and has the version)."""
        path = self._client.outward(path)
        return self._add(Check(path, version), path)

    def _add(self, operation: WriteOperation, path: str, data: bytes | None = None) -> Self:
        self._operations.append(operation)
        self.size += _OPERATION_OVERHEAD + len(path) + (len(data) if data else 0)
        return self

    async def commit(self) -> Results:
        """The results in the order of the operations. Raises TransactionFailed (nothing was applied),
        ConnectionLoss (perhaps it was), RequestTooLarge or SessionExpired."""
        reply = await self._client.call(Multi(tuple(self._operations)))
        return _results(self._operations, reply)

    def commit_nowait(self, done: Callable[[Results | None, Exception | None], None]) -> None:
        """As `commit`, but `done` is called in the order of the wire. Raises what can be known at once."""
        operations = self._operations

        def interpret(reply: Record | None, error: Exception | None) -> None:
            results: Results | None = None
            if isinstance(reply, MultiReply):
                try:
                    results = _results(operations, reply)
                except errors.TransactionFailed as failure:
                    error = failure
            done(results, error)

        self._client.call_nowait(Multi(tuple(operations)), interpret)


def _results(operations: list[WriteOperation], reply: MultiReply) -> Results:
    if reply.results and isinstance(reply.results[0], ErrorResult):
        for index, (operation, result) in enumerate(zip(operations, reply.results, strict=False)):
            if isinstance(result, ErrorResult) and result.code != 0:
                raise errors.TransactionFailed(index, errors.from_code(result.code, operation.path))
    return reply.results
