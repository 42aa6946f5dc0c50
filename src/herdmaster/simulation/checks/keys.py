"""The terms of uniqueness keys: who takes which, how long it is held, and that no task frees another's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.keys import (
    KeyHolds,
    KeyRecord,
    KeyScope,
    Unique,
    encode_record,
    hash_key,
    is_key_hash,
    parse_hold_name,
)
from herdmaster.core.outcome import OutcomeState
from herdmaster.core.payload import MAX_PAYLOAD
from herdmaster.simulation.checks.effects import Actor, Deed, task_of
from herdmaster.simulation.checks.history import Node, TaskHistory
from herdmaster.simulation.plan.plan import CALL, RARE, Job, Kind

_FOLDER: Final = f"{layout.KEYS}/"
_SUBMITTED: Final = (f"{layout.TASKS}/", f"{layout.DELAYED}/")


class Claim(msgspec.Struct, frozen=True):
    """What a job's submission says of its key. Old clients, and raw tasks, say no more than its hash."""

    hash: str
    unique: Unique | None = None
    record: bytes | None = None
    old_hash: str | None = None


def claim_of(job: Job) -> Claim | None:
    if job.key is None:
        return None
    everywhere = hash_key(job.key)
    if job.old_key or job.raw:
        return Claim(everywhere)
    call = RARE if job.rare else CALL
    own = hash_key(job.key, call) if job.key_scope is KeyScope.CALL else everywhere
    unique = Unique(job.key, job.key_scope, job.key_holds)
    record = encode_record(KeyRecord(job.key, job.key_scope, call))
    return Claim(own, unique, record, None if own == everywhere else everywhere)


def may_be_told_of(job: Job, holder: Job) -> bool:
    """Whether the submitter of the one may be told that the other holds its key."""
    mine, its = claim_of(job), claim_of(holder)
    if mine is None or its is None:
        return False
    is_old = its.hash == mine.old_hash and (its.record is None or job.rare == holder.rare)
    return its.hash == mine.hash or is_old


class KeyTerms:
    """As `Terms`, of which it is a part."""

    def __init__(
        self,
        jobs: Mapping[str, Job],
        nodes: Mapping[str, Node],
        history: Callable[[str], TaskHistory],
        blame: Callable[[str], None],
    ) -> None:
        self._jobs = jobs
        self._nodes = nodes
        self._history = history
        self._blame = blame

    def judge(self, deed: Deed, actor: Actor, before: Mapping[str, bytes]) -> None:
        """`before` are the data of what it deletes in `/keys`."""
        created = {path: data for path, data, _ in deed.created}
        if actor.kind is Kind.CLIENT and not actor.reference:
            self._judge_taken(created)
        for path, data in before.items():
            if is_key_hash(layout.name_of(path)):
                self._judge_freed(path, data.decode(), deed, actor)
        for path in {*before, *created}:
            if path.startswith(_FOLDER):
                self._judge_pair(path, deed, before)
        for path in created:
            if path.startswith(f"{layout.STATUS}/"):
                self._judge_ending(layout.name_of(path), path, before)
        for path in deed.deleted:
            task = task_of(path)
            job = self._jobs.get(task or "")
            if task is not None and job is not None and job.silent and actor.kind is Kind.WORKER:
                self._judge_silent_end(task, job, created)

    def _claim(self, task: str) -> Claim | None:
        """Of one that no role of the reference has touched."""
        job = self._jobs.get(task)
        return None if job is None or self._history(task).excused else claim_of(job)

    def _holder(self, key_hash: str) -> str | None:
        node = self._nodes.get(layout.key_path(key_hash))
        return None if node is None else node.data.decode()

    def _judge_taken(self, created: Mapping[str, bytes]) -> None:
        for path in created:
            task = task_of(path) if path.startswith(_SUBMITTED) else None
            job = self._jobs.get(task or "")
            claim = None if job is None else claim_of(job)
            if task is None or claim is None:
                continue
            if created.get(layout.key_path(claim.hash)) != task.encode():
                self._blame(f"submitted {task} without taking its key")
            elif created.get(layout.hold_path(claim.hash, task)) != claim.record:
                self._blame(f"submitted {task} without the hold of its key")

    def _judge_freed(self, path: str, holder: str, deed: Deed, actor: Actor) -> None:
        claim = self._claim(holder)
        is_released = (
            actor.kind is Kind.OPERATOR and claim is not None and layout.hold_path(claim.hash, holder) in deed.deleted
        )
        if claim is not None and not self._history(holder).ended and not is_released:
            self._blame(f"freed {path}, which {holder} holds, and that has not ended")

    def _judge_pair(self, path: str, deed: Deed, before: Mapping[str, bytes]) -> None:
        """A key and its hold come and go together. What frees a key without a hold makes the hold of its holder, which
        stays for a while."""
        name = layout.name_of(path)
        hold = parse_hold_name(name)
        if hold is not None:
            key_hash, task = hold
            is_freed = before.get(layout.key_path(key_hash)) == task.encode()
            if path in self._nodes and self._holder(key_hash) != task and not is_freed:
                self._blame(f"left the hold {path}, and {self._holder(key_hash) or 'no task'} has the key")
            return
        holder = self._holder(name)
        if holder is None:
            return
        if layout.task_path(holder) not in self._nodes and holder not in deed.places:
            self._blame(f"created {path} without the task that is to hold it")
        claim = self._claim(holder)
        if claim is not None and claim.record is not None and layout.hold_path(name, holder) not in self._nodes:
            self._blame(f"left {path}, and {holder} has no hold of it")

    def _judge_ending(self, task: str, path: str, before: Mapping[str, bytes]) -> None:
        job, claim = self._jobs.get(task), self._claim(task)
        if job is None or claim is None or claim.unique is None or job.garbage:
            return
        outcome = self._history(task).outcome
        if outcome is None:
            return
        if outcome.state is OutcomeState.DONE:
            if before.get(layout.key_path(claim.hash)) == task.encode():
                self._blame(f"created {path}, which is done, and freed its key")
        # What is too large is not read, so its key is swept.
        elif self._holder(claim.hash) == task and job.key_holds is KeyHolds.DONE and job.size < MAX_PAYLOAD:
            self._blame(f"created {path}, which is {outcome.state.value}, and left it its key")

    def _judge_silent_end(self, task: str, job: Job, created: Mapping[str, bytes]) -> None:
        claim = self._claim(task)
        is_gone = not any(task_of(path) == task for path in created) and self._history(task).ended
        if claim is not None and is_gone and not job.garbage and not job.raw and self._holder(claim.hash) == task:
            self._blame(f"ended {task}, which leaves no outcome, and left it its key")
