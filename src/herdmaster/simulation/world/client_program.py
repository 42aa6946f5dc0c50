"""The program of a client: submits jobs at their times, and reports what it is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from typing import Protocol

from herdmaster.core.flow_creation import NewFlow
from herdmaster.core.names import UlidFactory
from herdmaster.core.outcome import Outcome, OutcomeState
from herdmaster.core.transitions import NewTask
from herdmaster.errors import DuplicateTask, HerdError, NotSubmitted, OutcomeGone, SubmissionUnknown
from herdmaster.roles.client.client import ClientSettings, TaskClient
from herdmaster.roles.shared.system import System
from herdmaster.simulation.plan.flow_plans import PlannedFlow
from herdmaster.simulation.plan.jobs import Job
from herdmaster.simulation.world.flow_client import FlowClient, FlowReports
from herdmaster.simulation.world.job_tasks import task_of_job
from herdmaster.simulation.world.process import Process
from herdmaster.simulation.world.program_state import ProgramState, Submission
from herdmaster.zookeeper.errors import ZooKeeperError

_PAUSE_SECONDS = 0.2
_CANCELLERS = 2
_CANCELLERS_APART = 0.02


class ClientReports(FlowReports, Protocol):
    """Takes the tasks that clients submit, and what clients are told."""

    def announce(self, task: str, job: Job, *, at_once: bool = True) -> None: ...

    def was_accepted(self, task: str) -> None: ...

    def was_refused(self, task: str) -> None: ...

    def was_duplicate(self, task: str, job: Job, holder: str) -> None: ...

    def was_unknown(self, task: str, *, has_reason: bool) -> None: ...

    def has_ended(self, task: str, outcome: Outcome | None, error: HerdError | None) -> None: ...

    def was_cancelled(self, task: str, *, is_cancelled: bool, is_certain: bool) -> None: ...

    def complain(self, text: str) -> None: ...


class ClientProgram:
    """One process of a client."""

    def __init__(
        self,
        state: ProgramState,
        process: Process,
        hosts: str,
        settings: ClientSettings,
        system: System,
        jobs: list[Job],
        reports: ClientReports,
        flows: list[PlannedFlow],
    ) -> None:
        self._state = state
        self._process = process
        self._jobs = jobs
        self._reports = reports
        self._role = TaskClient(hosts, settings, system)
        self.predecessors = self._role.predecessors
        self._ulids = UlidFactory(process.unix_ms, process.rng.randbytes)
        self._stopping = False
        self._patience_timers: list[asyncio.TimerHandle] = []
        self._flows = FlowClient(state, process, self._role, flows, reports, lambda: self._stopping)
        self._cancelling: Counter[str] = Counter()  # callers that wait for the end of a task that they cancel

    def stop(self) -> None:
        """End the session. Callers that wait for an acceptance are told what is known."""
        self._stopping = True
        for submission in self._mine():
            self._give_up(submission)
        self._flows.stop()
        self._role.stop()

    async def run(self) -> None:
        submitting = asyncio.gather(self._submit_all(), self._flows.submit_all())
        for submission in list(self._state.submissions.values()):
            if (
                submission.accepted
                and not submission.delivered
                and not submission.job.silent
                and self._state.program.attaches
            ):
                submission.attached = self._state.life
                self._role.attach(submission.name, self._ended)
        if self._state.program.attaches:
            self._flows.attach()
        try:
            while not self._stopping:
                try:
                    await self._role.run()
                except ZooKeeperError:
                    await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            submitting.cancel()
            for timer in self._patience_timers:
                timer.cancel()
            await asyncio.gather(submitting, return_exceptions=True)
        for submission in self._state.submissions.values():
            if submission.life == self._state.life and not submission.answered:
                self._reports.complain(f"has ended, and was never told what became of {submission.name}")
        self._flows.end()
        for task in +self._cancelling:
            self._reports.complain(f"has ended, and was never told whether {task} was cancelled")

    @property
    def is_settled(self) -> bool:
        """Whether everything was submitted, and every waiting caller was told."""
        return (
            not +self._cancelling
            and self._flows.is_settled
            and all(job.index in self._state.submitted_jobs for job in self._jobs)
            and not any(
                not submission.answered or (self._waits_for(submission) and not submission.delivered)
                for submission in self._mine()
            )
        )

    def _mine(self) -> list[Submission]:
        life = self._state.life
        return [each for each in self._state.submissions.values() if life in (each.life, each.attached)]

    def _waits_for(self, submission: Submission) -> bool:
        return submission.accepted and not submission.job.silent

    async def _submit_all(self) -> None:
        loop = self._process.loop
        for job in sorted(self._jobs, key=lambda job: (job.at, job.index)):
            if job.index in self._state.submitted_jobs:
                continue
            if job.at > loop.now:
                await asyncio.sleep(job.at - loop.now)
            self._submit(job)

    def _submit(self, job: Job) -> None:
        self._submit_task(job, task_of_job(job, self._ulids))

    def new_child(self, job: Job) -> NewTask:
        """Return a task for the code of a parent, which notes its name."""
        return task_of_job(job, self._ulids)

    def submit_child(self, job: Job, task: NewTask) -> None:
        """Submit a child, some time later."""
        loop = self._process.loop
        self._patience_timers.append(loop.call_for(self._process, loop.now + job.at, self._submit_task, job, task))

    def new_child_flow(self, plan: PlannedFlow, parent: str) -> NewFlow:
        return self._flows.new_child(plan, parent)

    def submit_child_flow(self, plan: PlannedFlow, flow: NewFlow) -> None:
        loop = self._process.loop
        self._patience_timers.append(loop.call_for(self._process, loop.now + plan.at, self._flows.submit, plan, flow))

    def _submit_task(self, job: Job, task: NewTask) -> None:
        if self._stopping:
            return
        submission = Submission(job, task.name, self._state.life)
        self._state.submitted_jobs[job.index] = None
        self._state.submissions[task.name] = submission
        self._reports.announce(task.name, job)
        if job.silent:
            self._role.submit(task, self._accepted, None)
        else:
            self._role.submit(task, self._accepted, self._ended)
        if job.patience is not None:
            self._patience_timers.append(self._process.loop.call_later(job.patience, self._give_up, submission))

    def _give_up(self, submission: Submission) -> None:
        """Give up waiting for the acceptance: the caller is told at once what is known."""
        if not submission.answered:
            submission.given_up = True
            self._role.give_up(submission.name)
            if not submission.answered:
                self._reports.complain(f"gave up on {submission.name}, and was not told what became of it")

    def _cancel_later(self, submission: Submission) -> None:
        """Let several callers cancel a task that was accepted."""
        job, loop = submission.job, self._process.loop
        if job.cancel is not None and not job.silent:
            seconds = max(0.0, job.at + job.cancel - loop.now)
            for number in range(_CANCELLERS):
                timer = loop.call_later(seconds + number * _CANCELLERS_APART, self._cancel, submission)
                self._patience_timers.append(timer)

    def _cancel(self, submission: Submission) -> None:
        if not submission.delivered and not self._stopping:
            self._cancelling[submission.name] += 1
            self._role.cancels.request(submission.name, partial(self._cancelled, submission.name))

    def _cancelled(self, task: str, is_cancelled: bool) -> None:
        self._cancelling[task] -= 1
        self._reports.was_cancelled(task, is_cancelled=is_cancelled, is_certain=not self._stopping)

    # --- answers ----------------------------------------------------------------------------------------------------

    def _accepted(self, task: NewTask, error: HerdError | None) -> None:
        submission = self._state.submissions[task.name]
        if submission.answered:
            self._reports.complain(f"was told twice what became of the submission of {task.name}")
        submission.answered = True
        if error is None:
            submission.accepted = True
            self._reports.was_accepted(submission.name)
            self._cancel_later(submission)
        elif isinstance(error, DuplicateTask):
            submission.refused = True
            self._reports.was_duplicate(submission.name, submission.job, error.name)
        elif isinstance(error, NotSubmitted):
            submission.refused = True
            self._reports.was_refused(submission.name)
        elif isinstance(error, SubmissionUnknown):
            submission.unknown = True
            self._reports.was_unknown(submission.name, has_reason=self._stopping or submission.given_up)
        else:
            self._reports.complain(f"was told {error!r} of {task.name}")

    def _ended(self, name: str, outcome: Outcome | None, error: HerdError | None) -> bool:
        submission = self._state.submissions[name]
        if submission.delivered:
            self._reports.complain(f"was told twice that {name} has ended")
        submission.delivered = True
        self._reports.has_ended(submission.name, outcome, error)
        is_cancelled = outcome is not None and outcome.state is OutcomeState.CANCELLED
        self._role.cancels.settle(name, is_cancelled=is_cancelled)
        return not isinstance(error, OutcomeGone)
