"""Runs of task code: checks each of them, and does to the process what the code does."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from herdmaster.core import layout
from herdmaster.simulation.checks.isolation import IsolationCheck
from herdmaster.simulation.checks.ledger import Ledger, is_cancelled, read_outcome
from herdmaster.simulation.checks.task_index import TaskIndex
from herdmaster.simulation.checks.trace import Trace
from herdmaster.simulation.plan.jobs import Code
from herdmaster.simulation.world.process import Process
from herdmaster.simulation.world.program_state import ProgramState
from herdmaster.simulation.world.task_code import Execution

ReadNode = Callable[[str], bytes | None]


class TaskRuns:
    """The effector of task code. `read` returns the data of a znode as applied, which may be ahead of the disk and of
    the ledger, and `places` those of a task; `kill` kills the process of a program. `now_ms` is the servers' clock, and
    `grace` the number of seconds after which all roles have seen a change."""

    def __init__(
        self,
        states: Mapping[str, ProgramState],
        ledger: Ledger,
        tasks: TaskIndex,
        isolation: IsolationCheck,
        trace: Trace,
        *,
        read: ReadNode,
        places: Callable[[str], list[str]],
        now_ms: Callable[[], int],
        grace: float,
        kill: Callable[[ProgramState], None],
        fail: Callable[[str], None],
    ) -> None:
        self.count = 0
        self._states = states
        self._ledger = ledger
        self._tasks = tasks
        self._isolation = isolation
        self._trace = trace
        self._read = read
        self._places = places
        self._now_ms = now_ms
        self._grace_ms = int(grace * 1000)
        self._kill = kill
        self._fail = fail
        self._expired: dict[str, None] = {}

    def expired_early(self, process: Process) -> None:
        """Note that the server ended a session of the process early, which no fence of the process can know."""
        self._expired[process.name] = None

    def names_of(self, index: int) -> list[str]:
        return self._tasks.names_of(index)

    def find_task(self, process: Process, worker: str, names: list[str]) -> str:
        held = [name for name in names if self._read(layout.assignment_path(worker, name)) is not None]
        task = held[0] if held else names[-1]
        if not held and not self._is_excused(process, worker, task):
            self._fail(f"{process.name} started {task}, which is not in its inbox")
        return task

    def started(self, execution: Execution, code: Code) -> None:
        self.count += 1
        fault = self._ledger.executions.started(execution.task, execution.worker)
        if fault is not None and not self._is_reference(execution.process):
            self._fail(f"{execution.process} {fault}")
        self._trace.add(execution.process, "starts %s as %s (code: %s)", execution.task, execution.worker, code)

    def kill(self, process: Process, task: str) -> None:
        self._isolation.killed(task, (name for pool in process.pools for name in pool.running_tasks))
        self._kill(self._states[process.host])

    def hang(self, process: Process) -> None:
        self._states[process.host].hung_since = process.loop.now

    def _is_reference(self, process: str) -> bool:
        return self._states[process.partition("#")[0]].program.reference

    def _is_excused(self, process: Process, worker: str, task: str) -> bool:
        """Return whether a run without an assignment is no fault of the worker."""
        return (
            self._is_reference(process.name)  # a reference worker has no fence
            or process.name in self._expired
            or self._ledger.history(task).excused
            or self._ledger.flows.deleted.may_run(task, worker, self._now_ms(), self._grace_ms)
            or self._is_being_deleted(worker, task)
            or self._is_cancelled(task)  # the worker may not know it yet
            or any(self._ledger.actors[session_id].name == process.name for session_id in self._ledger.ousted)
        )

    def _is_being_deleted(self, worker: str, task: str) -> bool:
        """Return whether the task of a step was deleted by hand in the worker's inbox, which is not on disk yet. No
        transition leaves a task nowhere that runs by its flow."""
        failed = self._ledger.flows.failed_path(task)
        if failed is None or layout.assignment_path(worker, task) not in self._ledger.nodes:
            return False
        flow = failed.split("/")[2]
        return self._read(layout.flow_running_path(flow, task)) is not None and not self._places(task)

    def _is_cancelled(self, task: str) -> bool:
        failed = self._ledger.flows.failed_path(task)
        if failed is not None and self._read(failed) is not None:
            return True
        status = self._read(layout.status_path(task))
        return self._ledger.history(task).cancelled or (status is not None and is_cancelled(read_outcome(task, status)))
