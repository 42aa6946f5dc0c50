"""Operations of people on tasks and queues: cancel, replay, purge, pause. Each is a transaction of the table, or a
request that the primary carries out."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Final

from herdmaster.core import layout, transitions
from herdmaster.core.endings import held_key
from herdmaster.core.keys import HeldKey, KeyRecord, NewKey, encode_record
from herdmaster.core.names import check_queue, is_call
from herdmaster.core.outcome import OutcomeState
from herdmaster.core.payload import decode_call, for_replay
from herdmaster.core.queues import UNLIMITED, QueueSettings, decode_queue, encode_queue
from herdmaster.core.signing import Keyring, is_signed
from herdmaster.core.table import Failure, Verdict
from herdmaster.core.transitions import Move
from herdmaster.errors import BadPayload, BadSignature, HerdError
from herdmaster.inspection.missing import find_missing
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.roles.shared.cancel_requests import make_request, read_state, wait_decided
from herdmaster.roles.shared.committer import add_operation
from herdmaster.roles.shared.old_keys import free_old_key
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

_MAX_TRIES: Final = 20


class CancelVerdict(enum.Enum):
    """How a request to cancel was answered."""

    CANCELLED = "cancelled"
    ENDED = "it had ended"
    COLLECTED = "it has ended, and its outcome was collected already"
    NOWHERE = "it neither waits nor runs, and has no outcome"
    PENDING = "no primary has answered yet; the request stands"


async def cancel(client: Client, task: str, patience: float) -> CancelVerdict:
    """Ask the primary to cancel a task, and wait at most `patience` seconds for its answer. Raises SessionExpired."""
    await client.sync()
    await make_folders(client)  # where only the reference's programs ran, few of them exist
    if await find_missing(client, [task]):
        return CancelVerdict.NOWHERE
    await make_request(client, task)
    try:
        async with asyncio.timeout(patience):
            await wait_decided(client, task)
    except TimeoutError:
        return CancelVerdict.PENDING
    return await answer_of(client, task)


async def answer_of(client: Client, task: str) -> CancelVerdict:
    """Return how the primary answered a request that it has deleted. Raises SessionExpired."""
    if await read_state(client, task) is OutcomeState.CANCELLED:
        return CancelVerdict.CANCELLED
    has_outcome = await client.exists(layout.status_path(task)) is not None
    return CancelVerdict.ENDED if has_outcome else CancelVerdict.COLLECTED


class KeyHeld(HerdError):
    """The key of the dead task belongs to another task, `holder`."""

    def __init__(self, task: str, holder: str) -> None:
        super().__init__(f"{task} is not replayed, because {holder} now holds its key")
        self.holder = holder


async def replay(
    client: Client, task: str, new_task: str, *, with_key: bool = True, keyring: Keyring | None = None
) -> bool:
    """Move a dead task back to the backlog under a new name, with its counts reset. In the same transaction its
    uniqueness key becomes that of the new task; `with_key=False` leaves the key alone. `keyring` verifies the signature
    of the payload, and signs it for the new name.

    Return False if the task is not, or no longer, dead. Raises KeyHeld, HerdError for a payload that is no call or
    whose signature does not allow it, and the errors of ZooKeeper.
    """
    try:
        data, _ = await client.get(layout.dead_path(task))
    except errors.NoNode:
        return False
    for _ in range(_MAX_TRIES):
        move = await _replay_move(client, task, new_task, data or b"", with_key=with_key, keyring=keyring)
        if move is None:
            continue
        transaction = client.transaction()
        for operation in move.operations:
            add_operation(transaction, operation)
        try:
            await transaction.commit()
        except errors.TransactionFailed as failure:
            verdict = transitions.verdict(move, failure.index, Failure(type(failure.error).__name__))
            if verdict is Verdict.RACE_LOST:
                # Another replay, or an earlier request of this one whose reply was lost: only this call uses the new
                # name.
                return not await find_missing(client, [new_task])
            if verdict is Verdict.FOLDER_MISSING:
                await make_folders(client)
            elif verdict not in (Verdict.KEY_TAKEN, Verdict.WITHOUT_KEY):
                raise failure.error from None
            continue
        except errors.ConnectionLoss:
            continue
        return True
    raise HerdError(f"{task}: no certain answer after {_MAX_TRIES} tries; check whether {new_task} exists")


def _fresh(task: str, new_task: str, data: bytes, *, with_key: bool, keyring: Keyring | None) -> bytes:
    """Return the payload for the new name. Raises BadPayload, HerdError."""
    fresh = for_replay(task, data, with_key=with_key)
    if not is_call(task) or (keyring is None and not is_signed(data)):
        return fresh
    if keyring is None:
        raise HerdError(
            f"{task} is signed, and a replay has to sign it for its new name: set HERD_SIGNING_KEYS_FILE to the file "
            "with the keys"
        )
    try:
        return keyring.sign_again(task, new_task, data, fresh)
    except BadSignature as error:
        raise HerdError(f"{task} is not replayed: {error}") from None


async def _replay_move(
    client: Client, task: str, new_task: str, data: bytes, *, with_key: bool, keyring: Keyring | None
) -> Move | None:
    """Return the move that fits the present holder of the key; None if the holder has to be read again."""
    try:
        call = decode_call(data) if with_key and is_call(task) else None
        key = None if call is None else held_key(call)
        fresh = _fresh(task, new_task, data, with_key=key is not None, keyring=keyring)
    except BadPayload as error:
        raise HerdError(f"{task} cannot be replayed: {error}. `herd dead purge` deletes it") from None
    if call is None or key is None:
        return transitions.replay(task, new_task, fresh)
    await client.sync()
    hold, holder = await client.multi_read((layout.hold_path(key.hash, task), layout.key_path(key.hash)))
    unique = call.unique
    record = None if unique is None else encode_record(KeyRecord(unique.key, unique.scope, call.call))
    new_key = NewKey(key.hash, record)
    if isinstance(holder, errors.NoNode):
        return transitions.replay(task, new_task, fresh, None, new_key)
    if isinstance(holder, errors.ServerError):
        raise holder
    if holder[0] == task.encode() and isinstance(hold, errors.NoNode):
        await _free_old_key(client, key.hash, task)
        return None
    if holder[0] == task.encode():
        return transitions.replay(task, new_task, fresh, HeldKey(key.hash), new_key)
    if holder[0] == new_task.encode():  # by an earlier request of this call whose reply was lost
        return transitions.replay(task, new_task, fresh)
    raise KeyHeld(task, (holder[0] or b"").decode("utf-8", "replace"))


async def _free_old_key(client: Client, key_hash: str, task: str) -> None:
    """Free the key of a task of an older version. If the reply is lost, the task may still hold it."""
    try:
        await free_old_key(client.transaction(), key_hash, task).commit()
    except errors.ConnectionLoss:
        return
    except errors.TransactionFailed as failure:
        if not isinstance(failure.error, (errors.NodeExists, errors.NoNode)):
            raise failure.error from None


async def purge(client: Client, task: str) -> bool:
    """Delete a dead task for good. Return False if it is not, or no longer, dead."""
    was_lost = False
    while True:
        try:
            await client.delete(layout.dead_path(task))
        except errors.NoNode:
            return was_lost  # if so, by the request whose reply was lost
        except errors.ConnectionLoss:
            was_lost = True
            continue
        return True


async def change_queue(client: Client, queue: str, change: Callable[[QueueSettings], QueueSettings]) -> QueueSettings:
    """Change the settings in `/queues/QUEUE`; concurrent changes are all kept. Raises InvalidName,
    ConfigurationError."""
    path = layout.queue_path(check_queue(queue))
    while True:
        try:
            data, stat = await client.get(path)
        except errors.NoNode:
            await make_folders(client)
            settings = change(UNLIMITED)
            try:
                await client.create(path, encode_queue(settings))
            except (errors.NodeExists, errors.NoNode, errors.ConnectionLoss):
                continue
            return settings
        settings = change(decode_queue(data) or UNLIMITED)
        try:
            await client.set(path, encode_queue(settings), stat.version)
        except (errors.BadVersion, errors.NoNode, errors.ConnectionLoss):
            continue
        return settings
