"""What a client's process does: it submits its jobs when their time comes, and keeps book of what it is told."""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec
from msgspec import UNSET

from herdmaster.core.names import UlidFactory, call_name, raw_name
from herdmaster.core.options import Overrides
from herdmaster.core.outcome import Outcome
from herdmaster.core.payload import BIG, Call
from herdmaster.core.transitions import NewTask
from herdmaster.errors import DuplicateTask, HerdError, NotSubmitted, OutcomeGone, SubmissionUnknown
from herdmaster.roles.client.client import ClientSettings, TaskClient
from herdmaster.roles.shared.system import System
from herdmaster.simulation.checks.keys import Claim, claim_of
from herdmaster.simulation.plan.plan import CALL, RARE, Job
from herdmaster.simulation.world.process import Process
from herdmaster.simulation.world.program_state import Slot, Submission
from herdmaster.zookeeper.errors import ZooKeeperError

_PAUSE_SECONDS = 0.2


class Office(Protocol):
    """Where clients announce their tasks and report what they were told."""

    def announce(self, name: str, job: Job) -> None: ...

    def was_accepted(self, submission: Submission) -> None: ...

    def was_refused(self, submission: Submission) -> None: ...

    def was_duplicate(self, submission: Submission, holder: str) -> None: ...

    def was_lost_sight_of(self, submission: Submission) -> None: ...

    def has_ended(self, submission: Submission, outcome: Outcome | None, error: HerdError | None) -> None: ...

    def complain(self, text: str) -> None: ...


class ClientProgram:
    """One life of a client."""

    def __init__(
        self,
        slot: Slot,
        process: Process,
        hosts: str,
        settings: ClientSettings,
        system: System,
        jobs: list[Job],
        office: Office,
    ) -> None:
        self._slot = slot
        self._process = process
        self._jobs = jobs
        self._office = office
        self._role = TaskClient(hosts, settings, system)
        self.predecessors = self._role.predecessors
        self._ulids = UlidFactory(process.unix_ms, process.rng.randbytes)
        self._stopping = False
        self._impatience: list[asyncio.TimerHandle] = []

    def stop(self) -> None:
        """Ends the session; who still waits for an acceptance is told what is known."""
        self._stopping = True
        for submission in self._mine():
            self._give_up(submission)
        self._role.stop()

    async def run(self) -> None:
        submitting = asyncio.ensure_future(self._submit_all())
        for submission in list(self._slot.submissions.values()):
            if (
                submission.accepted
                and not submission.delivered
                and not submission.job.silent
                and self._slot.part.attaches
            ):
                submission.attached = self._slot.life
                self._role.attach(submission.name, self._ended)
        try:
            while not self._stopping:
                try:
                    await self._role.run()
                except ZooKeeperError:
                    await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            submitting.cancel()
            for timer in self._impatience:
                timer.cancel()
            await asyncio.gather(submitting, return_exceptions=True)
        for submission in self._slot.submissions.values():
            if submission.life == self._slot.life and not submission.answered:
                self._office.complain(f"has ended, and was never told what became of {submission.name}")

    @property
    def is_settled(self) -> bool:
        """Whether everything was submitted, and every caller that waited has been told."""
        return all(job.index in self._slot.submitted_jobs for job in self._jobs) and not any(
            not submission.answered or (self._waits_for(submission) and not submission.delivered)
            for submission in self._mine()
        )

    def _mine(self) -> list[Submission]:
        life = self._slot.life
        return [each for each in self._slot.submissions.values() if life in (each.life, each.attached)]

    def _waits_for(self, submission: Submission) -> bool:
        return submission.accepted and not submission.job.silent

    async def _submit_all(self) -> None:
        loop = self._process.loop
        for job in sorted(self._jobs, key=lambda job: (job.at, job.index)):
            if job.index in self._slot.submitted_jobs:
                continue
            if job.at > loop.now:
                await asyncio.sleep(job.at - loop.now)
            self._submit(job)

    def _submit(self, job: Job) -> None:
        task = self._task(job)
        submission = Submission(job, task.name, self._slot.life)
        self._slot.submitted_jobs[job.index] = None
        self._slot.submissions[task.name] = submission
        self._office.announce(task.name, job)
        if job.silent:
            self._role.submit(task, self._accepted, None)
        else:
            self._role.submit(task, self._accepted, self._ended)
        if job.patience is not None:
            self._impatience.append(self._process.loop.call_later(job.patience, self._give_up, submission))

    def _give_up(self, submission: Submission) -> None:
        """A caller that gives up is told at once what is known."""
        if not submission.answered:
            self._role.give_up(submission.name)
            if not submission.answered:
                self._office.complain(f"gave up on {submission.name}, and was not told what became of it")

    def _task(self, job: Job) -> NewTask:
        filling = "x" * job.size
        claim = claim_of(job)
        delay = None if job.delay is None else round(job.delay * 1000)
        expires = None if job.expires is None else round(job.expires * 1000)
        if job.raw:
            data = f"t{job.index}:{filling}".encode()
            return _with_key(NewTask(raw_name(self._ulids.new()), data, delay_ms=delay), claim)
        data = b'{"herd":1,"call":' + filling.encode() if job.garbage else _payload(job, filling, claim)
        conditional = expires is not None
        name = call_name(self._ulids.new(), job.queue, job.priority, big=len(data) > BIG, conditional=conditional)
        return _with_key(NewTask(name, data, delay_ms=delay, expires_ms=expires), claim)

    # --- what it is told ---------------------------------------------------------------------------------------------

    def _accepted(self, task: NewTask, error: HerdError | None) -> None:
        submission = self._slot.submissions[task.name]
        if submission.answered:
            self._office.complain(f"was told twice what became of the submission of {task.name}")
        submission.answered = True
        if error is None:
            submission.accepted = True
            self._office.was_accepted(submission)
        elif isinstance(error, DuplicateTask):
            submission.refused = True
            self._office.was_duplicate(submission, error.name)
        elif isinstance(error, NotSubmitted):
            submission.refused = True
            self._office.was_refused(submission)
        elif isinstance(error, SubmissionUnknown):
            submission.unknown = True
            self._office.was_lost_sight_of(submission)
        else:
            self._office.complain(f"was told {error!r} of {task.name}")

    def _ended(self, name: str, outcome: Outcome | None, error: HerdError | None) -> bool:
        submission = self._slot.submissions[name]
        if submission.delivered:
            self._office.complain(f"was told twice that {name} has ended")
        submission.delivered = True
        self._office.has_ended(submission, outcome, error)
        return not isinstance(error, OutcomeGone)


def _with_key(task: NewTask, claim: Claim | None) -> NewTask:
    if claim is None:
        return task
    return msgspec.structs.replace(task, key_hash=claim.hash, key_record=claim.record, old_key_hash=claim.old_hash)


def _payload(job: Job, filling: str, claim: Claim | None) -> bytes:
    """Not by `encode_call`, which refuses large ones: another client may not."""
    wanted = Overrides(max_attempts=job.attempts, backoff=job.backoff, timeout=job.timeout or UNSET)
    args = msgspec.Raw(msgspec.json.encode([job.index, filling]))
    name = RARE if job.rare else CALL
    call = Call(1, name, args, msgspec.Raw(b"{}"), outcome=not job.silent, options=wanted)
    if claim is not None:
        call = msgspec.structs.replace(call, key=claim.hash, unique=claim.unique)
    return msgspec.json.encode(call)
