"""Operations of people on uniqueness keys: list them, find the holder of one, release it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec

from herdmaster.core import layout, transitions
from herdmaster.core.keys import KeyScope, decode_record, hash_key, is_key_hash
from herdmaster.core.names import parse_task_name
from herdmaster.errors import HerdError
from herdmaster.inspection.reading import ListingReader, Unreadable
from herdmaster.inspection.task_seen import UNENDED, TaskState
from herdmaster.inspection.tasks import Inspector
from herdmaster.roles.shared.committer import add_operation
from herdmaster.roles.shared.old_keys import free_old_key
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Node

_AT_ONCE: Final = 100
_MAX_TRIES: Final = 20


class KeySeen(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key that is held. `key` (cut if it is long) and `call` are unknown if an older version submitted the holder.
    `since` is in unix milliseconds."""

    hash: str
    task: str
    since: int
    key: str | None = None
    call: str | None = None
    scope: str = KeyScope.GLOBAL

    def is_named(self, key: str) -> bool:
        """Return whether the text, or the hash, is that of this key."""
        call = self.call if self.scope == KeyScope.CALL else None
        return self.hash in (key, hash_key(key, call))


class Released(msgspec.Struct, frozen=True):
    """A key was released: `task` lost it. `state` is where that task is, None if it is nowhere."""

    hash: str
    task: str
    state: TaskState | None = None


async def list_keys(client: Client, unreadable: Unreadable | None = None) -> AsyncIterator[KeySeen]:
    """Yield all keys that are held, in no order. What cannot be read is left out, and is added to `unreadable`."""
    unreadable = unreadable if unreadable is not None else Unreadable()
    await client.sync()
    hashes = [name for name in await ListingReader(client, unreadable).names(layout.KEYS) if is_key_hash(name)]
    for start in range(0, len(hashes), _AT_ONCE):
        for seen in await _see(client, hashes[start : start + _AT_ONCE], unreadable):
            yield seen


async def find_key(client: Client, key: str, call: str | None = None) -> KeySeen | None:
    """Find the key of a call, or of the whole namespace; for a call also the key under which an older version knows
    it."""
    await client.sync()
    seen = await _see(client, [hash_key(key, call)])
    if not seen and call is not None:
        old = await _see(client, [hash_key(key)])
        seen = [each for each in old if each.key is None]
    return seen[0] if seen else None


async def release(client: Client, key_hash: str) -> Released | None:
    """Take a key from its holder, which goes on, or keeps its outcome, without it. Return None if no task holds the
    key. Raises HerdError if an older version submitted the holder and it has not ended: it would free the key again
    when it ends, although another task may have it then."""
    return await _Releasing(key_hash).run(client)


class KeyRelease:
    """The release of a key that a program names. It may be run over several sessions, with the same result as over
    one."""

    def __init__(self, key: str, call: str | None = None) -> None:
        self._key = key
        self._call = call
        self._releasing: _Releasing | None = None

    async def run(self, client: Client) -> str | None:
        """Release the key. Return the name of the task that held it."""
        if self._releasing is None:
            seen = await find_key(client, self._key, self._call)
            if seen is None:
                return None
            self._releasing = _Releasing(seen.hash)
        released = await self._releasing.run(client)
        return None if released is None else released.task


class _Releasing:
    """One release. It remembers from which task the key is to be taken, also after a lost reply or session, and takes
    it from no other."""

    def __init__(self, key_hash: str) -> None:
        self._hash = key_hash
        self._holder: str | None = None
        self._lost: Released | None = None  # perhaps released, by the request whose reply was lost

    async def run(self, client: Client) -> Released | None:
        for _ in range(_MAX_TRIES):
            await client.sync()
            seen = await _see(client, [self._hash])
            if not seen or self._holder not in (None, seen[0].task):
                return self._lost
            (held,) = seen
            self._holder = held.task
            details = await Inspector(client).find(held.task) if parse_task_name(held.task) is not None else None
            found = Released(self._hash, held.task, details.seen.state if details is not None else None)
            before, self._lost = self._lost, found
            try:
                if held.key is not None:
                    await _release_hold(client, held)
                elif not await _still_holds(client, held):
                    self._lost = before
                    continue
                else:
                    await _release_old(client, held, found.state)
            except errors.TransactionFailed as failure:
                self._lost = before
                if not isinstance(failure.error, (errors.NoNode, errors.NodeExists)):
                    raise failure.error from None
            except errors.ConnectionLoss:
                pass
            else:
                return found
        raise HerdError(f"no certain answer after {_MAX_TRIES} tries: `herd keys show` tells which task holds the key")


async def _release_hold(client: Client, held: KeySeen) -> None:
    transaction = client.transaction()
    for operation in transitions.release(held.task, held.hash).operations:
        add_operation(transaction, operation)
    await transaction.commit()


async def _still_holds(client: Client, held: KeySeen) -> bool:
    """Return whether a task of an older version has its key, after it was seen where it is. A task that has ended may
    have freed its key in that transaction, without a hold; from then on the key is freed with one only."""
    return any(seen.task == held.task for seen in await _see(client, [held.hash]))


async def _release_old(client: Client, held: KeySeen, state: TaskState | None) -> None:
    """Free the key of a task of an older version. Refused if the outcome of that task goes meanwhile: an older version
    then deletes the key, and another task may have it."""
    if state in UNENDED:
        raise HerdError(
            f"{held.task} was submitted by an older version of Herdmaster, and keeps its key until it has ended: "
            f"wait for it, or `herd tasks cancel {held.task}`"
        )
    transaction = client.transaction()
    if state is not None and state is not TaskState.DEAD:
        transaction.check(layout.status_path(held.task))
    await free_old_key(transaction, held.hash, held.task).commit()


async def _see(client: Client, hashes: Sequence[str], unreadable: Unreadable | None = None) -> list[KeySeen]:
    """Return those of the keys that are held. If key and hold do not fit, because the key was freed in between, both
    are read again. Raises the error of a key that cannot be read, or adds it to `unreadable` if that is given."""
    seen: list[KeySeen] = []
    for _ in range(_MAX_TRIES):
        holders = _holders(await client.multi_read(map(layout.key_path, hashes)), hashes, unreadable)
        paths = (path for each in holders for path in (_hold_path(each, holders[each]), layout.key_path(each)))
        replies = await client.multi_read(paths)
        again: list[str] = []
        for key_hash, hold, key in zip(holders, replies[::2], replies[1::2], strict=True):
            if isinstance(key, errors.ServerError) or _text(key[0]) != holders[key_hash]:
                again.append(key_hash)
                continue
            record = None if isinstance(hold, errors.ServerError) else decode_record(hold[0])
            known = KeySeen(key_hash, holders[key_hash], key[1].ctime)
            if record is not None:
                known = msgspec.structs.replace(known, key=record.key, call=record.call, scope=record.scope)
            seen.append(known)
        hashes = again
        if not hashes:
            break
    return seen


def _holders(
    replies: Sequence[Node | errors.ServerError], hashes: Sequence[str], unreadable: Unreadable | None
) -> dict[str, str]:
    found: dict[str, str] = {}
    for key_hash, reply in zip(hashes, replies, strict=True):
        if not isinstance(reply, errors.ServerError):
            found[key_hash] = _text(reply[0])
        elif not isinstance(reply, errors.NoNode):
            if unreadable is None:
                raise reply
            unreadable.add(reply)
    return found


def _hold_path(key_hash: str, holder: str) -> str:
    """Return the path of the holder's hold. A holder that is no task's name has none."""
    return layout.hold_path(key_hash, holder if parse_task_name(holder) is not None else "nothing")


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")
