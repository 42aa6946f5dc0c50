"""What a client does with its flows: submits them at their times, and waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from herdmaster.core.flow_creation import NewFlow
from herdmaster.core.names import UlidFactory
from herdmaster.core.outcome import Outcome
from herdmaster.errors import DuplicateTask, HerdError, NotSubmitted, OutcomeGone, SubmissionUnknown
from herdmaster.roles.client.client import TaskClient
from herdmaster.simulation.plan.flow_plans import PlannedFlow
from herdmaster.simulation.world.flow_tasks import new_flow
from herdmaster.simulation.world.process import Process
from herdmaster.simulation.world.program_state import FlowSubmission, ProgramState


class FlowReports(Protocol):
    """Takes the flows that clients submit, and what clients are told."""

    def announce_flow(self, name: str, plan: PlannedFlow) -> None: ...

    def flow_was_accepted(self, name: str, plan: PlannedFlow) -> None: ...

    def flow_was_duplicate(self, name: str) -> None: ...

    def flow_was_refused(self, name: str, plan: PlannedFlow) -> None: ...

    def was_unknown(self, task: str, *, has_reason: bool) -> None: ...

    def has_ended(self, task: str, outcome: Outcome | None, error: HerdError | None) -> None: ...

    def complain(self, text: str) -> None: ...


class FlowClient:
    """The flows of one process of a client. `is_stopping` says whether the process is told to end."""

    def __init__(
        self,
        state: ProgramState,
        process: Process,
        role: TaskClient,
        flows: list[PlannedFlow],
        reports: FlowReports,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._state = state
        self._process = process
        self._role = role
        self._flows = flows
        self._reports = reports
        self._is_stopping = is_stopping
        self._ulids = UlidFactory(process.unix_ms, process.rng.randbytes)

    @property
    def is_settled(self) -> bool:
        """Whether everything was submitted, and every waiting caller was told."""
        return all(flow.index in self._state.submitted_flows for flow in self._flows) and not any(
            not each.answered or (each.accepted and not each.delivered and not each.plan.silent)
            for each in self._mine()
        )

    def _mine(self) -> list[FlowSubmission]:
        life = self._state.life
        return [each for each in self._state.flows.values() if life in {each.life, each.attached}]

    def attach(self) -> None:
        """Wait for what an earlier process submitted, as far as that knew that it was accepted."""
        for submission in self._state.flows.values():
            if submission.accepted and not submission.delivered and not submission.plan.silent:
                submission.attached = self._state.life
                self._role.attach(submission.name, self._ended)

    async def submit_all(self) -> None:
        loop = self._process.loop
        for flow in sorted(self._flows, key=lambda flow: (flow.at, flow.index)):
            if flow.index in self._state.submitted_flows:
                continue
            if flow.at > loop.now:
                await asyncio.sleep(flow.at - loop.now)
            self.submit(flow, new_flow(flow, self._ulids.new(), self._process.unix_ms()))

    def new_child(self, plan: PlannedFlow, parent: str) -> NewFlow:
        """Return a flow for the code of a parent, which notes its name."""
        return new_flow(plan, self._ulids.new(), self._process.unix_ms(), parent=parent)

    def stop(self) -> None:
        """Let callers that wait for an acceptance be told what is known."""
        for submission in self._mine():
            if not submission.answered:
                self._role.give_up(submission.submission)
                if not submission.answered:
                    self._reports.complain(f"gave up on {submission.name}, and was not told what became of it")

    def end(self) -> None:
        for submission in self._state.flows.values():
            if submission.life == self._state.life and not submission.answered:
                self._reports.complain(f"has ended, and was never told what became of {submission.name}")

    def submit(self, plan: PlannedFlow, flow: NewFlow) -> None:
        if self._is_stopping():
            return
        submission = FlowSubmission(plan, flow.flow, flow.name, self._state.life)
        self._state.submitted_flows[plan.index] = None
        self._state.flows[flow.name] = submission
        self._reports.announce_flow(flow.flow, plan)
        self._role.submit_flow(flow, partial(self._accepted, submission), self._ended, lambda: None)

    def _accepted(self, submission: FlowSubmission, error: HerdError | None) -> None:
        if submission.answered:
            self._reports.complain(f"was told twice what became of the submission of {submission.name}")
        submission.answered = True
        if error is None:
            submission.accepted = True
            self._reports.flow_was_accepted(submission.name, submission.plan)
            if submission.plan.key is not None and not submission.plan.silent:
                self._role.attach(submission.name, self._ended)
        elif isinstance(error, DuplicateTask):
            self._reports.flow_was_duplicate(submission.name)
        elif isinstance(error, NotSubmitted):
            self._reports.flow_was_refused(submission.name, submission.plan)
        elif isinstance(error, SubmissionUnknown):
            self._reports.was_unknown(submission.name, has_reason=self._is_stopping())
        else:
            self._reports.complain(f"was told {error!r} of {submission.name}")

    def _ended(self, name: str, outcome: Outcome | None, error: HerdError | None) -> bool:
        submissions = [each for each in self._mine() if each.name == name and each.accepted]
        for submission in submissions:
            submission.delivered = True
        if all(each.plan.silent for each in submissions):
            return True  # there is no outcome
        self._reports.has_ended(name, outcome, error)
        return not isinstance(error, OutcomeGone)
