"""What clients and operators were told, held against what is so."""

from __future__ import annotations

from collections.abc import Callable

from herdmaster.core.outcome import Outcome
from herdmaster.errors import HerdError, OutcomeGone
from herdmaster.operations.actions import CancelVerdict
from herdmaster.simulation.checks.keys import may_be_told_of
from herdmaster.simulation.checks.ledger import Ledger
from herdmaster.simulation.checks.trace import Story
from herdmaster.simulation.plan.plan import Job
from herdmaster.simulation.world.loop import VirtualLoop
from herdmaster.simulation.world.program_state import Submission
from herdmaster.simulation.world.task_code import TaskCode


class Registry:
    """`fail` is called with what a program was told wrongly; `unix_ms` is the servers' clock."""

    def __init__(
        self,
        loop: VirtualLoop,
        unix_ms: Callable[[], int],
        ledger: Ledger,
        code: TaskCode,
        story: Story,
        fail: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._unix_ms = unix_ms
        self._ledger = ledger
        self._code = code
        self._story = story
        self._fail = fail

    def _tell(self, text: str, *args: object) -> None:
        self._story.add(self._loop.current.name, text, *args)

    def complain(self, text: str) -> None:
        self._fail(f"{self._loop.current.name} {text}")

    def announce(self, name: str, job: Job) -> None:
        self._ledger.terms.jobs[name] = job
        self._ledger.terms.asked_ms[name] = self._unix_ms()
        self._code.names.setdefault(job.index, []).append(name)
        self._tell("submits job %d as %s", job.index, name)

    def was_accepted(self, submission: Submission) -> None:
        self._tell("is told that %s was accepted", submission.name)
        if not self._ledger.history(submission.name).accepted:
            self.complain(f"was told that {submission.name} was accepted, and it was not")

    def was_refused(self, submission: Submission) -> None:
        self._tell("is told that %s was not accepted", submission.name)
        if self._ledger.history(submission.name).accepted:
            self.complain(f"was told that {submission.name} was not accepted, and it was")

    def was_duplicate(self, submission: Submission, holder: str) -> None:
        self._tell("is told that %s has the key of %s", holder, submission.name)
        job = self._ledger.terms.jobs.get(holder)
        if self._ledger.history(submission.name).accepted:
            self.complain(f"was told that {holder} has the key of {submission.name}, which was accepted")
        elif not self._ledger.history(holder).accepted or job is None or not may_be_told_of(submission.job, job):
            self.complain(f"was told that {holder} has the key of {submission.name}, and it never had")

    def was_lost_sight_of(self, submission: Submission) -> None:
        self._tell("is told that nobody knows of %s", submission.name)

    def was_told_of_cancelling(self, task: str, verdict: CancelVerdict) -> None:
        self._tell("is told of %s, which was to be cancelled: %s", task, verdict.value)
        history = self._ledger.history(task)
        if history.excused:
            return
        if (verdict is CancelVerdict.CANCELLED) != history.cancelled and verdict is not CancelVerdict.PENDING:
            if not (history.cancelled and verdict in (CancelVerdict.COLLECTED, CancelVerdict.NOWHERE)):
                self.complain(f"was told of {task}: {verdict.value}; cancelled was {history.cancelled}")
        elif verdict is CancelVerdict.ENDED and not history.ended:
            self.complain(f"was told that {task} has ended, and it has not")

    def has_ended(self, submission: Submission, outcome: Outcome | None, error: HerdError | None) -> None:
        state = error if outcome is None else outcome.state.value
        self._tell("is told that %s has ended: %s", submission.name, str(state))
        history = self._ledger.history(submission.name)
        if error is not None and not history.excused:
            self.complain(f"was told of {submission.name}: {type(error).__name__}: {error}")
        elif outcome is not None and not history.outcomes:
            self.complain(f"was told that {submission.name} has ended, and it has not")
        elif outcome is not None and outcome != history.outcome and not history.excused:
            committed = history.outcome.state.value if history.outcome is not None else "nothing that can be read"
            self.complain(f"was told that {submission.name} is {outcome.state.value}, and committed was {committed}")
        if isinstance(error, OutcomeGone) and self._ledger.where(submission.name):
            self.complain(f"was told that {submission.name} is nowhere, and it is somewhere")
