"""What people do to tasks and queues: cancel, replay, purge, pause. Each is a transaction of the table, or a request
that the primary carries out.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Final

from herdmaster.core import layout, transitions
from herdmaster.core.names import check_queue
from herdmaster.core.outcome import OutcomeState, decode_outcome
from herdmaster.core.payload import for_replay
from herdmaster.core.queues import UNLIMITED, QueueSettings, decode_queue, encode_queue
from herdmaster.core.table import Failure, Verdict
from herdmaster.errors import BadOutcome, BadPayload, HerdError
from herdmaster.roles.committer import add_operation
from herdmaster.roles.whereabouts import find_missing
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import WatchEvent
from herdmaster.zookeeper.recipes.ownership import wait_unless_over

_MAX_TRIES: Final = 20


class CancelVerdict(enum.Enum):
    """What became of a request to cancel."""

    CANCELLED = "cancelled"
    ENDED = "it had ended"
    COLLECTED = "it has ended, and its outcome was collected already"
    NOWHERE = "it neither waits nor runs, and has no outcome"
    PENDING = "no primary has answered yet; the request stands"


async def cancel(client: Client, task: str, patience: float) -> CancelVerdict:
    """Asks for it and waits for the primary's answer, at most `patience` seconds. Raises SessionExpired."""
    await client.sync()
    if await find_missing(client, [task]):
        return CancelVerdict.NOWHERE
    await _until_certain(client, layout.cancel_path(task))
    try:
        async with asyncio.timeout(patience):
            await _wait_gone(client, layout.cancel_path(task))
    except TimeoutError:
        return CancelVerdict.PENDING
    try:
        data, _ = await client.get(layout.status_path(task))
    except errors.NoNode:
        return CancelVerdict.COLLECTED
    try:
        is_cancelled = decode_outcome(task, data or b"").state is OutcomeState.CANCELLED
    except BadOutcome:
        is_cancelled = False
    return CancelVerdict.CANCELLED if is_cancelled else CancelVerdict.ENDED


async def replay(client: Client, task: str, new_task: str) -> bool:
    """Moves a dead task back to where it is assigned from, under a new name, its counts begun anew. False if it is not
    (or no longer) dead. Raises HerdError for a payload that is no call, and what ZooKeeper refuses."""
    try:
        data, _ = await client.get(layout.dead_path(task))
    except errors.NoNode:
        return False
    try:
        fresh = for_replay(task, data or b"")
    except BadPayload as error:
        raise HerdError(f"{task} cannot be replayed: {error}. `herd dead purge` takes it away") from None
    move = transitions.replay(task, new_task, fresh)
    for _ in range(_MAX_TRIES):
        transaction = client.transaction()
        for operation in move.operations:
            add_operation(transaction, operation)
        try:
            await transaction.commit()
        except errors.TransactionFailed as failure:
            verdict = transitions.verdict(move, failure.index, Failure(type(failure.error).__name__))
            if verdict is Verdict.RACE_LOST:
                # Somebody else's replay, or our own whose reply was lost: the new name is ours alone.
                return not await find_missing(client, [new_task])
            raise failure.error from None
        except errors.ConnectionLoss:
            continue
        return True
    raise HerdError(f"{task}: the connection was lost {_MAX_TRIES} times in a row; see whether {new_task} is there")


async def purge(client: Client, task: str) -> bool:
    """Takes a dead task away for good. False if it is not (or no longer) dead."""
    was_lost = False
    while True:
        try:
            await client.delete(layout.dead_path(task))
        except errors.NoNode:
            return was_lost  # by the request whose reply was lost, then
        except errors.ConnectionLoss:
            was_lost = True
            continue
        return True


async def change_queue(client: Client, queue: str, change: Callable[[QueueSettings], QueueSettings]) -> QueueSettings:
    """Changes what stands in `/queues/QUEUE`, however many do so at once. Raises InvalidName, ConfigurationError."""
    path = layout.queue_path(check_queue(queue))
    while True:
        try:
            data, stat = await client.get(path)
        except errors.NoNode:
            settings = change(UNLIMITED)
            try:
                await client.create(path, encode_queue(settings))
            except (errors.NodeExists, errors.ConnectionLoss):
                continue
            return settings
        except errors.ConnectionLoss:
            continue
        settings = change(decode_queue(data) or UNLIMITED)
        try:
            await client.set(path, encode_queue(settings), stat.version)
        except (errors.BadVersion, errors.NoNode, errors.ConnectionLoss):
            continue
        return settings


async def _until_certain(client: Client, path: str) -> None:
    while True:
        try:
            await client.create(path)
        except errors.ConnectionLoss:
            continue
        except errors.NodeExists:
            return
        return


async def _wait_gone(client: Client, path: str) -> None:
    while True:
        changed = asyncio.Event()

        def handle(_event: WatchEvent, changed: asyncio.Event = changed) -> None:
            changed.set()

        try:
            if await client.exists(path, handle) is None:
                return
        except errors.ConnectionLoss:
            continue
        await wait_unless_over(client, changed)
