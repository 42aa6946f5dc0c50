"""Where tasks are, for those who know only their names."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from herdmaster.core import layout
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

_FEW: Final = 20
"""So many are asked for one by one; more are looked for in listings of the folders."""


async def find_missing(client: Client, tasks: Sequence[str]) -> list[str]:
    """Those of the tasks that are nowhere. A task between two places can be missed by one look, so it takes three.

    Raises what reading raises.
    """
    missing = await _look_where_most_are(client, tasks)
    for _ in range(2):
        if missing:
            missing = await _look_everywhere(client, missing)
    return missing


async def _look_where_most_are(client: Client, tasks: Sequence[str]) -> list[str]:
    """A cheap first look, without the listing of delayed tasks, whose names do not follow from a task's."""
    if len(tasks) > _FEW:
        return list(tasks)
    found = await asyncio.gather(
        *(client.exists(path) for task in tasks for path in (layout.task_path(task), layout.status_path(task)))
    )
    return [task for task, waits, ended in zip(tasks, found[::2], found[1::2], strict=True) if not (waits or ended)]


async def _look_everywhere(client: Client, tasks: Sequence[str]) -> list[str]:
    """In the order in which a task moves."""
    seen = {
        delayed[1] for name in await client.children(layout.DELAYED) if (delayed := layout.parse_delayed_name(name))
    }
    seen.update(await _look_in(client, layout.TASKS, tasks))
    inboxes = [layout.inbox_path(worker) for worker in await client.children(layout.ASSIGN)]
    for found in await asyncio.gather(*(_look_in(client, inbox, tasks) for inbox in inboxes)):
        seen.update(found)
    seen.update(await _look_in(client, layout.STATUS, tasks))
    return [task for task in tasks if task not in seen]


async def _look_in(client: Client, folder: str, tasks: Sequence[str]) -> set[str]:
    """Which of the tasks are in the folder."""
    if len(tasks) <= _FEW:
        stats = await asyncio.gather(*(client.exists(f"{folder}/{task}") for task in tasks))
        return {task for task, stat in zip(tasks, stats, strict=True) if stat is not None}
    try:
        return set(await client.children(folder))
    except errors.NoNode:  # an inbox that has just gone
        return set()
