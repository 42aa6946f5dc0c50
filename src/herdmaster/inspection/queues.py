"""The queues: how many tasks of each are where, how many workers serve it, and its limits."""

from __future__ import annotations

import msgspec

from herdmaster.core import layout
from herdmaster.core.members import worker_state
from herdmaster.core.names import parse_task_name, parse_worker_name
from herdmaster.core.queues import UNLIMITED, QueueSettings, decode_queue
from herdmaster.inspection.reading import ListingReader, Unreadable
from herdmaster.zookeeper.client import Client


class QueueSeen(msgspec.Struct, frozen=True):
    """One queue. `workers` counts the living workers that serve it."""

    name: str
    pending: int = 0
    delayed: int = 0
    assigned: int = 0
    workers: int = 0
    settings: QueueSettings = UNLIMITED


class _Counts:
    def __init__(self) -> None:
        self.found: dict[str, QueueSeen] = {}

    def add(self, queue: str, place: str) -> None:
        seen = self.found.get(queue) or QueueSeen(queue)
        self.found[queue] = msgspec.structs.replace(seen, **{place: getattr(seen, place) + 1})

    def add_task(self, name: str, place: str) -> None:
        parsed = parse_task_name(name)
        if parsed is not None:
            self.add(parsed.queue, place)


async def look_at_queues(client: Client, unreadable: Unreadable | None = None) -> list[QueueSeen]:
    """Return the queues that have tasks, workers or limits, by name. What cannot be read is not counted, and is added
    to `unreadable`. Raises SessionExpired."""
    await client.sync()
    reader = ListingReader(client, unreadable)
    counts = _Counts()
    for name in await reader.names(layout.DELAYED):
        delayed = layout.parse_delayed_name(name)
        if delayed is not None:
            counts.add_task(delayed[1], "delayed")
    for name in await reader.names(layout.TASKS):
        counts.add_task(name, "pending")
    for worker in await reader.names(layout.ASSIGN):
        for name in await reader.names(layout.inbox_path(worker)):
            counts.add_task(name, "assigned")
    workers = [name for name in await reader.names(layout.WORKERS) if parse_worker_name(name) is not None]
    for data, _ in (await reader.nodes([layout.worker_path(name) for name in workers])).values():
        state = worker_state(data)
        for queue in state.queues if state is not None else ():
            counts.add(queue, "workers")
    paths = [layout.queue_path(name) for name in await reader.names(layout.QUEUES)]
    for path, (data, _) in (await reader.nodes(paths)).items():
        queue, settings = layout.name_of(path), decode_queue(data)
        if settings is not None and settings != UNLIMITED:
            counts.found[queue] = msgspec.structs.replace(
                counts.found.get(queue) or QueueSeen(queue), settings=settings
            )
    return sorted(counts.found.values(), key=lambda seen: seen.name)
