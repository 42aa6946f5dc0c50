"""The log of a primary: it says each thing once, and gives counts instead of a line per task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.ending_moves import outcome_of
from herdmaster.core.history import EndState
from herdmaster.core.names import DEFAULT_QUEUE, queue_and_priority
from herdmaster.core.outcome import OutcomeState
from herdmaster.core.picture import Totals
from herdmaster.core.queues import UNLIMITED, QueueSettings, describe_queue
from herdmaster.core.recovery import worker_of
from herdmaster.core.roster import Kind
from herdmaster.core.schedule_decisions import Fire, SkipTo
from herdmaster.core.table import TransitionName
from herdmaster.core.transitions import Move
from herdmaster.roles.primary.flow_log import FlowLog
from herdmaster.roles.shared.system import System

_MAX_REMEMBERED: Final = 1000
_ENDS: Final = {
    TransitionName.BURY: EndState.BURIED,
    TransitionName.REFUSE: EndState.REFUSED,
    TransitionName.REFUSE_ASSIGNED: EndState.REFUSED,
    TransitionName.REFUSE_DELAYED: EndState.REFUSED,
    TransitionName.CANCEL_WAITING: EndState.CANCELLED,
    TransitionName.CANCEL_DELAYED: EndState.CANCELLED,
    TransitionName.CANCEL_ASSIGNED: EndState.CANCELLED,
    TransitionName.FAIL_STEP: EndState.REFUSED,
    TransitionName.FAIL_STEP_WAITING: EndState.REFUSED,
    TransitionName.FAIL_STEP_DELAYED: EndState.REFUSED,
    TransitionName.LOSE_STEP: EndState.REFUSED,
    TransitionName.CANCEL_STEP_WAITING: EndState.CANCELLED,
    TransitionName.CANCEL_STEP_DELAYED: EndState.CANCELLED,
    TransitionName.CANCEL_STEP_ASSIGNED: EndState.CANCELLED,
}
"""The moves by which a primary ends a task; a refusal may be an expiry."""

_log = logging.getLogger("herdmaster.master")


class PrimaryLog:
    """What one term tells the log and the system's instruments. `report` is called for each task that the primary
    ends. Close it at the end of the term."""

    def __init__(self, system: System, report: Callable[[AttemptEnd], None]) -> None:
        self._system = system
        self._instruments = system.instruments
        self.flows = FlowLog(system.instruments)
        self._report = report
        self._began: float | None = system.clock()  # None: it has decided
        self._told: dict[str, set[str]] = {}
        self._recovered: dict[str, int] = {}
        self._queues: dict[str, QueueSettings] = {}  # what was told of those that have limits

    def close(self) -> None:
        """Log what was counted instead of logged."""
        self.flows.close()

    def _is_news(self, subject: str, name: str) -> bool:
        """Return True the first time. Bounded, so that endless names fill neither the log nor the memory."""
        told = self._told.setdefault(subject, set())
        if name in told or len(told) >= _MAX_REMEMBERED:
            return False
        told.add(name)
        return True

    def tell_totals(self, totals: Totals) -> None:
        """Say what there is, once the picture is whole."""
        if self._began is not None:
            self._instruments.took_over(self._system.clock() - self._began)
            self._began = None
        _log.info("found tasks waiting: %d, assigned: %d; workers: %d", totals.waiting, totals.assigned, totals.workers)

    def tell_isolated(self, task: str) -> None:
        if self._is_news("isolated", task):
            _log.warning("%s was with several workers that were lost: from now on it runs alone on its worker", task)

    def tell_foreign_names(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            if self._is_news("name", name):
                _log.warning("%.200r is not a name that Herdmaster uses: left alone", name)

    def tell_unserved_queues(self, queues: Mapping[str, Kind]) -> None:
        """Name the queues that no worker serves, each with the kind of tasks that none takes."""
        for queue, kind in sorted(queues.items()):
            if not self._is_news(kind.name, queue):
                continue
            if kind is Kind.CALL:
                _log.warning(
                    "no worker that serves queue %s has functions: its calls wait; `herd worker --app MODULE` gives a "
                    "worker an app, `--import MODULE` the modules of its tasks", queue,
                )  # fmt: skip
            elif kind is Kind.STEP:
                _log.warning(
                    "no worker that serves queue %s knows flows: the steps of flows wait; install the version of this "
                    "master on its workers", queue,
                )  # fmt: skip
            else:
                _log.warning("no worker serves queue %s: its tasks wait", queue)

    def tell_silent_worker(self, worker: str, data: bytes | None) -> None:
        if self._is_news("worker", worker):
            _log.warning("the znode of %s cannot be used (%.80r): it gets no tasks", worker, data)

    def tell_queue(self, queue: str, settings: QueueSettings) -> None:
        """Say the limits of a queue, each time that they change."""
        if settings == self._queues.get(queue, UNLIMITED):
            return
        if settings == UNLIMITED:
            del self._queues[queue]
        elif queue in self._queues or len(self._queues) < _MAX_REMEMBERED:
            self._queues[queue] = settings
        else:
            return
        _log.info("queue %s: %s", queue, describe_queue(settings) or "no limits")

    def tell_bad_queue(self, queue: str, data: bytes | None) -> None:
        if self._is_news("settings", queue):
            _log.error("/queues/%s cannot be used (%.80r): the queue has no limits", queue, data)

    def tell_unreadable(self, what: str, error: Exception) -> None:
        if self._is_news("unreadable", what):
            _log.error("%s cannot be read (%s): set aside; give it an open ACL, or delete it", what, error)

    def tell_broken_schedule(self, schedule: str, reason: str) -> None:
        """Say once why no tasks of a schedule are made."""
        self._instruments.schedule_broken(schedule)
        if self._is_news("schedule", f"{schedule}: {reason}"):
            _log.error("schedule %s makes no tasks: %s", schedule, reason)

    def tell_tick(self, schedule: str, decision: Fire | SkipTo) -> None:
        """A tick is committed: its tasks, or that it has none."""
        if isinstance(decision, Fire):
            for task, late_ms in zip(decision.tasks, decision.late_ms, strict=True):
                _log.debug("schedule %s made %s, %d ms late", schedule, task.name, late_ms)
                self._instruments.tick_made(schedule, late_ms / 1000)
        for reason, count in decision.skipped.counts.items():
            _log.info("schedule %s: skipped %d (%s)", schedule, count, reason)
            self._instruments.ticks_skipped(schedule, reason, count)

    def tell_broken_flow(self, what: str, reason: str) -> None:
        """Say once what cannot be used of a flow, or of a step as `FLOW/ENTRY`."""
        if self._is_news("flow", what):
            _log.error("%.200r of flows cannot be used: %s: set aside", what, reason)

    def tell_left(self, worker: str, *, drained: bool) -> None:
        _log.info("%s has drained" if drained else "%s was lost", worker)

    def tell_committed(self, move: Move, call: str = "") -> None:
        """`call` is what the task of a move that ends it would have called, if that is known."""
        match move.transition:
            case TransitionName.RECOVER:
                worker = worker_of(move)
                self._recovered[worker] = self._recovered.get(worker, 0) + 1
                self._instruments.tasks_recovered("worker lost")
            case TransitionName.BURY:
                _log.error("buried %s: too many workers were lost while they held it", move.task)
        if _ENDS.get(move.transition) is EndState.REFUSED:
            self._tell_refused(move)
        if move.transition in _ENDS:
            self._report(self._end(move, call))

    def tell_cleared(self, worker: str) -> None:
        """The worker's inbox is gone: say how many tasks were recovered."""
        count = self._recovered.pop(worker, 0)
        if count:
            _log.info("recovered %d tasks of %s", count, worker)

    def _end(self, move: Move, call: str) -> AttemptEnd:
        outcome = outcome_of(move)
        result = _ENDS[move.transition]
        if outcome is not None and outcome.state is OutcomeState.EXPIRED:
            result = EndState.EXPIRED
        queue, _ = queue_and_priority(move.task) or (DEFAULT_QUEUE, 0)
        attempt, error = (outcome.attempt, outcome.error) if outcome is not None else (1, None)
        flow, step = _step_of(move) or (None, None)
        ended = self._system.unix_ms()
        return AttemptEnd(move.task, call, queue, result, ended, attempt=attempt, error=error, flow=flow, step=step)

    def _tell_refused(self, move: Move) -> None:
        outcome = outcome_of(move)
        if outcome is not None and outcome.state is OutcomeState.EXPIRED:
            _log.info("%s has expired", move.task)
            return
        error = outcome.error if outcome is not None else None
        reason = (error.message or error.type) if error is not None else "it cannot be moved"
        _log.error("refused %s: %s", move.task, reason)


def _step_of(move: Move) -> tuple[str, str] | None:
    """Return the flow and the step that a move ends; None if it ends a plain task."""
    for operation in move.operations:
        match operation.path.split("/"):
            case ["", "flows", flow, "failed", step]:
                return flow, step
    return None
