"""Operators: one process for each errand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.faults import Fault, Mistake
from herdmaster.simulation.plan.jobs import Job
from herdmaster.simulation.plan.key_claims import claim_of
from herdmaster.simulation.plan.plan import Kind, Program
from herdmaster.simulation.world.errands import (
    AddSchedule,
    CancelTask,
    DeleteStepOf,
    EditFlow,
    EditSchedule,
    Errand,
    LimitQueueFor,
    ReleaseKey,
    ReplayDead,
)
from herdmaster.simulation.world.pauses import FaultWindow
from herdmaster.simulation.world.supervisor import Supervisor


class Operators:
    """Sends operators on the errands that faults stand for. `names_of` returns the tasks that a job became, `flows` has
    the flow that each planned one became; `unfit` are mistakes that lose tasks by what other roles do then."""

    def __init__(
        self,
        supervisor: Supervisor,
        window: FaultWindow,
        jobs: Mapping[int, Job],
        names_of: Callable[[int], list[str]],
        flows: Mapping[int, str],
        *,
        unfit: Collection[Mistake],
    ) -> None:
        self._supervisor = supervisor
        self._window = window
        self._jobs = jobs
        self._names_of = names_of
        self._flows = flows
        self._unfit = unfit
        self._count = 0

    def apply(self, fault: Fault) -> None:
        """Send an operator, unless there is nothing to do."""
        errand = self._errand_of(fault)
        if errand is None or (isinstance(errand, Mistake) and errand in self._unfit):
            return
        if isinstance(errand, LimitQueueFor):
            self._window.extend(errand.seconds)
        self._send(errand)

    def _errand_of(self, fault: Fault) -> Errand | None:
        match fault:
            case faults.MakeMistake(what=what):
                return what
            case faults.Cancel(job=index):
                names = self._names_of(index)
                return CancelTask(names[0]) if names else None
            case faults.Release(job=index):
                claim = claim_of(self._jobs[index]) if index in self._jobs else None
                return None if claim is None else ReleaseKey(claim.hash)
            case faults.Replay():
                return ReplayDead()
            case faults.LimitQueue(queue=queue, limit=limit, seconds=seconds):
                return LimitQueueFor(queue, limit, seconds)
            case faults.StoreSchedule(job=index):
                return AddSchedule(fault, self._jobs[index]) if index in self._jobs else None
            case faults.ChangeSchedule(name=name, what=what):
                return EditSchedule(name, what)
            case faults.ChangeFlow(flow=index, what=change):
                return EditFlow(self._flows[index], change) if index in self._flows else None
            case faults.DeleteStep(flow=index):
                return DeleteStepOf(self._flows[index]) if index in self._flows else None
        return None

    def _send(self, errand: Errand) -> None:
        """Start an operator. Only an errand that has to be undone is started again if the process is killed."""
        self._count += 1
        state = self._supervisor.add(Program(name=f"operator-{self._count}", kind=Kind.OPERATOR, starts=0.0))
        state.errand = errand
        self._supervisor.start(state)
        state.wanted = isinstance(errand, LimitQueueFor)
