"""Check attempts, deliveries, due times and expiry of tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.outcome import OutcomeState
from herdmaster.simulation.checks.effects import Actor, Effects, task_of
from herdmaster.simulation.checks.history import TaskHistory
from herdmaster.simulation.checks.task_index import TaskIndex
from herdmaster.simulation.plan.jobs import Job
from herdmaster.simulation.plan.plan import Kind

_MOST_SLOWNESS_MS: Final = 60_000
"""Every stall is shorter."""
_SOON_MS: Final = 10
_LONGEST_BACKOFF_MS: Final = 30_000

_UNENDED: Final = (f"{layout.TASKS}/", f"{layout.ASSIGN}/", f"{layout.DELAYED}/")


class _Counts(msgspec.Struct):
    attempt: int = 1
    deliveries: int = 0
    expires: int | None = None


_counts: Final = msgspec.json.Decoder(_Counts)


class TaskOptionsCheck:
    """Checks each transaction after the ledger has applied it.

    `slowness` is the most seconds by which a message is late, and with it what a role knows of the servers' clock.
    """

    def __init__(
        self,
        tasks: TaskIndex,
        history: Callable[[str], TaskHistory],
        report: Callable[[str], None],
        slowness: float,
    ) -> None:
        self._tasks = tasks
        self._history = history
        self._report = report
        self._slowness_ms = min(int(slowness * 1000), _MOST_SLOWNESS_MS)
        self._known: dict[str, _Counts] = {}

    def check(self, effects: Effects, actor: Actor) -> None:
        for path, data in effects.written.items():
            self._check_counts(path, data, actor)
        for path, data, _ in effects.created:
            self._check_counts(path, data, actor)
            if path.startswith(f"{layout.STATUS}/"):
                self._check_expiry(path.removeprefix(f"{layout.STATUS}/"), effects)
            elif path.startswith(f"{layout.DELAYED}/"):
                self._check_due(path, effects, actor)
            elif path.startswith(f"{layout.TASKS}/") and not actor.reference and actor.kind is Kind.CLIENT:
                self._check_no_delay(path, effects)
        for path in effects.deleted:
            if path.startswith(f"{layout.DELAYED}/"):
                self._check_promotion(path, effects)

    def _job(self, task: str | None) -> Job | None:
        job = self._tasks.jobs.get(task or "")
        return None if job is None or self._history(task or "").excused else job

    # --- attempts and deliveries -------------------------------------------------------------------------------------

    def _check_counts(self, path: str, data: bytes, actor: Actor) -> None:
        task = task_of(path) if path.startswith(_UNENDED) else None
        job = self._job(task)
        if task is None or job is None or job.raw or job.garbage:
            return
        now, before = _counts.decode(data), self._known.get(task, _Counts())
        self._known[task] = now
        if now.attempt > job.attempts:
            self._report(f"put {task} into {path} for attempt {now.attempt} of {job.attempts}")
        elif not before.attempt <= now.attempt <= before.attempt + (actor.kind is Kind.WORKER):
            self._report(f"put {task} into {path} for attempt {now.attempt} after {before.attempt}")
        elif not before.deliveries <= now.deliveries <= before.deliveries + (actor.kind is Kind.MASTER):
            self._report(f"put {task} into {path} with {now.deliveries} deliveries after {before.deliveries}")

    def _check_expiry(self, task: str, effects: Effects) -> None:
        """Check that a task which expired had not begun, and that its time was over by the servers' clock."""
        outcome = self._history(task).outcome
        job, known = self._job(task), self._known.get(task, _Counts())
        if job is None or outcome is None or outcome.state is not OutcomeState.EXPIRED:
            return
        if known.attempt > 1:
            self._report(f"let {task} expire after {known.attempt - 1} attempts")
        elif known.expires is not None and effects.time < known.expires:
            self._report(f"let {task} expire {known.expires - effects.time} ms early")

    # --- due times ---------------------------------------------------------------------------------------------------

    def _check_due(self, path: str, effects: Effects, actor: Actor) -> None:
        found = layout.parse_delayed_name(path.rpartition("/")[2])
        job = self._job(None if found is None else found[1])
        if found is None or job is None:
            return
        due, task = found
        if actor.kind is Kind.WORKER:
            earliest, latest = effects.time - _MOST_SLOWNESS_MS, effects.time + _LONGEST_BACKOFF_MS
        else:
            latest = self._tasks.submitted_ms.get(task, effects.time) + int(1000 * (job.delay or 0.0)) + _SOON_MS
            earliest = latest - _SOON_MS - self._slowness_ms
            if task in self._tasks.handed_over:
                latest += self._slowness_ms
        if not earliest <= due <= latest:
            self._report(f"made {task} due at {due}, which is not between {earliest} and {latest}")

    def _check_no_delay(self, path: str, effects: Effects) -> None:
        task = path.rpartition("/")[2]
        job = self._job(task)
        if job is None or job.delay is None:
            return
        due = self._tasks.submitted_ms.get(task, effects.time) + int(1000 * job.delay)
        if effects.time + self._slowness_ms < due:
            self._report(f"submitted {task} {due - effects.time} ms before it is due")

    def _check_promotion(self, path: str, effects: Effects) -> None:
        found = layout.parse_delayed_name(path.rpartition("/")[2])
        if found is None:
            return
        due, task = found
        is_promoted = any(created == layout.task_path(task) for created, _, _ in effects.created)
        if is_promoted and effects.time + _SOON_MS < due:
            self._report(f"promoted {task} {due - effects.time} ms before it is due")
