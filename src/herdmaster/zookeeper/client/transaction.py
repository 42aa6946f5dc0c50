"""A transaction: several writes, all of them or none (ZooKeeper's multi)."""

from __future__ import annotations

from typing import Final, Self

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client.base import BaseClient
from herdmaster.zookeeper.client.creates import explain
from herdmaster.zookeeper.client.nowait import Callback
from herdmaster.zookeeper.client.refusals import refusal
from herdmaster.zookeeper.model import Acl, CreateMode, Stat
from herdmaster.zookeeper.wire.multi import ErrorResult, Multi, MultiReply, WriteOperation
from herdmaster.zookeeper.wire.records import (
    Check,
    Delete,
    EmptyReply,
    PathReply,
    PathStatReply,
    Record,
    SetData,
    StatReply,
)

Result = str | Stat | None
"""The result of one operation: the path of a create, the stat of a set, None of a delete or check."""

Results = tuple[Result, ...]
"""The results, in the order of the operations."""

_OVERHEAD: Final = 25  # a header, the lengths of path, data and ACL, flags or a version
_ACL_OVERHEAD: Final = 12  # permissions and two lengths
_OPEN_ACL: Final = _ACL_OVERHEAD + len("world") + len("anyone")
_TTL: Final = 8


class Transaction:
    """Collects operations; `commit` sends them as one request.

    `size` is an upper estimate of the request's bytes, to keep batches bounded.
    """

    def __init__(self, client: BaseClient) -> None:
        self._client = client
        self._chroot = client.hosts.chroot
        self._operations: list[WriteOperation] = []
        self.size: int = 0

    def __len__(self) -> int:
        return len(self._operations)

    def create(
        self,
        path: str,
        data: bytes | None = b"",
        *,
        mode: CreateMode = CreateMode.PERSISTENT,
        acl: tuple[Acl, ...] | None = None,
        ttl: float | None = None,
    ) -> Self:
        """Add a create, as `Client.create`. Raises ValueError for an impossible time to live; `commit` raises what the
        servers refuse."""
        operation = self._client.creation(path, data, acl, mode, ttl)
        if acl is None:
            self.size += self._client.acl_size or _OPEN_ACL
        else:
            self.size += sum(_ACL_OVERHEAD + _size(entry.id.scheme) + _size(entry.id.id) for entry in acl)
        if ttl is not None:
            self.size += _TTL
        return self._add(operation, operation.path, data)

    def delete(self, path: str, version: int = -1) -> Self:
        path = self._client.outward(path)
        return self._add(Delete(path, version), path)

    def set(self, path: str, data: bytes | None, version: int = -1) -> Self:
        path = self._client.outward(path)
        return self._add(SetData(path, data, version), path, data)

    def check(self, path: str, version: int = -1) -> Self:
        """Let the transaction fail unless the znode exists (and has the version)."""
        path = self._client.outward(path)
        return self._add(Check(path, version), path)

    def _add(self, operation: WriteOperation, path: str, data: bytes | None = None) -> Self:
        self._operations.append(operation)
        self.size += _OVERHEAD + _size(path) + (len(data) if data else 0)
        return self

    async def commit(self) -> Results:
        """Send the operations. Return the results in their order, paths without the chroot. Raises TransactionFailed
        (nothing was applied), ConnectionLoss (it may have been), RequestTooLarge or SessionExpired."""
        operations = tuple(self._operations)
        return self._results(operations, await self._client.call(Multi(operations)))

    def commit_nowait(self, done: Callback[Results]) -> None:
        """Send the operations with a callback; for its contract see `client/nowait.py`."""
        operations = tuple(self._operations)

        def interpret(reply: Record | None, error: Exception | None) -> None:
            results: Results | None = None
            if isinstance(reply, MultiReply):
                try:
                    results = self._results(operations, reply)
                except errors.ZooKeeperError as failure:
                    error = failure
            done(results, error)

        self._client.call_nowait(Multi(operations), interpret)

    def _results(self, operations: tuple[WriteOperation, ...], reply: MultiReply) -> Results:
        if len(reply.results) != len(operations):
            raise errors.ConnectionLoss(
                f"{len(reply.results)} results to {len(operations)} operations: they may be applied"
            )
        results: list[Result] = []
        for result in reply.results:
            if isinstance(result, EmptyReply):
                results.append(None)
            elif isinstance(result, (PathReply, PathStatReply)):
                results.append(self._chroot.remove(result.path))
            elif isinstance(result, StatReply):
                results.append(result.stat)
            elif isinstance(result, ErrorResult):
                raise self._failure(operations, reply)
            else:
                raise errors.ConnectionLoss(
                    f"a {type(result).__name__} in the reply to a transaction: it may be applied"
                )
        return tuple(results)

    def _failure(self, operations: tuple[WriteOperation, ...], reply: MultiReply) -> errors.TransactionFailed:
        # 0 for the operations before the one that failed, an error for that one, -2 for those after it.
        codes = [result.code for result in reply.results if isinstance(result, ErrorResult)]
        index = next((index for index, code in enumerate(codes) if code != 0), 0)
        operation = operations[index]
        error = refusal(codes[index], operation, self._chroot.remove(operation.path), self._client.presented)
        failure = errors.TransactionFailed(index, error)
        explain(failure, error, operation)
        return failure


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
