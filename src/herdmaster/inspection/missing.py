"""Finds out whether tasks and flows exist anywhere, for callers that know only their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from herdmaster.core import layout
from herdmaster.core.flows import decode_header, is_ended
from herdmaster.errors import BadPayload
from herdmaster.inspection.reading import names_of
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Node

_FLOW: Final = "flow-"
_FEW: Final = 20
_MAX_PATHS: Final = 4000
"""Up to this many paths are read one by one; for more, the folders are listed."""
_MAX_LISTINGS: Final = 10


async def find_missing(client: Client, tasks: Sequence[str]) -> list[str]:
    """Return the tasks that are nowhere. A task that moves from one place to another is somewhere. A flow is nowhere if
    it has ended and its outcome was collected.

    Raises the error of a folder that cannot be read, ConnectionLoss and SessionExpired.
    """
    # A new session may talk to a server that lags behind what an earlier one has seen.
    await client.sync()
    flows = [name for name in tasks if name.startswith(_FLOW)]
    if flows:
        tasks = [name for name in tasks if not name.startswith(_FLOW)]
    missing = await _look_where_most_are(client, tasks)
    missing = await _look_everywhere(client, missing) if missing else []
    return [*missing, *await _missing_flows(client, flows)]


async def _missing_flows(client: Client, flows: Sequence[str]) -> list[str]:
    """Return the flows that have neither an outcome nor a header that says that they have not ended."""
    paths = (path for flow in flows for path in (layout.status_path(flow), layout.flow_path(flow)))
    found = await client.multi_read(paths)
    return [
        flow
        for flow, status, header in zip(flows, found[::2], found[1::2], strict=True)
        if isinstance(status, errors.NoNode) and not _is_open(header)
    ]


def _is_open(header: Node | errors.ServerError) -> bool:
    if isinstance(header, errors.ServerError):
        return not isinstance(header, errors.NoNode)
    try:
        return not is_ended(decode_header(header[0]).state)
    except BadPayload:
        return False


async def _look_where_most_are(client: Client, tasks: Sequence[str]) -> list[str]:
    """Look in the places where most tasks are. Cheap: it does not list delayed tasks, whose znodes are not named after
    the task alone."""
    if len(tasks) > _FEW:
        return list(tasks)
    found = await client.multi_children(path for task in tasks for path in _own_places(task))
    places = len(_own_places(""))
    return [
        task
        for number, task in enumerate(tasks)
        if not any(map(_is_there, found[number * places : (number + 1) * places]))
    ]


async def _look_everywhere(client: Client, tasks: Sequence[str]) -> list[str]:
    """Look in all places at one moment: two requests would miss a task that moves in between."""
    inboxes: tuple[str, ...] = ()
    for _ in range(_MAX_LISTINGS):
        one_by_one = len(tasks) * (len(inboxes) + 2) <= _MAX_PATHS
        paths = _places(tasks, inboxes) if one_by_one else _folders(inboxes)
        assign, delayed, *found = await client.multi_children((layout.ASSIGN, layout.DELAYED, *paths))
        if not set(names_of(assign)) <= set(inboxes):
            inboxes = names_of(assign)  # a worker has come, and may have been given one of the tasks
            continue
        here = {parsed[1] for name in names_of(delayed) if (parsed := layout.parse_delayed_name(name)) is not None}
        if one_by_one:
            here.update(layout.name_of(path) for path, each in zip(paths, found, strict=True) if _is_there(each))
        else:
            here.update(name for each in found for name in names_of(each))
        return [task for task in tasks if task not in here]
    return []  # inboxes appear faster than they can be read; a later search will tell


def _own_places(task: str) -> tuple[str, ...]:
    return (layout.task_path(task), layout.status_path(task))


def _places(tasks: Sequence[str], inboxes: Sequence[str]) -> list[str]:
    return [
        path
        for task in tasks
        for path in (*_own_places(task), *(layout.assignment_path(inbox, task) for inbox in inboxes))
    ]


def _folders(inboxes: Sequence[str]) -> list[str]:
    return [layout.TASKS, layout.STATUS, *map(layout.inbox_path, inboxes)]


def _is_there(result: tuple[str, ...] | errors.ServerError) -> bool:
    # NoAuth is the answer for a znode that exists.
    return not isinstance(result, errors.NoNode)
