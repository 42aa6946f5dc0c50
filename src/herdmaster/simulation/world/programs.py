"""The code of the programs: makes the roles of a process and runs them."""

from __future__ import annotations

from typing import Final, Protocol

from herdmaster.core.members import FLOWS
from herdmaster.roles.client.client import ClientSettings
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.primary.overdue import Patience
from herdmaster.roles.primary.recount import RECOUNT_SECONDS
from herdmaster.roles.primary.sweeper import Ages
from herdmaster.roles.shared.system import System
from herdmaster.roles.worker.worker import Worker, WorkerSettings
from herdmaster.simulation.plan.flow_codec import CODEC
from herdmaster.simulation.plan.jobs import CALL, RARE, STEP, Job
from herdmaster.simulation.plan.plan import Defect, Kind, Plan, Program
from herdmaster.simulation.world.client_program import ClientProgram
from herdmaster.simulation.world.herd_program import HerdProgram, HerdReports
from herdmaster.simulation.world.operator import Operator, OperatorReports
from herdmaster.simulation.world.pool import SimulatedPools
from herdmaster.simulation.world.process import Process
from herdmaster.simulation.world.program_state import ProgramState
from herdmaster.simulation.world.reference import (
    CMaster,
    ReferenceClient,
    ReferenceMaster,
    ReferenceRole,
    ReferenceWorker,
)
from herdmaster.simulation.world.task_code import TaskCode

_ORPHAN_SECONDS: Final = 15.0
"""Longer than every session timeout of a plan."""
_TAKEOVER_SECONDS: Final = 2.0
_BUILDING_SECONDS: Final = 120.0
"""Longer than a client needs for a large flow, whatever happens."""
_LOOKS_SECONDS: Final = 5.0
"""Between two looks for steps whose tasks were deleted."""
_MERGED_BYTES: Final = 600
"""Less than a few batches of the history."""


class Reports(HerdReports, OperatorReports, Protocol):
    """Takes what programs were told."""


class Programs:
    """The launcher of the supervisor."""

    def __init__(self, plan: Plan, code: TaskCode, reports: Reports) -> None:
        self._plan = plan
        self._code = code
        self._reports = reports
        self._hosts = ",".join(plan.addresses) + plan.namespace

    async def run(self, state: ProgramState, process: Process) -> None:
        """Run a program in a process until it ends."""
        system = process.system(SimulatedPools(process, self._code))
        if state.program.kind is Kind.OPERATOR and state.errand is not None:
            await Operator(self._hosts, system, process, self._reports).do(state.errand)
            state.wanted = False
        elif state.program.reference:
            reference = self._make_reference_role(state, process, system)
            state.role = reference
            await reference.run()
        else:
            role = self._make_role(state, process, system)
            state.role, state.given_up = role, role.predecessors
            await role.run()

    def _make_role(
        self, state: ProgramState, process: Process, system: System
    ) -> Master | Worker | ClientProgram | HerdProgram:
        match state.program.kind:
            case Kind.MASTER:
                return self._make_master(system)
            case Kind.WORKER:
                return self._make_worker(state.program, process, system)
        plan = self._plan
        settings = ClientSettings(session_timeout=plan.session_timeout, outcome_ttl=plan.outcome_ttl)
        jobs = self._jobs_of(state)
        if state.program.herd:
            return HerdProgram(state, process, self._hosts, settings, system, jobs, self._reports)
        flows = [flow for flow in plan.flows if flow.client == state.name and flow.parent is None]
        return ClientProgram(state, process, self._hosts, settings, system, jobs, self._reports, flows)

    def _jobs_of(self, state: ProgramState) -> list[Job]:
        return [job for job in self._plan.jobs if job.client == state.name and job.parent is None]

    def _make_master(self, system: System) -> Master:
        plan = self._plan
        # Longer than a takeover, and than a request may be in flight.
        patience = 2 * plan.session_timeout + _TAKEOVER_SECONDS
        return Master(
            self._hosts,
            MasterSettings(
                session_timeout=plan.session_timeout,
                max_deliveries=plan.max_deliveries,
                orphan_inbox_seconds=_ORPHAN_SECONDS,
                patience=Patience(task=patience, inbox=patience),
                ages=_ages(plan),
                recount_seconds=_LOOKS_SECONDS if plan.loses_steps else RECOUNT_SECONDS,
            ),
            system,
        )

    def _make_worker(self, program: Program, process: Process, system: System) -> Worker:
        worker: Worker
        worker = Worker(
            self._hosts,
            dict.fromkeys((CALL,) if program.lacks else (CALL, RARE), self._code.call(process, lambda: worker.name))
            | {STEP: self._code.step(process, lambda: worker.name)},
            WorkerSettings(
                session_timeout=self._plan.session_timeout,
                slots=program.slots,
                queues=program.queues,
                features=(FLOWS,) if program.knows_flows else (),
            ),
            self._code.handle_raw(process, lambda: worker.name),
            system,
            codecs={CODEC.name: CODEC},
        )
        return worker

    def _make_reference_role(self, state: ProgramState, process: Process, system: System) -> ReferenceRole:
        timeout, defect = self._plan.session_timeout, state.program.defect
        repeats_wrongly = defect is Defect.JAVA
        match state.program.kind:
            case Kind.MASTER:
                kind = CMaster if defect is Defect.C else ReferenceMaster
                return kind(self._hosts, timeout, system, repeats_wrongly=repeats_wrongly)
            case Kind.WORKER:
                return ReferenceWorker(
                    self._hosts, timeout, system, process, self._code, repeats_wrongly=repeats_wrongly
                )
        return ReferenceClient(self._hosts, timeout, system, process, self._jobs_of(state), state.submitted_jobs)


def _ages(plan: Plan) -> Ages:
    """Return times to live that a run can outlast. Where a run outlasts them, the history is also merged."""
    kept, size = plan.outcome_ttl, _MERGED_BYTES if plan.sweeps else Ages().history_size
    ages = plan.ages
    return Ages(
        outcome=kept,
        dead=ages.dead,
        journal=ages.journal,
        building=_BUILDING_SECONDS,
        history_size=size,
        linger=ages.linger,
        merged_after=ages.merged_after,
    )
