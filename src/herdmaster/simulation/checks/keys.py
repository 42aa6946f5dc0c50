"""Check uniqueness keys: which task takes a key, how long it is held, and that only its holder frees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from herdmaster.core import layout
from herdmaster.core.keys import KeyHolds, is_key_hash, parse_hold_name
from herdmaster.core.outcome import OutcomeState
from herdmaster.core.payload import MAX_PAYLOAD
from herdmaster.simulation.checks.effects import Actor, Effects, task_of
from herdmaster.simulation.checks.history import Node, TaskHistory
from herdmaster.simulation.plan.jobs import Job
from herdmaster.simulation.plan.key_claims import Claim, claim_of
from herdmaster.simulation.plan.plan import Kind

_FOLDER: Final = f"{layout.KEYS}/"
_SUBMITTED: Final = (f"{layout.TASKS}/", f"{layout.DELAYED}/")


class KeyCheck:
    """Checks each transaction after the ledger has applied it. Part of the ledger."""

    def __init__(
        self,
        jobs: Mapping[str, Job],
        nodes: Mapping[str, Node],
        history: Callable[[str], TaskHistory],
        places: Callable[[str], tuple[str, ...]],
        report: Callable[[str], None],
    ) -> None:
        self._jobs = jobs
        self._nodes = nodes
        self._history = history
        self._places = places
        self._report = report

    def check(self, effects: Effects, actor: Actor, deleted: Mapping[str, Node]) -> None:
        """Check a transaction. `deleted` has the znodes that it deletes."""
        before = {path: node.data for path, node in deleted.items() if path.startswith(_FOLDER)}
        created = {path: data for path, data, _ in effects.created}
        if actor.kind is Kind.CLIENT and not actor.reference:
            self._check_taken(created)
        for path, data in before.items():
            if is_key_hash(layout.name_of(path)):
                self._check_freed(path, data.decode(), effects, actor)
        for path in {*before, *created}:
            if path.startswith(_FOLDER):
                self._check_pair(path, effects, before)
        for path in created:
            if path.startswith(f"{layout.STATUS}/"):
                self._check_ending(layout.name_of(path), path, before)
        for path in effects.deleted:
            task = task_of(path)
            job = self._jobs.get(task or "")
            if task is not None and job is not None and job.silent and actor.kind is Kind.WORKER:
                self._check_silent_end(task, job, created)
        for task in effects.places:
            self._check_gone(task)

    def find_unjustified(self) -> str | None:
        """Return what no task justifies in `/keys`, or None. To be asked when nothing is in flight."""
        holds: dict[str, str] = {}
        for path in [path for path in self._nodes if path.startswith(_FOLDER)]:
            name = layout.name_of(path)
            hold = parse_hold_name(name)
            task = self._holder(name) if hold is None else hold[1]
            if task is None or not self._frees_its_key(task):
                continue
            if not self._is_somewhere(task):
                return f"{path} is left, and {task} is nowhere"
            if hold is not None and self._holder(hold[0]) != task:
                return f"{path} is left, and {self._holder(hold[0]) or 'no task'} has the key"
            if hold is not None and holds.setdefault(hold[0], task) != task:
                return f"{task} and {holds[hold[0]]} both have a hold of one key"
        return None

    def _is_somewhere(self, task: str) -> bool:
        return bool(self._places(task)) or layout.dead_path(task) in self._nodes

    def _frees_its_key(self, task: str) -> bool:
        """Return whether each end of a task is to free its key: the key has a hold, and the payload can be read."""
        job, claim = self._jobs.get(task), self._claim(task)
        if job is None or claim is None or claim.record is None:
            return False
        return not job.garbage and job.size < MAX_PAYLOAD

    def _check_gone(self, task: str) -> None:
        """Check that a task that has gone for good has taken its key along."""
        claim = self._claim(task)
        if claim is None or self._is_somewhere(task) or not self._frees_its_key(task):
            return
        if self._holder(claim.hash) == task:
            self._report(f"deleted {task}, and left it its key")

    def _claim(self, task: str) -> Claim | None:
        """Return the claim of a task, unless a reference role has touched the task."""
        job = self._jobs.get(task)
        return None if job is None or self._history(task).excused else claim_of(job)

    def _holder(self, key_hash: str) -> str | None:
        node = self._nodes.get(layout.key_path(key_hash))
        return None if node is None else node.data.decode()

    def _check_taken(self, created: Mapping[str, bytes]) -> None:
        for path in created:
            task = task_of(path) if path.startswith(_SUBMITTED) else None
            job = self._jobs.get(task or "")
            claim = None if job is None else claim_of(job)
            if task is None or claim is None:
                continue
            if created.get(layout.key_path(claim.hash)) != task.encode():
                self._report(f"submitted {task} without taking its key")
            elif created.get(layout.hold_path(claim.hash, task)) != claim.record:
                self._report(f"submitted {task} without the hold of its key")

    def _check_freed(self, path: str, holder: str, effects: Effects, actor: Actor) -> None:
        claim = self._claim(holder)
        is_released = (
            actor.kind is Kind.OPERATOR
            and claim is not None
            and layout.hold_path(claim.hash, holder) in effects.deleted
        )
        if claim is None or is_released:
            return
        if not self._history(holder).ended:
            self._report(f"freed {path}, which {holder} holds, and that has not ended")
        elif actor.kind is not Kind.OPERATOR and self._outcome_holds(holder):
            self._report(f"freed {path}, which {holder} holds until its outcome goes")

    def _outcome_holds(self, task: str) -> bool:
        """Return whether a task that has ended has an outcome that holds its key, and is there still."""
        history, job = self._history(task), self._jobs[task]
        is_done = history.outcome is not None and history.outcome.state is OutcomeState.DONE
        holds = is_done or job.key_holds is KeyHolds.ALWAYS
        return holds and self._frees_its_key(task) and layout.status_path(task) in self._nodes

    def _check_pair(self, path: str, effects: Effects, before: Mapping[str, bytes]) -> None:
        """Check that a key and its hold are created and deleted together. To free a key without a hold, the hold of its
        holder is created, and stays for a while."""
        name = layout.name_of(path)
        hold = parse_hold_name(name)
        if hold is not None:
            key_hash, task = hold
            is_freed = before.get(layout.key_path(key_hash)) == task.encode()
            if path in self._nodes and self._holder(key_hash) != task and not is_freed:
                self._report(f"left the hold {path}, and {self._holder(key_hash) or 'no task'} has the key")
            return
        holder = self._holder(name)
        if holder is None:
            return
        if layout.task_path(holder) not in self._nodes and holder not in effects.places:
            self._report(f"created {path} without the task that is to hold it")
        claim = self._claim(holder)
        if claim is not None and claim.record is not None and layout.hold_path(name, holder) not in self._nodes:
            self._report(f"left {path}, and {holder} has no hold of it")

    def _check_ending(self, task: str, path: str, before: Mapping[str, bytes]) -> None:
        job, claim = self._jobs.get(task), self._claim(task)
        if job is None or claim is None or claim.unique is None or job.garbage:
            return
        outcome = self._history(task).outcome
        if outcome is None:
            return
        keeps = outcome.state is OutcomeState.DONE or job.key_holds is KeyHolds.ALWAYS
        if keeps:
            if before.get(layout.key_path(claim.hash)) == task.encode():
                self._report(f"created {path}, which is {outcome.state.value}, and freed its key")
        # A payload that is too large is not read: its key is left to the sweeper.
        elif self._holder(claim.hash) == task and job.size < MAX_PAYLOAD:
            self._report(f"created {path}, which is {outcome.state.value}, and left it its key")

    def _check_silent_end(self, task: str, job: Job, created: Mapping[str, bytes]) -> None:
        claim = self._claim(task)
        is_gone = not any(task_of(path) == task for path in created) and self._history(task).ended
        if claim is not None and is_gone and not job.garbage and not job.raw and self._holder(claim.hash) == task:
            self._report(f"ended {task}, which leaves no outcome, and left it its key")
