"""Check runs of code against assignments, and outcomes against runs.

Part of the ledger. Leaves out tasks that a reference role has touched: it answers `done` to all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from herdmaster.core.names import is_call
from herdmaster.core.outcome import Outcome, OutcomeState
from herdmaster.simulation.checks.effects import Actor, Effects, inbox_of
from herdmaster.simulation.checks.history import TaskHistory
from herdmaster.simulation.plan.jobs import ALWAYS, Code, Job, PlannedFailure
from herdmaster.simulation.plan.plan import Kind

_LARGE: Final = 500_000
"""Characters from which on a payload or a result may be too large."""
PLANNED: Final = f"{PlannedFailure.__module__}.{PlannedFailure.__qualname__}"

Permits = Callable[[Job, TaskHistory], bool]

_FAILURES: Final[Mapping[str, Permits]] = {
    # error type: whether a task may end with it
    PLANNED: lambda job, history: job.code is Code.FAIL and history.executions > 0,
    "WorkerLost": lambda _job, history: bool(history.given),
    "TimeLimitExceeded": lambda job, _history: job.timeout is not None,
    "UnknownCall": lambda job, _history: job.rare,
    "BadPayload": lambda job, _history: job.garbage,
    "PayloadTooLarge": lambda job, _history: job.size > _LARGE,
    "ResultTooLarge": lambda job, _history: job.size > _LARGE,
}


class ExecutionCheck:
    """`jobs` are the jobs by task."""

    def __init__(
        self, jobs: Mapping[str, Job], history: Callable[[str], TaskHistory], report: Callable[[str], None]
    ) -> None:
        self._jobs = jobs
        self._history = history
        self._report = report
        self.only_tasks_kill = False
        """Whether only the code of tasks kills workers, and no fault does."""

    def note_given(self, effects: Effects) -> None:
        """Count the assignments that are created, or set to be run again."""
        for path in (*(path for path, _, _ in effects.created), *effects.changed):
            worker = inbox_of(path)
            if worker is not None:
                given = self._history(path.rpartition("/")[2]).given
                given[worker] = given.get(worker, 0) + 1

    def started(self, task: str, worker: str) -> str | None:
        """Count a run of the code of a task. Return what is wrong with it, or None."""
        history = self._history(task)
        history.executions += 1
        starts = history.started[worker] = history.started.get(worker, 0) + 1
        given = history.given.get(worker, 0)
        if given < starts and not history.excused:
            return f"started {task} {starts} times as {worker}, which was given it {given} times"
        return None

    def check_outcome(self, history: TaskHistory, outcome: Outcome, actor: Actor) -> None:
        job = self._jobs.get(history.name)
        if job is None or history.excused or actor.reference:
            return
        error = _outcome_error(job, history, outcome, actor)
        if self.only_tasks_kill and job.code not in (Code.KILL, Code.HANG) and _error_of(outcome) == "WorkerLost":
            error = " for the loss of workers that other tasks killed"
        if error is not None:
            self._report(f"ended {history.name} as {outcome.state.value}{error}")


def _outcome_error(job: Job, history: TaskHistory, outcome: Outcome, actor: Actor) -> str | None:
    match outcome.state:
        case OutcomeState.CANCELLED:
            return ", without a request" if job.cancel is None and job.parent is None else None
        case OutcomeState.EXPIRED:
            return ", and it never expires" if job.expires is None else None
        case OutcomeState.FAILED:
            return _failure_error(job, history, outcome)
        case OutcomeState.DONE:
            return _result_error(job, history, outcome, actor)


def _error_of(outcome: Outcome) -> str:
    return "" if outcome.error is None else outcome.error.type.removeprefix("herdmaster.errors.")


def _failure_error(job: Job, history: TaskHistory, outcome: Outcome) -> str | None:
    kind = _error_of(outcome)
    permits = _FAILURES.get(kind)
    if permits is None or not permits(job, history):
        return f" with {kind or 'no error'}, for which there was no reason"
    if kind == PLANNED and is_call(history.name) and outcome.attempt < job.attempts:
        return f" after attempt {outcome.attempt} of {job.attempts}"
    return None


def _result_error(job: Job, history: TaskHistory, outcome: Outcome, actor: Actor) -> str | None:
    if actor.kind is not Kind.WORKER or not history.executions:
        return ", and its code never ran"
    if job.garbage or (job.code is Code.FAIL and (not job.times or job.times >= ALWAYS)):
        return ", and its code always fails"
    if outcome.result is not None and bytes(outcome.result) != msgspec.json.encode("x" * job.size):
        return " with another result than its code gave"
    return None
