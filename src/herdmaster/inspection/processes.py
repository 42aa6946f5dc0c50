"""Finds out in which process a worker ran, also after it is gone."""

from __future__ import annotations

from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.members import decode_worker
from herdmaster.inspection.history import read_batches
from herdmaster.inspection.reading import ListingReader
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

_BEFORE_MS: Final = 10_000
_AFTER_MS: Final = 120_000
"""A worker writes what has ended within seconds, and later where there are many workers."""


class ProcessSeen(msgspec.Struct, frozen=True):
    """The process of a worker. `is_alive`: the worker still has its session."""

    host: str
    pid: int
    is_alive: bool


async def find_process(client: Client, worker: str, task: str) -> ProcessSeen | None:
    """Return the process of a worker: from its record, else from the history around the time when this task of it
    ended. None if neither has it. Raises SessionExpired."""
    path = layout.worker_path(worker)
    found = await ListingReader(client).nodes([path])
    record = decode_worker(found[path][0]) if path in found else None
    if record is not None and record.host:
        return ProcessSeen(record.host, record.pid, is_alive=True)
    try:
        status = await client.exists(layout.status_path(task))
        if status is None:
            return None
        batches, _ = await read_batches(client, status.ctime - _BEFORE_MS, status.ctime + _AFTER_MS)
    except errors.ServerError:  # one of them may not be read
        return None
    for batch in batches:
        if batch.writer == worker and batch.host is not None and batch.pid is not None:
            return ProcessSeen(batch.host, batch.pid, is_alive=False)
    return None
