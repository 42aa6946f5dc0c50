"""An overview of a namespace: the primary, the backups, the workers, and how many tasks are where.

It is read over a short while, so a task that moves meanwhile may be counted twice or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.members import FLOWS, decode_master, decode_worker, worker_state
from herdmaster.core.names import parse_master_name, parse_worker_name
from herdmaster.core.printable import printable
from herdmaster.core.progress import WorkerProgress, decode_progress
from herdmaster.errors import ConfigurationError
from herdmaster.inspection.reading import ListingReader, Unreadable
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat
from herdmaster.zookeeper.paths import sequence_of

UNKNOWN: Final = "unknown"
_MAX_SHOWN: Final = 100
"""How many characters are shown of a znode's data that is not ours."""


class MasterSeen(msgspec.Struct, frozen=True):
    """A master. `since` is when its znode was created, in unix milliseconds of ZooKeeper's clock.

    `host` and `pid` are None for a reference master. The `name` of one is the id that it wrote, in hex digits if that
    is no text, and its `program` is `Curator` or `Java or C`.
    """

    name: str
    since: int
    host: str | None = None
    pid: int | None = None
    program: str | None = None


class WorkerSeen(msgspec.Struct, frozen=True):
    """A living worker. `state` is `ready`, `draining`, the word that a reference worker wrote (`Idle`, `Working`), or
    `unknown` for other data. `assigned` counts the tasks in its inbox. `calls` says whether it has functions to run
    calls with, `app` where they come from, as `module:attribute`; `flows` whether it runs steps of flows."""

    name: str
    since: int
    state: str
    assigned: int
    slots: int | None = None
    queues: tuple[str, ...] = ()
    host: str | None = None
    pid: int | None = None
    version: str | None = None
    calls: bool = False
    app: str | None = None
    flows: bool = False


class TaskCounts(msgspec.Struct, frozen=True):
    """How many tasks are in which state. `recovering` are in the inboxes of lost workers; `ended` have an outcome that
    is not yet collected; `dead` were given up on and are kept for replay."""

    backlog: int = 0
    delayed: int = 0
    assigned: int = 0
    recovering: int = 0
    ended: int = 0
    dead: int = 0


class Overview(msgspec.Struct, frozen=True):
    """One look at a namespace. `clients` counts the journals of clients, including those of clients that are gone.
    `master_is_left`: Curator masters that are gone have left `/master`, so no other master can be primary."""

    primary: MasterSeen | None
    backups: tuple[MasterSeen, ...]
    workers: tuple[WorkerSeen, ...]
    tasks: TaskCounts
    clients: int
    master_is_left: bool = False


class OverviewReader:
    """Looks over a session of the caller. What cannot be read is not counted, and is added to `unreadable`."""

    def __init__(self, client: Client, unreadable: Unreadable | None = None) -> None:
        self._client = client
        self._reader = ListingReader(client, unreadable)

    async def look(self) -> Overview:
        """Return an overview that includes everything done before the call. Raises ConfigurationError if the namespace
        does not exist, SessionExpired."""
        await self._client.sync()
        if await self._client.exists("/") is None:
            raise ConfigurationError(
                f"the namespace in {self._client.hosts} does not exist: "
                "check the connect string, or start a master there, which makes it"
            )
        (primary, backups), inboxes = await asyncio.gather(self._masters(), self._inboxes())
        workers = await self._workers(inboxes)
        alive = {worker.name for worker in workers}
        folders = (layout.TASKS, layout.DELAYED, layout.STATUS, layout.DEAD, layout.CLIENTS)
        backlog, delayed, ended, dead, clients = await asyncio.gather(*map(self._reader.count, folders))
        counts = TaskCounts(
            backlog=backlog,
            delayed=delayed,
            assigned=sum(worker.assigned for worker in workers),
            recovering=sum(count for name, count in inboxes.items() if name not in alive),
            ended=ended,
            dead=dead,
        )
        is_left = primary is None and await self._client.exists(layout.MASTER) is not None
        return Overview(primary, backups, workers, counts, clients, is_left)

    async def progress_of(self, workers: Sequence[str]) -> list[WorkerProgress]:
        """Return what each of the workers reports as running. Raises SessionExpired."""
        found = await self._read([layout.progress_path(worker) for worker in workers])
        return [decode_progress(found.get(layout.progress_path(worker), (None, None))[0]) for worker in workers]

    async def _masters(self) -> tuple[MasterSeen | None, tuple[MasterSeen, ...]]:
        found = await self._read([layout.MASTER])
        data, stat = found.get(layout.MASTER, (b"", None))
        names = [name for name in await self._reader.names(layout.MASTERS) if parse_master_name(name) is not None]
        records = await self._read([layout.master_record_path(name) for name in names])
        # The session decides who is primary: the data is only what that session says about itself.
        owner = stat.ephemeral_owner if stat is not None else None
        backups = [_master(*record) for record in records.values() if record[1].ephemeral_owner != owner]
        backups.sort(key=lambda master: (master.since, master.name))
        primary = _master(data, stat) if stat is not None else None
        if stat is not None and not owner and (stat.num_children or not data):
            candidates = await self._curator_masters()
            primary = candidates[0] if candidates else None
            backups = [*candidates[1:], *backups]
        return primary, tuple(backups)

    async def _curator_masters(self) -> list[MasterSeen]:
        """Return the masters that queue below `/master`, the primary first: that with the lowest number."""
        names = sorted(await self._reader.names(layout.MASTER), key=sequence_of)
        found = await self._read([f"{layout.MASTER}/{name}" for name in names])
        return [
            MasterSeen(_as_id(data) or layout.name_of(path), stat.ctime, program="Curator")
            for path, (data, stat) in sorted(found.items(), key=lambda item: sequence_of(item[0]))
        ]

    async def _workers(self, inboxes: dict[str, int]) -> tuple[WorkerSeen, ...]:
        names = [name for name in await self._reader.names(layout.WORKERS) if parse_worker_name(name) is not None]
        found = await self._read([layout.worker_path(name) for name in names])
        workers = [
            _worker(name, *found[path], inboxes.get(name, 0))
            for name in names
            if (path := layout.worker_path(name)) in found
        ]
        return tuple(sorted(workers, key=lambda worker: (worker.since, worker.name)))

    async def _inboxes(self) -> dict[str, int]:
        """Return the number of assignments in each inbox."""
        names = [name for name in await self._reader.names(layout.ASSIGN) if parse_worker_name(name) is not None]
        counts = await asyncio.gather(*(self._reader.count(layout.inbox_path(name)) for name in names))
        return dict(zip(names, counts, strict=True))

    async def _read(self, paths: list[str]) -> dict[str, tuple[bytes, Stat]]:
        return {path: (data or b"", stat) for path, (data, stat) in (await self._reader.nodes(paths)).items()}


def _master(data: bytes, stat: Stat) -> MasterSeen:
    record = decode_master(data)
    if record is None:
        return MasterSeen(_as_id(data) or "(no id)", stat.ctime, program="Java or C")
    return MasterSeen(record.id, stat.ctime, record.host, record.pid)


def _worker(name: str, data: bytes, stat: Stat, assigned: int) -> WorkerSeen:
    record = decode_worker(data)
    if record is not None:
        return WorkerSeen(
            name,
            stat.ctime,
            record.state,
            assigned,
            record.slots,
            record.queues,
            record.host,
            record.pid,
            record.version,
            record.calls,
            None if record.app is None else _as_text(record.app.encode()),
            FLOWS in record.features,
        )
    state = worker_state(data)  # usable data without a record is that of a reference worker
    if state is None:
        return WorkerSeen(name, stat.ctime, UNKNOWN, assigned)
    return WorkerSeen(name, stat.ctime, _as_text(data), assigned, state.slots, tuple(sorted(state.queues)))


def _as_id(data: bytes) -> str:
    """Return the id of a reference master: text, which the C program cuts or pads with zeros, or else its bytes."""
    data = data.rstrip(b"\0")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    return _as_text(data) if text.isprintable() and (text or not data) else f"0x{data[: _MAX_SHOWN // 2].hex()}"


def _as_text(data: bytes) -> str:
    """Return data that any program may have written as text fit for a terminal."""
    return printable(data[: 4 * _MAX_SHOWN].decode("utf-8", "replace"), _MAX_SHOWN)
