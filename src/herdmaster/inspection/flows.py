"""Lists flows, and finds one with all its steps, in requests of bounded size."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flows import FlowHeader, FlowState, decode_header
from herdmaster.core.names import parse_flow_name
from herdmaster.errors import BadPayload, HerdError
from herdmaster.inspection.flow_names import FlowNames
from herdmaster.inspection.flow_seen import StepInfo
from herdmaster.inspection.flow_steps import read_names, read_steps
from herdmaster.inspection.reading import names_of
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Node

_AT_ONCE: Final = 40
"""Flows of one request, which reads the header and the stats of four folders of each."""
UNENDED: Final = frozenset({FlowState.BUILDING, FlowState.RUNNING})


class FlowInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One flow. Times are unix milliseconds.

    `done` to `blocked` and `pending` are numbers of its steps, items of an `each` included. `pending` have a task that
    no worker has, `running` one that a worker has, `waiting` wait for parents that are not done, `blocked` have a
    parent that failed or is blocked. `is_cancelling`: a request to cancel it is not carried out yet. `problem` says why
    its header cannot be read.
    """

    id: str
    name: str
    state: FlowState
    created: int
    ended: int | None = None
    done: int = 0
    running: int = 0
    waiting: int = 0
    failed: int = 0
    blocked: int = 0
    retries: int = 0
    is_cancelling: bool = False
    key: str | None = None
    parent: str | None = None
    error: ErrorInfo | None = None
    problem: str | None = None
    pending: int = 0


class FlowDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """A flow with its steps. `timeout` is in seconds."""

    info: FlowInfo
    steps: tuple[StepInfo, ...] = ()
    on_failure: str = "finish"
    timeout: float | None = None


class FlowFilter(msgspec.Struct, frozen=True):
    """Which flows are wanted. No states stands for all."""

    states: frozenset[FlowState] = frozenset()
    name: str | None = None

    def takes(self, info: FlowInfo) -> bool:
        return (not self.states or info.state in self.states) and self.name in {None, info.name}


class NoSuchFlow(HerdError):
    """There is no flow of this name. `namesakes` are flows whose definition has it."""

    def __init__(self, flow: str, namesakes: Sequence[FlowInfo] = ()) -> None:
        if namesakes:
            count = "a flow is" if len(namesakes) == 1 else f"{len(namesakes)} flows are"
            super().__init__(
                f"{count} called {flow!r}: give the name {namesakes[-1].id}, which is that of the newest"
                f"{'' if len(namesakes) == 1 else f', or one that `herd flows list --name {flow}` shows'}"
            )
        else:
            super().__init__(f"there is no flow {flow!r}, or it ended and was swept: `herd flows list` shows all")


async def list_flows(client: Client, only: FlowFilter | None = None, limit: int = 0) -> list[FlowInfo]:
    """Return the flows that the filter takes, the oldest first; a `limit` of 0 is none. Flows with a key stand before
    others where there are more than `limit`: their names have no time. Raises the errors of ZooKeeper."""
    only = only or FlowFilter()
    await client.sync()
    found: list[FlowInfo] = []
    flows = await _flow_names(client)
    held: frozenset[str] | None = None
    for start in range(0, len(flows), _AT_ONCE):
        infos = [info for info in await _read_infos(client, flows[start : start + _AT_ONCE]) if only.takes(info)]
        if held is None and any(info.running for info in infos):
            held = await _held_tasks(client)
        for info in await _split_running(client, infos, held or frozenset()):
            may_block = info.state is FlowState.RUNNING and info.failed and info.waiting
            found.append(_split_waiting(info, await read_names(client, info.id)) if may_block else info)
        if 0 < limit <= len(found):
            break
    found.sort(key=lambda info: (info.created, info.id))
    return found[:limit] if limit else found


async def find_info(client: Client, flow: str) -> FlowInfo | None:
    """Return the state of a flow and the numbers of its steps, without reading the steps; None if there is none of this
    name. Raises as `list_flows`."""
    await client.sync()
    found = await _read_infos(client, [flow])
    if not found or found[0].state not in UNENDED:
        return found[0] if found else None
    return await _with_names(client, found[0], await read_names(client, flow))


async def find_flow(client: Client, flow: str) -> FlowDetails | None:
    """Return a flow with its steps; None if there is none of this name. Raises as `list_flows`."""
    await client.sync()
    found = await _read_infos(client, [flow])
    if not found:
        return None
    header = await _read_header(client, flow)
    names = await read_names(client, flow)
    steps = await read_steps(client, flow, names, has_ended=found[0].state not in UNENDED)
    details = FlowDetails(await _with_names(client, found[0], names), steps)
    if header is None:
        return details
    return msgspec.structs.replace(details, on_failure=header.on_failure, timeout=header.timeout)


async def resolve_flow(client: Client, text: str) -> str:
    """Return the name of the flow that a person means: its name, or a part from the beginning that no other flow has,
    with or without `flow-`. Raises NoSuchFlow, and HerdError if there are several."""
    await client.sync()
    if parse_flow_name(text) is not None:
        return text
    wanted = text if text.startswith(_PREFIX) else f"{_PREFIX}{text}"
    found = [flow for flow in await _flow_names(client) if flow.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if not found or wanted == _PREFIX:
        raise NoSuchFlow(text, await list_flows(client, FlowFilter(name=text)))
    raise HerdError(f"{len(found)} flows begin with {text!r}: {', '.join(found[:3])}{', ...' if found[3:] else ''}")


async def resolve_flows(client: Client, texts: Sequence[str]) -> list[str]:
    """Return the names of the flows that a person means, each once. Raises as `resolve_flow`."""
    return list(dict.fromkeys([await resolve_flow(client, text) for text in texts]))


_PREFIX: Final = "flow-"


async def _flow_names(client: Client) -> list[str]:
    try:
        return sorted(name for name in await client.children(layout.FLOWS) if parse_flow_name(name) is not None)
    except errors.NoNode:
        return []


async def _read_header(client: Client, flow: str) -> FlowHeader | None:
    try:
        return decode_header((await client.get(layout.flow_path(flow)))[0])
    except (errors.NoNode, BadPayload):
        return None


async def _read_infos(client: Client, flows: Sequence[str]) -> list[FlowInfo]:
    """Return those of the flows that exist."""
    paths = [path for flow in flows for path in _paths(flow)]
    replies = await client.multi_read(paths)
    size = len(_paths(""))
    infos = (
        _info(flow, replies[size * number : size * (number + 1)]) for number, flow in enumerate(flows)
    )  # fmt: skip
    return [info for info in infos if info is not None]


def _paths(flow: str) -> tuple[str, ...]:
    return (
        layout.flow_path(flow), layout.flow_results_path(flow), layout.flow_running_path(flow),
        layout.flow_steps_path(flow), layout.flow_failed_path(flow), layout.flow_cancel_path(flow),
    )  # fmt: skip


def _info(flow: str, replies: Sequence[Node | errors.ServerError]) -> FlowInfo | None:
    own, *folders, cancel = replies
    if isinstance(own, errors.NoNode):
        return None
    if isinstance(own, errors.ServerError):
        raise own
    done, running, waiting, failed = (
        0 if isinstance(each, errors.ServerError) else each[1].num_children for each in folders
    )
    data, stat = own
    try:
        header = decode_header(data)
    except BadPayload as error:
        return FlowInfo(flow, "", FlowState.RUNNING, stat.ctime, problem=str(error))
    has_ended = header.state not in UNENDED
    info = FlowInfo(
        flow, header.name, header.state, header.created, header.ended, done, running, waiting, failed,
        retries=header.retries, is_cancelling=isinstance(cancel, tuple) and not has_ended,
        key=header.key, parent=header.parent, error=header.error,
    )  # fmt: skip
    return _with_blocked(info, waiting if failed else 0, has_ended=True) if has_ended else info


async def _held_tasks(client: Client) -> frozenset[str]:
    """Return the names of the tasks that workers have."""
    try:
        workers = await client.children(layout.ASSIGN)
    except errors.NoNode:
        return frozenset()
    held: set[str] = set()
    for start in range(0, len(workers), _AT_ONCE):
        some = workers[start : start + _AT_ONCE]
        for listing in await client.multi_children(map(layout.inbox_path, some)):
            held.update(names_of(listing))
    return frozenset(held)


async def _split_running(client: Client, infos: Sequence[FlowInfo], held: Collection[str]) -> list[FlowInfo]:
    """Return the flows with the numbers of their steps whose tasks no worker has: names say it, and stats do not."""
    running = [info.id for info in infos if info.running]
    listings = map(names_of, await client.multi_children(map(layout.flow_running_path, running))) if running else ()
    pending = {
        flow: sum(task not in held for task in tasks) for flow, tasks in zip(running, listings, strict=True)
    }  # fmt: skip
    return [_with_pending(info, pending.get(info.id, 0)) for info in infos]


async def _with_names(client: Client, info: FlowInfo, names: FlowNames) -> FlowInfo:
    """Return a flow with the numbers that only names say: of steps without a worker, and of blocked ones."""
    pending = len(names.live.keys() - await _held_tasks(client)) if names.live else 0
    return _with_pending(_split_waiting(info, names), pending)


def _with_pending(info: FlowInfo, pending: int) -> FlowInfo:
    return msgspec.structs.replace(info, pending=pending, running=max(0, info.running - pending))


def _split_waiting(info: FlowInfo, names: FlowNames) -> FlowInfo:
    """Return a running flow with the number of steps that are blocked: names say it, and stats do not."""
    if info.state is not FlowState.RUNNING:
        return info
    return _with_blocked(info, min(len(names.blocked()), info.waiting))


def _with_blocked(info: FlowInfo, blocked: int, *, has_ended: bool = False) -> FlowInfo:
    return msgspec.structs.replace(info, blocked=blocked, waiting=0 if has_ended else info.waiting - blocked)
