"""Check what clients and operators are told against what is true."""

from __future__ import annotations

from collections.abc import Callable

from herdmaster.api.results import read_outcome
from herdmaster.core.outcome import Outcome
from herdmaster.errors import HerdError, OutcomeGone, TaskCancelled
from herdmaster.operations.actions import CancelVerdict
from herdmaster.simulation.checks.ledger import Ledger
from herdmaster.simulation.checks.task_index import TaskIndex
from herdmaster.simulation.checks.trace import Trace
from herdmaster.simulation.plan.flow_plans import PlannedFlow
from herdmaster.simulation.plan.jobs import Job
from herdmaster.simulation.plan.key_claims import may_be_told_of


class AnswerCheck:
    """Takes the reports of programs. `fail` is called with each wrong answer; `unix_ms` is the servers' clock."""

    def __init__(
        self, ledger: Ledger, tasks: TaskIndex, unix_ms: Callable[[], int], trace: Trace, fail: Callable[[str], None]
    ) -> None:
        self._ledger = ledger
        self._tasks = tasks
        self._unix_ms = unix_ms
        self._trace = trace
        self._fail = fail

    def _note(self, text: str, *args: object) -> None:
        self._trace.add(self._trace.actor(), text, *args)

    def complain(self, text: str) -> None:
        self._fail(f"{self._trace.actor()} {text}")

    def announce(self, task: str, job: Job, *, at_once: bool = True) -> None:
        self._tasks.announced(task, job, self._unix_ms(), at_once=at_once)
        self._note("submits job %d as %s", job.index, task)

    def announce_flow(self, name: str, plan: PlannedFlow) -> None:
        self._ledger.flows.announced(name, plan)
        self._note("submits flow %d as %s", plan.index, name)

    def flow_was_accepted(self, name: str, plan: PlannedFlow) -> None:
        self._note("is told that %s was accepted", name)
        if (name, plan.index) not in self._ledger.flows.accepted:
            self.complain(f"was told that {name} was accepted, and it was not")

    def flow_was_refused(self, name: str, plan: PlannedFlow) -> None:
        """A flow with the same key, and so of the same name, may have been accepted."""
        self._note("is told that %s was not accepted", name)
        if (name, plan.index) in self._ledger.flows.accepted:
            self.complain(f"was told that {name} was not accepted, and it was")

    def flow_was_duplicate(self, name: str) -> None:
        self._note("is told that there is a flow %s", name)
        if not self._ledger.flows.was_there(name):
            self.complain(f"was told that there is a flow {name}, and there never was one")

    def was_accepted(self, task: str) -> None:
        self._note("is told that %s was accepted", task)
        if not self._ledger.history(task).accepted:
            self.complain(f"was told that {task} was accepted, and it was not")

    def was_refused(self, task: str) -> None:
        self._note("is told that %s was not accepted", task)
        if self._ledger.history(task).accepted:
            self.complain(f"was told that {task} was not accepted, and it was")

    def was_duplicate(self, task: str, job: Job, holder: str) -> None:
        self._note("is told that %s has the key of %s", holder, task)
        holding = self._tasks.jobs.get(holder)
        if self._ledger.history(task).accepted:
            self.complain(f"was told that {holder} has the key of {task}, which was accepted")
        elif not self._ledger.history(holder).accepted or holding is None or not may_be_told_of(job, holding):
            self.complain(f"was told that {holder} has the key of {task}, and it never had")

    def was_unknown(self, task: str, *, has_reason: bool) -> None:
        """`has_reason`: the caller did not wait for the end, or the client stops. Otherwise its journal was swept."""
        self._note("is told that the state of %s is unknown", task)
        if not has_reason and self._trace.actor() not in self._ledger.sweeps.lost_journals:
            self.complain(f"was told that the state of {task} is unknown, and its journal is there")

    def has_ended(self, task: str, outcome: Outcome | None, error: HerdError | None) -> None:
        state = error if outcome is None else outcome.state.value
        self._note("is told that %s has ended: %s", task, str(state))
        history = self._ledger.history(task)
        if error is not None and not history.excused and not self._was_swept(task, error):
            self.complain(f"was told of {task}: {type(error).__name__}: {error}")
        elif outcome is not None and outcome not in history.earlier:
            self._check_told(task, outcome)
        if isinstance(error, OutcomeGone) and self._ledger.where(task):
            self.complain(f"was told that {task} is nowhere, and it is somewhere")

    def _check_told(self, task: str, outcome: Outcome) -> None:
        history = self._ledger.history(task)
        if not history.outcomes:
            self.complain(f"was told that {task} has ended, and it has not")
        elif outcome != history.outcome and not history.excused:
            committed = history.outcome.state.value if history.outcome is not None else "nothing that can be read"
            self.complain(f"was told that {task} is {outcome.state.value}, and committed was {committed}")

    def _was_swept(self, task: str, error: BaseException | None) -> bool:
        """Return whether a client is told that an outcome is gone which a master has swept."""
        return isinstance(error, OutcomeGone) and task in self._ledger.sweeps.swept | self._ledger.flows.removed

    def future_ended(self, task: str, value: object, error: BaseException | None, *, may_be_gone: bool) -> None:
        """Take what the future of a task was resolved with. `may_be_gone`: another process may have taken it."""
        self._note("gets of the future of %s: %r", task, error or value)
        history = self._ledger.history(task)
        if isinstance(error, OutcomeGone):
            if not may_be_gone and not history.excused and not self._was_swept(task, error):
                self.complain(f"was told of {task}: {type(error).__name__}: {error}")
            if self._ledger.where(task):
                self.complain(f"was told that {task} is nowhere, and it is somewhere")
            return
        if not history.outcomes:
            self.complain(f"was told that {task} has ended, and it has not")
        elif history.outcome is not None and not history.excused:
            self._check_resolved(task, read_outcome(history.outcome, None), value, error)

    def _check_resolved(
        self, task: str, right: tuple[object, Exception | None], value: object, error: BaseException | None
    ) -> None:
        right_value, right_error = right
        if isinstance(right_error, TaskCancelled) and isinstance(error, TaskCancelled):
            return  # futures have texts of their own for it
        if (error is None) != (right_error is None) or value != right_value:
            self.complain(
                f"got {error or value!r} of the future of {task}, which ended with {right_error or right_value!r}"
            )
        elif right_error is not None and not (isinstance(error, type(right_error)) and str(error) == str(right_error)):
            self.complain(f"got {error!r} of the future of {task}, which ended with {right_error!r}")

    def was_cancelled(self, task: str, *, is_cancelled: bool, is_certain: bool) -> None:
        """Take what a client is told that cancels a task; one that stops is told no without a look."""
        self._note("is told that %s was%s cancelled", task, "" if is_cancelled else " not")
        history = self._ledger.history(task)
        if not is_cancelled and task in self._ledger.sweeps.swept:
            return  # it was swept before the client had read it
        if history.cancelled != is_cancelled and not history.excused and (is_cancelled or is_certain):
            self.complain(f"was told of {task} that cancelled is {is_cancelled}, and cancelled was {history.cancelled}")

    def was_replayed(self, task: str, new_task: str, *, with_key: bool) -> None:
        """Take what an operator is told that has replayed a task. Its key goes to the new task if asked for."""
        self._note("is told that %s was replayed as %s", task, new_task)
        old, new = self._tasks.jobs.get(task), self._tasks.jobs.get(new_task)
        if not self._ledger.history(new_task).accepted:
            self.complain(f"was told that {task} was replayed as {new_task}, and it was not")
        elif old is not None and new is not None and not old.raw:
            if with_key and old.key is not None and new.key is None:
                self.complain(f"was told that {task} was replayed as {new_task}, which has not got its key")
            elif not with_key and new.key is not None:
                self.complain(f"was told that {task} was replayed as {new_task} without its key, and it has that")

    def cancel_answered(self, task: str, verdict: CancelVerdict) -> None:
        self._note("is told of %s, which was to be cancelled: %s", task, verdict.value)
        history = self._ledger.history(task)
        if history.excused:
            return
        if (verdict is CancelVerdict.CANCELLED) != history.cancelled and verdict is not CancelVerdict.PENDING:
            if not (history.cancelled and verdict in (CancelVerdict.COLLECTED, CancelVerdict.NOWHERE)):
                self.complain(f"was told of {task}: {verdict.value}; cancelled was {history.cancelled}")
        elif verdict is CancelVerdict.ENDED and not history.ended:
            self.complain(f"was told that {task} has ended, and it has not")
