"""Find out why a task waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from herdmaster.core import layout
from herdmaster.core.members import DRAINED, DRAINING
from herdmaster.core.names import TaskKind, check_queue, parse_task_name
from herdmaster.core.queues import UNLIMITED, QueueSettings, decode_queue
from herdmaster.errors import InvalidName
from herdmaster.inspection.overview import OverviewReader
from herdmaster.zookeeper import errors

if TYPE_CHECKING:
    from herdmaster.inspection.overview import Overview
    from herdmaster.zookeeper.client import Client


async def why_waiting(client: Client, task: str) -> str:
    """Return what keeps a pending task from being assigned; empty if it only waits its turn. Raises SessionExpired."""
    name = parse_task_name(task)
    if name is None:
        return ""
    observer = OverviewReader(client)
    overview = await observer.look()
    settings = await _settings_of(client, name.queue)
    found = list(_reasons(overview, name.queue, settings, is_call=name.kind is TaskKind.CALL))
    return "; ".join(found or await _stalled(observer, overview, name.queue))


async def _stalled(observer: OverviewReader, overview: Overview, queue: str) -> list[str]:
    serving = [worker.name for worker in overview.workers if queue in worker.queues]
    if serving and all(progress.stalled for progress in await observer.progress_of(serving)):
        return [f"every slot for queue {queue} has a task that waits for other tasks: see `herd workers`"]
    return []


def _reasons(overview: Overview, queue: str, settings: QueueSettings, *, is_call: bool) -> Iterator[str]:
    if overview.primary is None:
        yield "there is no primary: `herd master` starts one"
    if settings.paused:
        yield f"queue {queue} is paused: `herd queues resume {queue}` resumes it"
    elif settings != UNLIMITED:
        yield f"queue {queue} is limited: see `herd queues`"
    serving = [worker for worker in overview.workers if queue in worker.queues]
    if not serving:
        yield f"no worker serves queue {queue}: `herd worker --queue {queue}` starts one"
    elif all(worker.state in (DRAINING, DRAINED) for worker in serving):
        yield f"all workers that serve queue {queue} are draining"
    elif is_call and not any(worker.calls for worker in serving):
        yield _why_no_calls(queue, sorted({worker.app for worker in serving if worker.app is not None}))


def _why_no_calls(queue: str, apps: list[str]) -> str:
    if not apps:
        return f"no worker that serves queue {queue} has an app: `herd worker --app MODULE` gives it one"
    return (
        f"no worker that serves queue {queue} has a task: its app ({', '.join(apps)}) registers none; "
        "`herd worker --import MODULE` imports a module that does"
    )


async def paused_queues(client: Client) -> list[str]:
    """Return the names of paused queues, sorted. Raises SessionExpired."""
    try:
        names = await client.children(layout.QUEUES)
    except errors.NoNode:
        return []
    return [name for name in sorted(names) if (await _settings_of(client, name)).paused]


async def _settings_of(client: Client, queue: str) -> QueueSettings:
    try:
        data, _ = await client.get(layout.queue_path(check_queue(queue)))
    except (errors.NoNode, InvalidName):  # any program may have put another name there
        return UNLIMITED
    return decode_queue(data) or UNLIMITED
