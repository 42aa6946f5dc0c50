"""Finds out why a task has not run yet."""

from __future__ import annotations

import time
from collections.abc import Sequence

from herdmaster.core import layout
from herdmaster.core.names import TaskKind, check_queue, parse_task_name
from herdmaster.core.payload import Call
from herdmaster.core.queues import UNLIMITED, QueueSettings, decode_queue
from herdmaster.errors import InvalidName
from herdmaster.inspection.finding import Finding, critical, note, span, warning
from herdmaster.inspection.overview import Overview, OverviewReader
from herdmaster.inspection.queue_findings import QueueView, queue_findings, slot_findings
from herdmaster.inspection.queues import look_at_queues
from herdmaster.inspection.task_seen import TaskSeen, TaskState
from herdmaster.inspection.tasks import TaskDetails
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client


async def why_waiting(client: Client, task: TaskDetails, now: int | None = None) -> str:
    """Return why a task does not run yet; empty if it runs or has ended. `now` is in unix milliseconds. Raises
    SessionExpired."""
    now = time.time_ns() // 1_000_000 if now is None else now
    seen = task.seen
    if seen.state not in (TaskState.PENDING, TaskState.DELAYED, TaskState.ASSIGNED, TaskState.RECOVERING):
        return ""
    reader = OverviewReader(client)
    overview = await reader.look()
    found: list[Finding] = [] if overview.primary is not None else [no_primary(overview)]
    if seen.state is TaskState.PENDING:
        found += queue_findings(await _view(client, reader, overview, seen, now))
    if seen.state is TaskState.ASSIGNED:
        found += await _slots_of(reader, overview, seen, now)
    found += _own_findings(seen, task.call, now)
    if await client.exists(layout.cancel_path(seen.name)) is not None:
        found.append(note("cancelling", "a request to cancel it is not decided yet"))
    return "; ".join(map(str, found))


async def _view(client: Client, reader: OverviewReader, overview: Overview, seen: TaskSeen, now: int) -> QueueView:
    name = parse_task_name(seen.name)
    assert name is not None
    settings = await _settings_of(client, name.queue)
    workers = [worker for worker in overview.workers if name.queue in worker.queues]
    progress = await reader.progress_of([worker.name for worker in workers])
    assigned = 0
    if settings.max_running is not None:
        assigned = sum(each.assigned for each in await look_at_queues(client) if each.name == name.queue)
    return QueueView(
        name.queue,
        now,
        overview.primary,
        settings,
        assigned,
        tuple(zip(workers, progress, strict=True)),
        name.kind is TaskKind.CALL,
        name.step,
    )


async def _slots_of(reader: OverviewReader, overview: Overview, seen: TaskSeen, now: int) -> Sequence[Finding]:
    """Return what takes the slots of the worker whose inbox has the task."""
    workers = [worker for worker in overview.workers if worker.name == seen.worker]
    progress = await reader.progress_of([worker.name for worker in workers])
    if any(task.task == seen.name for each in progress for task in each.tasks) or not workers:
        return ()  # it has begun, or its worker is lost, since
    return list(slot_findings(f"{seen.worker}", list(zip(workers, progress, strict=True)), now))


def no_primary(overview: Overview) -> Finding:
    """Return the finding for a namespace without a primary."""
    if overview.master_is_left:
        return critical("no-primary", "there is no primary: Curator masters have left /master", "delete /master")
    return critical("no-primary", "there is no primary", "`herd master` starts one")


def _own_findings(seen: TaskSeen, call: Call | None, now: int) -> Sequence[Finding]:
    """Return what keeps this task alone from running."""
    found: list[Finding] = []
    if seen.due is not None and seen.due > now:
        found.append(note("delayed", f"it is delayed, and due in {span(seen.due - now)}"))
    elif seen.due is not None:
        found.append(note("due", "it is due, and the primary is about to move it to the backlog"))
    if call is not None and call.asked:
        found.append(unknown_call(call.call, call.asked))
    if call is not None and call.alone and seen.state is TaskState.PENDING:
        found.append(note("alone", "it runs alone, because workers were lost with it, and waits for an idle worker"))
    if seen.state is TaskState.ASSIGNED:
        found.append(note("assigned", f"it is in the inbox of {seen.worker}, and waits for a slot or was just begun"))
    if seen.state is TaskState.RECOVERING:
        found.append(note("recovering", f"its worker {seen.worker} is lost, and the primary gives it to another"))
    return found


def unknown_call(call: str, asked: Sequence[str]) -> Finding:
    """Return the finding for a call whose function the workers lack that were asked."""
    names = ", ".join(dict.fromkeys(asked))
    module = call.partition(":")[0]
    return warning(
        "unknown-call",
        f"{call} is not known to {names}, or not with these parameters",
        f"`herd worker --import {module}` imports its module",
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
