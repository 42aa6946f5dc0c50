"""Reads the payloads of many tasks with few requests, bounded by the sizes that their names reveal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from herdmaster.core.names import is_call
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat
from herdmaster.zookeeper.wire.multi import MultiRead, MultiReply
from herdmaster.zookeeper.wire.records import DataReply, GetData, Record

KeyT = TypeVar("KeyT")

MAX_READ: Final = 200
_WEIGHT_OF_BIG: Final = 50
"""A big call has up to 512 KiB, so four in one read; a raw task may have as much, but seldom does: 25."""
_WEIGHT_OF_RAW: Final = 8

Read = Callable[[KeyT, bytes | None, Stat | None, Exception | None], None]
"""Called per task: its payload and stat; or NoNode, or the session's end as an error."""


def _weight(task: str) -> int:
    if not is_call(task):
        return _WEIGHT_OF_RAW
    return _WEIGHT_OF_BIG if task.endswith((".b", ".b.c")) else 1


def _batches(wanted: Iterable[tuple[KeyT, str, str]]) -> Iterator[list[tuple[KeyT, str]]]:
    batch: list[tuple[KeyT, str]] = []
    weight = 0
    for key, task, path in wanted:
        if batch and weight + _weight(task) > MAX_READ:
            yield batch
            batch, weight = [], 0
        batch.append((key, path))
        weight += _weight(task)
    if batch:
        yield batch


def read_payloads(client: Client, wanted: Iterable[tuple[KeyT, str, str]], read: Read[KeyT]) -> None:
    """`wanted` are (key, task, path); `read` is called once for each key, in the order of the wire."""
    for batch in _batches(wanted):
        _read_batch(client, batch, read)


def _read_batch(client: Client, batch: list[tuple[KeyT, str]], read: Read[KeyT]) -> None:
    def done(reply: Record | None, error: Exception | None) -> None:
        if not isinstance(reply, MultiReply):
            for key, _ in batch:
                read(key, None, None, error or errors.SessionExpired("the session ended"))
            return
        for (key, path), result in zip(batch, reply.results, strict=True):
            if isinstance(result, DataReply):
                read(key, result.data or b"", result.stat, None)
            else:
                read(key, None, None, errors.NoNode(path))

    try:
        client.call_nowait(MultiRead(tuple(GetData(client.outward(path), False) for _, path in batch)), done)
    except errors.ZooKeeperError as error:
        done(None, error)
