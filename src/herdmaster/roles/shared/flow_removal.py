"""Deletes a flow that has ended, for people and for the sweeping master."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from herdmaster.core import flow_moves, layout
from herdmaster.core.flow_graph import parent_of
from herdmaster.core.flows import FlowState, decode_header, encode_header
from herdmaster.core.operations import CheckNode, DeleteNode, Operation
from herdmaster.errors import BadPayload
from herdmaster.inspection.reading import names_of
from herdmaster.roles.shared.committer import add_operation
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

_DELETIONS: Final = 500
_FOLDERS_AT_ONCE: Final = 50
_MAX_ROUNDS: Final = 100
"""Another remover may be at work: then names are gone that were just listed."""


_CHANGED: Final = (errors.NoNode, errors.NotEmpty, errors.BadVersion)


async def remove_flow(client: Client, flow: str) -> bool:
    """Delete a flow that has ended, or that was never built, with its outcome; go on with what was begun. Return False
    if it runs, or changes all the time. A flow that is gone is removed. Raises the errors of ZooKeeper."""
    for _ in range(_MAX_ROUNDS):
        try:
            data, stat = await client.get(layout.flow_path(flow))
        except errors.NoNode:
            return True
        version = stat.version
        state, removed = _removed(data)
        if state is FlowState.RUNNING:
            return False
        try:
            if state is not FlowState.REMOVED:
                await _commit(client, flow_moves.remove_flow(flow, version, removed).operations)
                version += 1
            await _delete(client, flow, version)
        except errors.ConnectionLoss:
            continue
        except errors.TransactionFailed as failure:
            if not isinstance(failure.error, _CHANGED):
                raise failure.error from None
    return False


def _removed(data: bytes | None) -> tuple[FlowState, bytes]:
    """Return the state, and the header that says that the flow is removed. One that cannot be read has ended."""
    try:
        header = decode_header(data)
    except BadPayload:
        return FlowState.REMOVED, b""
    return header.state, encode_header(msgspec.structs.replace(header, state=FlowState.REMOVED))


async def _delete(client: Client, flow: str, version: int) -> None:
    """Delete bottom up, the header and the outcome last. Each transaction checks the header: the name of a flow with a
    key comes again."""
    check = CheckNode(layout.flow_path(flow), version)
    folders = (
        layout.flow_running_path(flow), layout.flow_steps_path(flow), layout.flow_failed_path(flow),
        layout.flow_results_path(flow),
    )  # fmt: skip
    listings = await client.multi_children(folders)
    present = [path for path, listing in zip(folders, listings, strict=True) if not isinstance(listing, errors.NoNode)]
    names = dict(zip(folders, map(names_of, listings), strict=True))
    joins = [f"{folders[1]}/{entry}" for entry in names[folders[1]] if parent_of(entry) is None]
    for start in range(0, len(joins), _FOLDERS_AT_ONCE):
        some = joins[start : start + _FOLDERS_AT_ONCE]
        edges = zip(some, map(names_of, await client.multi_children(some)), strict=True)
        await _delete_all(client, check, (f"{join}/{parent}" for join, parents in edges for parent in parents))
    await _delete_all(client, check, (f"{folder}/{name}" for folder in folders for name in names[folder]))
    beside = (layout.flow_cancel_path(flow), layout.status_path(flow))
    there = [
        path for path, node in zip(beside, await client.multi_read(beside), strict=True) if isinstance(node, tuple)
    ]
    last = [*present, *there, layout.flow_path(flow)]
    await _commit(client, [check, *map(DeleteNode, last)])


async def _delete_all(client: Client, check: CheckNode, paths: Iterable[str]) -> None:
    for some in _parts(paths):
        await _commit(client, [check, *map(DeleteNode, some)])


def _parts(paths: Iterable[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for path in paths:
        part.append(path)
        if len(part) == _DELETIONS:
            yield part
            part = []
    if part:
        yield part


async def _commit(client: Client, operations: Sequence[Operation]) -> None:
    transaction = client.transaction()
    for operation in operations:
        add_operation(transaction, operation)
    await transaction.commit()
