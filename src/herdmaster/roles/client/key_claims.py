"""Submissions that claim a uniqueness key: one per key is accepted, the others learn which task holds it.

The key is created in the transaction that creates the task, so ZooKeeper alone decides. After a refusal the client
reads who holds the key. If the key has gone meanwhile, the task is submitted again. A client sends only one claim per
key at a time: in one batch the second would refuse the first.

In older versions the key of a call was a key of the whole namespace, under another hash. A task that such a client
submitted holds that old key, so the client looks for it before it sends a claim. No transaction can do better: older
clients know nothing of the key that this one takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.keys import decode_record
from herdmaster.core.names import parse_task_name
from herdmaster.core.transitions import NewTask
from herdmaster.errors import DuplicateTask, HerdError, NotSubmitted
from herdmaster.roles.client.journal_items import Accepted, KeyTaken
from herdmaster.roles.shared.held_keys import read_holds
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

_READ_AT_ONCE: Final = 200


class _Claim(msgspec.Struct, frozen=True):
    task: NewTask
    accepted: Accepted
    asked_at: float

    @property
    def key(self) -> str:
        return self.task.key_hash or ""

    @property
    def old_key(self) -> str:
        return self.task.old_key_hash or ""


class KeyedSubmissions:
    """The claims of one client. `submit` is that of the journal. `asked_at` is that of its `DueTimes`: delays count
    from when a claim was made, however long it takes. Claims outlive sessions."""

    def __init__(self, submit: Callable[[NewTask, Accepted, float], None], asked_at: Callable[[], float]) -> None:
        self._submit = submit
        self._asked_at = asked_at
        self._behind: dict[str, list[str]] = {}  # per key that is being claimed: the claims that wait for its answer
        self._followers: dict[str, _Claim] = {}  # by task: the claims of those lists that were not given up
        self._unsent: dict[str, _Claim] = {}  # by task: the old key has not been looked for yet
        self._seeking: dict[str, _Claim] = {}  # by task: refused, and the holder is not known yet
        self._ended = False
        self._wake = asyncio.Event()

    def submit(self, task: NewTask, accepted: Accepted) -> None:
        """Submit a task, as `SubmissionJournal.submit`. `accepted` may also get DuplicateTask: another task holds the
        key."""
        self._enter(_Claim(task, accepted, self._asked_at()))

    def _enter(self, claim: _Claim) -> None:
        behind = self._behind.get(claim.key)
        if behind is not None:
            behind.append(claim.task.name)
            self._followers[claim.task.name] = claim
            return
        self._behind[claim.key] = []
        if claim.old_key and not self._ended:
            self._unsent[claim.task.name] = claim
            self._wake.set()
        else:
            self._send(claim)

    def give_up(self, name: str) -> bool:
        """Give up, as `SubmissionJournal.give_up`. Return False if the journal has the task."""
        claim = self._unsent.pop(name, None)
        if claim is not None:
            self._answer(claim, NotSubmitted(f"{name} was not accepted in time: no connection to ZooKeeper"))
            return True
        claim = self._seeking.pop(name, None)
        if claim is not None:
            self._answer(claim, _not_accepted(name))
            return True
        follower = self._followers.pop(name, None)
        if follower is None:
            return False
        follower.accepted(follower.task, _not_accepted(name))
        return True

    def end(self) -> None:
        """Refuse all claims. To be called after `SubmissionJournal.end`: no session will follow."""
        self._ended = True
        unsent, self._unsent = self._unsent, {}
        for claim in unsent.values():
            self._send(claim)  # the journal answers that the client is closed
        for name in list(self._seeking):
            self.give_up(name)

    async def run(self, client: Client) -> None:
        """Find the holders of refused keys until the session is over. Raises SessionExpired then."""
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._unsent or self._seeking:
                await self._look(client, list(self._unsent.values())[:_READ_AT_ONCE])
                await self._find(client, list(self._seeking.values())[:_READ_AT_ONCE])

    async def _look(self, client: Client, claims: list[_Claim]) -> None:
        """Send the claims whose old key is free, as nearly all are; look for the holders of the others."""
        found = await client.multi_read(layout.key_path(claim.old_key) for claim in claims)
        for claim, result in zip(claims, found, strict=True):
            if self._unsent.pop(claim.task.name, None) is None:
                continue  # given up meanwhile
            if isinstance(result, errors.ServerError):
                self._send(claim)
            else:
                self._seeking[claim.task.name] = claim

    async def _find(self, client: Client, claims: list[_Claim]) -> None:
        if not claims:
            return
        # A new session may talk to a server that lags behind, and would name a former holder.
        await client.sync()
        found = await client.multi_read(layout.key_path(claim.key) for claim in claims)
        old = await self._find_old_holders(client, [claim for claim in claims if claim.old_key])
        for claim, result in zip(claims, found, strict=True):
            if self._seeking.pop(claim.task.name, None) is None:
                continue  # given up meanwhile
            if not isinstance(result, errors.NoNode):
                self._answer(claim, _judge(claim, result))
            elif claim.task.name in old:
                self._answer(claim, DuplicateTask(old[claim.task.name]))
            else:
                self._send(claim)

    async def _find_old_holders(self, client: Client, claims: list[_Claim]) -> dict[str, str]:
        """Return the holders of old keys, by the claim's task. A holder without a hold was submitted by an older
        version, and holds the key for every call. A holder with a hold has the key of the whole namespace, which is
        another key unless it runs the same call."""
        replies = await client.multi_read(layout.key_path(claim.old_key) for claim in claims)
        found = [
            (claim, holder)
            for claim, reply in zip(claims, replies, strict=True)
            if not isinstance(reply, errors.ServerError)
            and parse_task_name(holder := (reply[0] or b"").decode("utf-8", "replace")) is not None
        ]
        holds = await read_holds(client, [(claim.old_key, holder) for claim, holder in found])
        old: dict[str, str] = {}
        for (claim, holder), hold in zip(found, holds, strict=True):
            if hold is None:
                continue
            record = None if isinstance(hold, errors.ServerError) else decode_record(hold[0])
            mine = decode_record(claim.task.key_record)
            is_same = record is not None and mine is not None and record.call == mine.call
            if isinstance(hold, errors.NoNode) or is_same:
                old[claim.task.name] = holder
        return old

    def _send(self, claim: _Claim) -> None:
        self._submit(claim.task, partial(self._settled, claim), claim.asked_at)

    def _settled(self, claim: _Claim, task: NewTask, error: HerdError | None) -> None:
        if isinstance(error, KeyTaken) and not self._ended:
            self._seeking[task.name] = claim
            self._wake.set()
        else:
            self._answer(claim, error)

    def _answer(self, claim: _Claim, error: HerdError | None) -> None:
        names = self._behind.pop(claim.key)
        claim.accepted(claim.task, error)
        behind = [follower for name in names if (follower := self._followers.pop(name, None)) is not None]
        if error is None or isinstance(error, DuplicateTask):
            holder = claim.task.name if error is None else error.name
            for follower in behind:
                follower.accepted(follower.task, DuplicateTask(holder))
        else:
            for follower in behind:  # the key may be free
                self._enter(follower)


def _judge(claim: _Claim, result: tuple[bytes | None, Stat] | errors.ServerError) -> HerdError | None:
    if isinstance(result, errors.ServerError):
        return NotSubmitted(f"{claim.task.name} was refused, and who holds its key cannot be read: {result}")
    holder = (result[0] or b"").decode("utf-8", "replace")
    if holder == claim.task.name:
        return None
    if parse_task_name(holder) is None:
        path = layout.key_path(claim.key)
        return NotSubmitted(f"{claim.task.name} was refused: {path} names no task but {holder[:80]!r}; delete it")
    return DuplicateTask(holder)


def _not_accepted(name: str) -> NotSubmitted:
    return NotSubmitted(f"{name} was not accepted in time: another task held its key, or was about to get it")
