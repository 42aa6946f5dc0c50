"""Reads the payloads of many tasks with few requests, bounded by the sizes that their names reveal."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, TypeVar

from herdmaster.core.names import is_call
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Node
from herdmaster.zookeeper.model import Stat

KeyT = TypeVar("KeyT")

MAX_READ: Final = 200
"""The weight of one request."""
MAX_READS: Final = 1000
"""The weight of all requests under way."""
_WEIGHT_OF_BIG: Final = 50
"""A big call has up to 512 KiB, so one read takes four. A raw task may have twice as much, but seldom has: one read
takes 25."""
_WEIGHT_OF_RAW: Final = 8

Read = Callable[[KeyT, bytes | None, Stat | None, Exception | None], None]
"""Called per task with its payload and stat, or with an error. NoNode: the task is not there."""

_Found = Callable[[bytes | None, Stat | None, Exception | None], None]


def _weight(task: str) -> int:
    if not is_call(task):
        return _WEIGHT_OF_RAW
    return _WEIGHT_OF_BIG if task.endswith((".b", ".b.c", ".b.f", ".b.c.f")) else 1


class _Batch:
    def __init__(self) -> None:
        self.paths: list[str] = []
        self.found: list[_Found] = []
        self.weight = 0


class PayloadReader:
    """The reads of one role over one session. Reads beyond a weight of `MAX_READS` wait their turn."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: deque[_Batch] = deque()
        self._under_way = 0

    def read(self, wanted: Iterable[tuple[KeyT, str, str]], read: Read[KeyT]) -> None:
        """Read the payloads of (key, task, path). `read` is called once for each key, in this order, and never before
        this returns unless the session is over."""
        batch = _Batch()
        for key, task, path in wanted:
            weight = _weight(task)
            if batch.paths and batch.weight + weight > MAX_READ:
                self._waiting.append(batch)
                batch = _Batch()
            batch.paths.append(path)
            batch.found.append(partial(read, key))
            batch.weight += weight
        if batch.paths:
            self._waiting.append(batch)
        self._send()

    def _send(self) -> None:
        while self._waiting and self._under_way < MAX_READS:
            batch = self._waiting.popleft()
            self._under_way += batch.weight
            try:
                self._client.multi_read_nowait(batch.paths, partial(self._done, batch))
            except errors.ZooKeeperError as error:
                self._under_way -= batch.weight
                _fail(batch, error)

    def _done(
        self, batch: _Batch, results: Sequence[Node | errors.ServerError] | None, error: Exception | None
    ) -> None:
        self._under_way -= batch.weight
        if results is not None:
            _succeed(batch, results)
        else:
            _fail(batch, error or errors.SessionExpired("the session ended"))
        self._send()


def _succeed(batch: _Batch, results: Sequence[Node | errors.ServerError]) -> None:
    for found, result in zip(batch.found, results, strict=True):
        if isinstance(result, tuple):
            found(result[0] or b"", result[1], None)
        else:
            found(None, None, result)


def _fail(batch: _Batch, error: Exception) -> None:
    for found in batch.found:
        found(None, None, error)
