"""The world of one plan: wires the parts together, runs them, and returns the result.

A run has three phases. Until the horizon, tasks are submitted and faults happen. Then faults stop, killed programs
restart, reference roles leave, and everything has to settle within a bounded time. Finally all programs are told to
stop, and nothing may be left: no task, no inbox, no session, no asyncio task and no timer.
"""

from __future__ import annotations

import gc
import logging
import random
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.schedules import Tick
from herdmaster.simulation.checks.answers import AnswerCheck
from herdmaster.simulation.checks.isolation import IsolationCheck
from herdmaster.simulation.checks.ledger import Ledger
from herdmaster.simulation.checks.log_check import LogCheck
from herdmaster.simulation.checks.once import OnceCheck
from herdmaster.simulation.checks.task_index import TaskIndex
from herdmaster.simulation.checks.trace import Trace
from herdmaster.simulation.plan.flow_plans import PlannedFlow
from herdmaster.simulation.plan.jobs import Job
from herdmaster.simulation.plan.plan import Plan
from herdmaster.simulation.world.child_code import ChildCode
from herdmaster.simulation.world.client_program import ClientProgram
from herdmaster.simulation.world.fault_injection import FaultInjection
from herdmaster.simulation.world.leftovers import discard
from herdmaster.simulation.world.loop import VirtualLoop
from herdmaster.simulation.world.network import Endpoint, Network
from herdmaster.simulation.world.once_code import OnceCode
from herdmaster.simulation.world.operators import Operators
from herdmaster.simulation.world.pauses import FaultWindow, Pauses
from herdmaster.simulation.world.process import Process
from herdmaster.simulation.world.program_faults import ProgramFaults
from herdmaster.simulation.world.program_state import ProgramState
from herdmaster.simulation.world.programs import Programs
from herdmaster.simulation.world.server import SimulatedServer
from herdmaster.simulation.world.server_events import ServerEvents
from herdmaster.simulation.world.server_faults import ServerFaults
from herdmaster.simulation.world.settling import Settling
from herdmaster.simulation.world.supervisor import RESTART_SECONDS, Supervisor
from herdmaster.simulation.world.task_code import TaskCode
from herdmaster.simulation.world.task_runs import TaskRuns

START: Final = 0.0
_GRACE_SECONDS: Final = 2.0
"""Beyond a session timeout, after which all roles have seen a change."""


class Result(msgspec.Struct):
    """The result of a run. `failure` is None where everything held. `seconds` are in the time of the world; `faults`
    are counted by kind."""

    seed: int
    failure: str | None
    trace: Trace
    transactions: int
    callbacks: int
    seconds: float
    executions: int
    faults: dict[str, int]


class World:
    """Runs a plan once. With `listen` the trace has what the roles log."""

    def __init__(self, plan: Plan, *, listen: bool = False) -> None:
        self.plan = plan
        self.failure: str | None = None
        # What the loop leaves out of asyncio's interface raises: nothing here uses it.
        self.loop = VirtualLoop(START, self.fail)  # type: ignore[abstract]  # the methods are abstract to typeshed only
        self._trace = Trace(lambda: self.loop.now, lambda: self.loop.current.name)
        self._logs = LogCheck(self._trace, self.fail, has_nested_statuses=plan.has_nested_statuses, listen=listen)
        self._tasks = TaskIndex()
        self._states: dict[str, ProgramState] = {}
        self._grace = plan.session_timeout + _GRACE_SECONDS + plan.lag
        jobs, flows = {job.index: job for job in plan.jobs}, {flow.index: flow for flow in plan.flows}
        self._ledger = Ledger(
            self._tasks, plan.namespace, self._grace, plan.slowness, plan.ages, plan.outcome_ttl, self.fail, jobs, flows
        )
        self._ledger.executions.only_tasks_kill = not plan.faults and not plan.has_reference
        self._server = self._make_server()
        self._network = Network(self.loop, self._server, plan.latency, plan.seed, late_replies=plan.late_replies)
        self.loop.connector = self._network
        self._runs = self._make_runs()
        self._supervisor = self._make_supervisor()
        self._window = FaultWindow(self.loop)
        self._faults = self._make_faults()
        self._settling = Settling(
            plan,
            self.loop,
            self._trace,
            self._supervisor,
            self._ledger,
            self._server,
            self._faults,
            self._window,
            heal=self._network.heal,
            fail=self.fail,
        )

    # --- parts -------------------------------------------------------------------------------------------------------

    def _make_server(self) -> SimulatedServer:
        events = ServerEvents(
            self._states,
            self._ledger,
            self._trace,
            applied=self._applied,
            fail=self.fail,
        )
        plan = self.plan
        lags = dict(zip(reversed(plan.addresses), plan.lags, strict=False))
        return SimulatedServer(self.loop, plan.disk, random.Random(f"{plan.seed}/server"), events, lags)

    def _make_runs(self) -> TaskRuns:
        return TaskRuns(
            self._states,
            self._ledger,
            self._tasks,
            IsolationCheck(self.plan.max_deliveries, self._ledger.history, self.fail),
            self._trace,
            read=self._read,
            places=self._places_of,
            now_ms=self._server.unix_ms,
            grace=self._grace,
            kill=lambda state: self._supervisor.kill(state, power=False, restart_seconds=RESTART_SECONDS),
            fail=self.fail,
        )

    def _make_supervisor(self) -> Supervisor:
        once = self._once = OnceCheck(self._read, lambda task: self._ledger.history(task).excused, self.fail)
        jobs = {job.index: job for job in self.plan.all_jobs}
        steps = {step.job.index: step for flow in self.plan.flows for step in flow.steps}
        children: dict[int, list[Job | PlannedFlow]] = {}
        planned: tuple[Job | PlannedFlow, ...] = (*self.plan.jobs, *self.plan.flows)
        for child in planned:
            if child.parent is not None:
                children.setdefault(child.parent, []).append(child)
        code = TaskCode(
            jobs, steps, self._runs, OnceCode(once), ChildCode(children, self._find_client), self._ledger.flows.chunks
        )
        reports = AnswerCheck(self._ledger, self._tasks, self._server.unix_ms, self._trace, self.fail)
        supervisor = Supervisor(
            self.loop,
            self._trace,
            self._states,
            self.plan.seed,
            launcher=Programs(self.plan, code, reports),
            on_start=self._process_started,
            fail=self.fail,
        )
        for program in self.plan.programs:
            supervisor.add(program)
        return supervisor

    def _find_client(self, name: str) -> ClientProgram | None:
        state = self._states[name]
        return state.role if state.is_running and isinstance(state.role, ClientProgram) else None

    def _make_faults(self) -> FaultInjection:
        plan, pauses = self.plan, Pauses(self.loop, self._trace, self._window)
        jobs = {job.index: job for job in plan.jobs}
        return FaultInjection(
            self.loop,
            self._trace,
            self._window,
            programs=ProgramFaults(
                self._supervisor,
                self._network,
                plan.addresses,
                self._ledger,
                self.loop,
                self._window,
                pauses,
                expire=self._expire,
            ),
            server=ServerFaults(self._server, self.loop, self._trace, self._window, pauses),
            operators=Operators(
                self._supervisor,
                self._window,
                jobs,
                self._tasks.names_of,
                self._ledger.flows.names,
                unfit=plan.unfit_mistakes,
            ),
        )

    # The server and the supervisor are made before the fault injection, which needs them.

    def _applied(self, process: Endpoint, count: int) -> None:
        self._faults.transaction_applied(process, count)

    def _process_started(self, process: Endpoint) -> None:
        self._faults.process_started(process)

    def _read(self, path: str) -> bytes | None:
        """Return the data of a znode as applied, or None."""
        node = self._server.state.tree.find(self.plan.namespace + path)
        return None if node is None else node.data or b""

    def _places_of(self, task: str) -> list[str]:
        """Return where a task is as applied, unless it has ended."""
        tree, root = self._server.state.tree, self.plan.namespace
        found = [f"{layout.TASKS}/{task}"] if self._read(layout.task_path(task)) is not None else []
        for worker in tree.children_of(root + layout.ASSIGN):
            path = layout.assignment_path(worker, task)
            found += [path] if self._read(path) is not None else []
        delayed = tree.children_of(root + layout.DELAYED)
        return found + [f"{layout.DELAYED}/{name}" for name in delayed if name.endswith(f"-{task}")]

    def _expire(self, process: Process, session_id: int) -> None:
        self._runs.expired_early(process)
        self._once.expired_early(process.name)
        self._server.expire(session_id)

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self) -> Result:
        collecting = gc.isenabled()
        gc.disable()  # what the collector finalises, and when, depends on what else runs in this interpreter
        try:
            with self._logs:
                self._begin()
                self.loop.run_forever()
        finally:
            self._tear_down()
            if collecting:
                gc.enable()
        return Result(
            self.plan.seed,
            self.failure,
            self._trace,
            self._server.count,
            self.loop.steps,
            self.loop.now,
            self._runs.count,
            self._faults.counts,
        )

    @property
    def server_skew_ms(self) -> int:
        """How far the clock of the servers is ahead of the time of the world."""
        return self._server.skew_ms

    def last_ticks(self) -> dict[str, Tick]:
        """Return the tick of each schedule that is there, by name."""
        return self._ledger.schedules.last_ticks()

    def fail(self, text: str) -> None:
        """Note a failure. The first one ends the run."""
        if self.failure is None:
            self.failure = text
            self._trace.add("FAILURE", "%s", text)
            self.loop.stop()

    def _begin(self) -> None:
        for state in self._states.values():
            self.loop.call_world(state.program.starts, self._supervisor.start, state)
        self._faults.schedule(self.plan.faults)
        self.loop.call_world(self.plan.horizon, self._settling.begin)

    def _tear_down(self) -> None:
        """Close the suspended coroutines of all processes, with logging off: none of them may run any more."""
        self.loop.close()
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        for process in (*self._supervisor.processes, self.loop.world):
            process.alive = False
            for task in process.tasks:
                discard(task)
            process.tasks.clear()
        logging.disable(level)
