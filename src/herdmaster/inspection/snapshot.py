"""Reads what a diagnosis needs of a namespace. Changes nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.history import parse_batch_name
from herdmaster.core.keys import is_key_hash, parse_hold_name
from herdmaster.core.members import decode_master, decode_worker
from herdmaster.core.names import (
    has_outcome,
    is_call,
    is_step,
    parse_client_name,
    parse_flow_name,
    parse_master_name,
    parse_schedule_name,
    parse_task_name,
    parse_worker_name,
    ulid_time_ms,
)
from herdmaster.core.payload import Call, decode_call
from herdmaster.core.progress import WorkerProgress
from herdmaster.core.queues import UNLIMITED, decode_queue, parse_queue_name
from herdmaster.core.values import UNREADABLE
from herdmaster.errors import BadPayload
from herdmaster.inspection.overview import Overview, OverviewReader
from herdmaster.inspection.payloads import is_big, read_payloads
from herdmaster.inspection.queue_findings import QueueView
from herdmaster.inspection.reading import ListingReader, Unreadable
from herdmaster.inspection.schedules import ScheduleState, list_schedules
from herdmaster.zookeeper.client import Client

_SAMPLE: Final = 100
"""Waiting calls whose payloads are read, and schedules that are due."""
_OWN: Final = frozenset({"access", "master", "zookeeper", *(folder[1:] for folder in layout.FOLDERS)})


class FolderSize(msgspec.Struct, frozen=True):
    """How many names a folder has, and how many bytes a reply with all of them."""

    names: int
    reply_bytes: int


class Snapshot(msgspec.Struct, frozen=True):
    """A namespace at a time (unix milliseconds of this machine).

    `queues` are those with waiting tasks; `pending` and `oldest` say how many these are, and when the oldest was
    submitted. `clocks` says by how many milliseconds the clock of a master or worker was ahead of the servers' when it
    began. `foreign` are znodes that no role understands. `overdue` counts delayed tasks that are due for a minute.
    `unknown_calls` are calls that wait, with the workers that lack them. `suspects` are the waiting tasks that are to
    run alone, with their calls. `kept_keys` counts the keys of tasks that have ended. `late_schedules` have been due
    for a minute, `broken_schedules` cannot be used, which their texts explain.
    """

    now: int
    overview: Overview
    queues: tuple[QueueView, ...] = ()
    pending: dict[str, int] = msgspec.field(default_factory=dict)
    oldest: dict[str, int] = msgspec.field(default_factory=dict)
    clocks: dict[str, int] = msgspec.field(default_factory=dict)
    folders: dict[str, FolderSize] = msgspec.field(default_factory=dict)
    foreign: tuple[str, ...] = ()
    delayed: int = 0
    overdue: int = 0
    next_due: int | None = None
    unknown_calls: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    suspects: dict[str, str] = msgspec.field(default_factory=dict)
    held_keys: int = 0
    kept_keys: int = 0
    cancels: int = 0
    late_schedules: tuple[str, ...] = ()
    broken_schedules: dict[str, str] = msgspec.field(default_factory=dict)


_OVERDUE_MS: Final = 60_000

_Names = Mapping[str, Sequence[str]]


async def take_snapshot(client: Client, unreadable: Unreadable | None = None) -> Snapshot:
    """Raises ConfigurationError if the namespace does not exist, SessionExpired."""
    now = time.time_ns() // 1_000_000
    overview_reader = OverviewReader(client, unreadable)
    overview = await overview_reader.look()
    members = [worker.name for worker in overview.workers]
    progress = dict(zip(members, await overview_reader.progress_of(members), strict=True))
    reader = ListingReader(client, unreadable)
    names = {folder: await reader.names(folder) for folder in layout.FOLDERS}
    delayed = [parsed for name in names[layout.DELAYED] if (parsed := layout.parse_delayed_name(name)) is not None]
    pending = [name for name in names[layout.TASKS] if parse_task_name(name) is not None]
    calls = await _sample_calls(client, pending, delayed)
    late, broken = await _schedules(client, names[layout.TICKS], now - _OVERDUE_MS)
    return Snapshot(
        now,
        overview,
        await _queues(reader, Snapshot(now, overview), progress, pending, names),
        _count(pending),
        _oldest(pending),
        await _clocks(reader, names),
        {folder: FolderSize(len(found), sum(len(name) + 4 for name in found)) for folder, found in names.items()},
        _foreign(names, await reader.names("/")),
        delayed=len(delayed),
        overdue=sum(due < now - _OVERDUE_MS for due, _ in delayed),
        next_due=min((due for due, _ in delayed), default=None),
        unknown_calls=_unknown_calls(calls.values()),
        suspects={name: calls[name].call for name in pending if name in calls and calls[name].alone},
        held_keys=sum(is_key_hash(name) for name in names[layout.KEYS]),
        kept_keys=len(_holders(names) & set(names[layout.STATUS])),
        cancels=len(names[layout.CANCEL]),
        late_schedules=late,
        broken_schedules=broken,
    )


async def _queues(
    reader: ListingReader,
    snapshot: Snapshot,
    progress: Mapping[str, WorkerProgress],
    pending: Sequence[str],
    names: _Names,
) -> tuple[QueueView, ...]:
    """Return the queues that have waiting tasks, by name."""
    overview = snapshot.overview
    held = [name for inbox in names[layout.ASSIGN] for name in await reader.names(layout.inbox_path(inbox))]
    assigned = _count(held)
    paths = [layout.queue_path(name) for name in names[layout.QUEUES] if parse_queue_name(name) is not None]
    settings = {layout.name_of(path): decode_queue(data) for path, (data, _) in (await reader.nodes(paths)).items()}
    calls = _count([name for name in pending if is_call(name)])
    steps = _count([name for name in pending if is_step(name)])
    return tuple(
        QueueView(
            queue,
            snapshot.now,
            overview.primary,
            settings.get(queue) or UNLIMITED,
            assigned.get(queue, 0),
            tuple((worker, progress[worker.name]) for worker in overview.workers if queue in worker.queues),
            queue in calls,
            queue in steps,
        )
        for queue in sorted(_count(pending))
    )


async def _schedules(client: Client, names: Sequence[str], limit_ms: int) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the schedules that were due at a time, and those among them that cannot be used, with the reason."""
    ticks = (tick for tick in map(layout.parse_tick_name, names) if tick is not None and tick.due_ms < limit_ms)
    due = [tick.schedule for tick in sorted(ticks)][:_SAMPLE]
    seen = await list_schedules(client, due) if due else []
    broken = {each.name: each.problem or "" for each in seen if each.state is ScheduleState.BROKEN}
    late = [
        each.name
        for each in seen
        if each.state is ScheduleState.ACTIVE and each.next_ms is not None and each.next_ms < limit_ms
    ]
    return tuple(late), broken


def _queue(name: str) -> str | None:
    parsed = parse_task_name(name)
    return None if parsed is None else parsed.queue


def _count(names: Sequence[str]) -> dict[str, int]:
    """Return how many of the tasks are in each queue."""
    counts: dict[str, int] = {}
    for name in names:
        queue = _queue(name)
        if queue is not None:
            counts[queue] = counts.get(queue, 0) + 1
    return counts


def _oldest(names: Sequence[str]) -> dict[str, int]:
    """Return by queue when the oldest call was submitted."""
    oldest: dict[str, int] = {}
    for name in names:
        queue, time_ms = _queue(name), ulid_time_ms(name)
        if queue is not None and time_ms is not None:
            oldest[queue] = min(time_ms, oldest.get(queue, time_ms))
    return oldest


async def _clocks(reader: ListingReader, names: _Names) -> dict[str, int]:
    """Compare when each member says that it began with when ZooKeeper says that its znode was created."""
    paths = [layout.worker_path(name) for name in names[layout.WORKERS] if parse_worker_name(name) is not None]
    paths += [layout.master_record_path(name) for name in names[layout.MASTERS] if parse_master_name(name) is not None]
    found: dict[str, int] = {}
    for path, (data, stat) in (await reader.nodes(paths)).items():
        record = decode_worker(data) if path.startswith(layout.WORKERS) else decode_master(data)
        if record is not None and record.since:
            found[layout.name_of(path)] = record.since - stat.ctime
    return found


def _holders(names: _Names) -> set[str]:
    """Return the tasks that hold keys."""
    holds = (parse_hold_name(name) for name in names[layout.KEYS])
    return {hold[1] for hold in holds if hold is not None}


_KNOWN: Final[Mapping[str, Callable[[str], object | None]]] = {
    layout.WORKERS: parse_worker_name,
    layout.ASSIGN: parse_worker_name,
    layout.TASKS: parse_task_name,
    layout.STATUS: lambda name: has_outcome(name) or None,
    layout.DELAYED: layout.parse_delayed_name,
    layout.DEAD: parse_task_name,
    layout.MASTERS: parse_master_name,
    layout.CLIENTS: parse_client_name,
    layout.CANCEL: lambda name: has_outcome(name) or None,
    layout.KEYS: lambda name: parse_hold_name(name) or is_key_hash(name) or None,
    layout.QUEUES: parse_queue_name,
    layout.PROGRESS: parse_worker_name,
    layout.WAITERS: lambda name: has_outcome(name) or None,
    layout.HISTORY: parse_batch_name,
    layout.SCHEDULES: parse_schedule_name,
    layout.TICKS: layout.parse_tick_name,
    layout.FLOWS: parse_flow_name,
}


def _foreign(names: _Names, top: Sequence[str]) -> tuple[str, ...]:
    """Return the paths that no role understands, sorted."""
    below = (f"{folder}/{name}" for folder, found in names.items() for name in found if _KNOWN[folder](name) is None)
    return tuple(sorted([*(f"/{name}" for name in top if name not in _OWN), *below]))


async def _sample_calls(client: Client, pending: Sequence[str], delayed: Sequence[tuple[int, str]]) -> dict[str, Call]:
    """Return a sample of the calls that wait, by their tasks: the oldest, and the next due."""
    places = [(name, layout.task_path(name)) for name in sorted(pending)]
    places += [(name, layout.delayed_path(due, name)) for due, name in sorted(delayed)]
    places = [each for each in places if is_call(each[0]) and not is_big(each[0])]
    half = _SAMPLE // 2
    sample = places if len(places) <= _SAMPLE else [*places[:half], *places[-half:]]
    found: dict[str, Call] = {}
    for name, data in (await read_payloads(client, sample)).items():
        with contextlib.suppress(BadPayload, *UNREADABLE):
            found[name] = decode_call(data)
    return found


def _unknown_calls(calls: Iterable[Call]) -> dict[str, tuple[str, ...]]:
    """Return the calls that workers have passed on, with these workers."""
    found: dict[str, tuple[str, ...]] = {}
    for call in calls:
        if call.asked:
            found[call.call] = tuple(dict.fromkeys((*found.get(call.call, ()), *call.asked)))
    return found
