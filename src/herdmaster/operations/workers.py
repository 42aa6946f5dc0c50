"""Requests of people to workers: drain, go on, stop. A request is a field of the worker's own znode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.members import (
    DRAIN,
    DRAINED,
    DRAINING,
    NO_REQUEST,
    READY,
    STOP,
    WorkerRecord,
    decode_worker,
    encode_record,
    worker_state,
)
from herdmaster.core.names import parse_worker_name
from herdmaster.core.progress import TaskProgress, decode_progress
from herdmaster.errors import HerdError
from herdmaster.inspection.reading import ListingReader
from herdmaster.roles.shared.primary_kind import PrimaryProgram, primary_program
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import WatchEvent

_LOOK_SECONDS: Final = 1.0
"""Between two readings of what a draining worker runs."""


class DrainSeen(msgspec.Struct, frozen=True):
    """How far a worker is. `state` is None when its znode is gone. `left` counts the tasks in its inbox, `is_inbox`
    says whether it still exists, and `running` are the tasks that the worker reports, the longest first."""

    state: str | None
    left: int
    is_inbox: bool
    running: tuple[TaskProgress, ...] = ()

    @property
    def is_drained(self) -> bool:
        return self.state is None or (self.state == DRAINED and not self.left)


async def ask_worker(client: Client, worker: str, request: str) -> WorkerRecord:
    """Write a request (`drain`, `stop`, or empty: go on) into the worker's znode. Return the record that stands there.

    Nothing is written if the same request stands already. Raises HerdError if the worker is not alive or cannot take
    the request, with the reason, and SessionExpired.
    """
    await client.sync()
    path = layout.worker_path(worker)
    unsure: WorkerRecord | None = None  # written by a request whose reply was lost
    while True:
        try:
            data, stat = await client.get(path)
        except errors.NoNode:
            if unsure is not None:
                return unsure
            raise HerdError(await _why_not_alive(client, worker)) from None
        record = await _check(client, worker, data, request)
        if record.request == request:
            return record
        state = DRAINING if request else READY
        record = msgspec.structs.replace(record, request=request, state=state)
        try:
            await client.set(path, encode_record(record), stat.version)
        except (errors.BadVersion, errors.NoNode):
            continue  # what is there now decides
        except errors.ConnectionLoss:
            unsure = record
            continue
        return record


async def _check(client: Client, worker: str, data: bytes | None, request: str) -> WorkerRecord:
    """Return the worker's record. Raises HerdError if the worker cannot take the request."""
    record = decode_worker(data)
    if record is None:
        known = worker_state(data)
        what = "is a worker of the reference" if known is not None else "has a record that this version cannot read"
        raise HerdError(f"{worker} {what}, and takes no requests: end its process")
    if record.request is None:
        raise HerdError(
            f"{worker} is of version {record.version}, which takes no requests: "
            f"send SIGTERM to process {record.pid} on {record.host}"
        )
    if record.request == STOP != request:
        raise HerdError(f"{worker} is stopping already, and cannot be told otherwise")
    if request == DRAIN and await primary_program(client) in (PrimaryProgram.REFERENCE, PrimaryProgram.CURATOR):
        raise HerdError(
            f"{worker} cannot be drained: the primary is a program of the reference, which assigns tasks to each "
            f"worker that is registered. `herd workers stop {worker}` ends it in good order"
        )
    return record


async def _why_not_alive(client: Client, worker: str) -> str:
    names = await ListingReader(client).names(layout.WORKERS)
    alive = ", ".join(sorted(name for name in names if parse_worker_name(name) is not None))
    return f"{worker} is not alive: " + (f"there are {alive}" if alive else "no worker is")


async def find_successor(client: Client, record: WorkerRecord) -> str | None:
    """Return the name of the worker that runs in the process of a worker that is gone: its session had ended."""
    reader = ListingReader(client)
    paths = [layout.worker_path(name) for name in await reader.names(layout.WORKERS)]
    for path, (data, _) in (await reader.nodes(paths)).items():
        found = decode_worker(data)
        is_same = found is not None and (found.host, found.pid) == (record.host, record.pid)
        if is_same and found is not None and found.request == NO_REQUEST:
            return layout.name_of(path)
    return None


async def watch_drain(client: Client, worker: str) -> AsyncIterator[DrainSeen]:
    """Yield how far the worker is, whenever that changes and once a second, until it has drained or is gone. Raises
    SessionExpired."""
    await client.sync()
    while True:
        changed = asyncio.Event()

        def handle(_event: WatchEvent, changed: asyncio.Event = changed) -> None:
            changed.set()

        seen = await _look(client, worker, handle)
        yield seen
        if seen.is_drained:
            return
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await changed.wait()
        except TimeoutError:
            continue


async def _look(client: Client, worker: str, handle: Callable[[WatchEvent], None]) -> DrainSeen:
    reader = ListingReader(client)
    path, inbox, progress = layout.worker_path(worker), layout.inbox_path(worker), layout.progress_path(worker)
    try:
        data, _ = await client.get(path, handle)
    except errors.NoNode:
        state = None
    else:
        record = decode_worker(data)
        state = record.state if record is not None else ""
    stat = await client.exists(inbox)
    found = await reader.nodes([progress])
    running = decode_progress(found[progress][0]).tasks if progress in found else ()
    return DrainSeen(state, 0 if stat is None else stat.num_children, stat is not None, running)
