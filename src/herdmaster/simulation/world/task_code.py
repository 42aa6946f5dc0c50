"""The code of tasks: what it does in each run, and how long that takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from herdmaster.running.current import running_now
from herdmaster.running.delivery import Delivered
from herdmaster.simulation.checks.chunks import ChunkCheck
from herdmaster.simulation.plan.flow_plans import PlannedStep
from herdmaster.simulation.plan.flow_values import value_of
from herdmaster.simulation.plan.jobs import Code, Job, PlannedFailure
from herdmaster.simulation.world.added_steps import add_steps
from herdmaster.simulation.world.child_code import ChildCode
from herdmaster.simulation.world.flow_tasks import ADDED
from herdmaster.simulation.world.once_code import OnceCode, Wait
from herdmaster.simulation.world.process import Process


class Execution(msgspec.Struct, frozen=True):
    """One run of the code of a task. `at` is in seconds of the world."""

    task: str
    worker: str
    process: str
    at: float


class Effector(Protocol):
    """Finds the task of a run, and does to the process what the code does."""

    def find_task(self, process: Process, worker: str, names: list[str]) -> str:
        """Return the task among `names` that is in the worker's inbox; fail the run if none is and none may be."""
        ...

    def names_of(self, index: int) -> list[str]:
        """Return the tasks that a job became."""
        ...

    def started(self, execution: Execution, code: Code) -> None:
        """Note a run."""

    def kill(self, process: Process, task: str) -> None:
        """Kill the process."""

    def hang(self, process: Process) -> None:
        """Note that a thread of the process never returns."""


class TaskCode:
    """Runs the code of jobs and steps; `steps` are those of flows by the index of their job."""

    def __init__(
        self,
        jobs: Mapping[int, Job],
        steps: Mapping[int, PlannedStep],
        effector: Effector,
        once: OnceCode,
        children: ChildCode,
        chunks: ChunkCheck,
    ) -> None:
        self._jobs = jobs
        self._steps = steps
        self._effector = effector
        self._misbehaved: dict[object, int] = {}
        self._duration: float | None = 0.0
        self._once = once
        self._children = children
        self._chunks = chunks
        self._wait: Wait | None = None

    def take_duration(self) -> float | None:
        """Return the duration in seconds of the run that has just started, or None for ever."""
        duration, self._duration = self._duration, 0.0
        return duration

    def take_wait(self) -> Wait | None:
        """Return what the code of the run that has just started waits for before it goes on."""
        wait, self._wait = self._wait, None
        return wait

    def run(self, process: Process, worker: str, index: int, task: str | None = None) -> None:
        """Run the code of a job in the worker's process."""
        job = self._jobs[index]
        names = [task] if task is not None else self._effector.names_of(index)
        task = self._effector.find_task(process, worker, names)
        self._effector.started(Execution(task, worker, process.name, process.loop.now), job.code)
        self._duration = job.seconds
        self._fail_if_planned(job, index)
        if job.code in (Code.HANG, Code.KILL) and self._misbehaved.get(index, 0) < job.times:
            self._misbehaved[index] = self._misbehaved.get(index, 0) + 1
            if job.code is Code.KILL:
                self._effector.kill(process, task)
            else:
                self._duration = None
                self._effector.hang(process)

    def _fail_if_planned(self, job: Job, key: object) -> None:
        """Raise if the code is to fail this time. What has the same `key` fails `times` times."""
        if job.code is Code.FAIL:
            failed = self._misbehaved[key] = self._misbehaved.get(key, 0) + 1
            if failed <= (job.times or failed):
                raise PlannedFailure(f"job {job.index} was to fail")

    def _run_item(self, process: Process, worker: str, step: PlannedStep, running: Delivered, item: int) -> None:
        """Run the code for an item of a chunk, which is started with its first one."""
        job, task = step.job, running.name
        assert running.flow is not None
        position = running.flow.first + item
        if item == 0:
            self._effector.find_task(process, worker, [task])
            self._effector.started(Execution(task, worker, process.name, process.loop.now), job.code)
            self._duration = job.seconds
        try:
            if step.misbehaves_for(position):
                self._fail_if_planned(job, (job.index, position))
        except PlannedFailure:
            self._chunks.ran(worker, task, item, position, has_failed=True)
            raise
        self._chunks.ran(worker, task, item, position, has_failed=False)
        if job.code is Code.KILL and step.misbehaves_for(position) and self._misbehaved.get(job.index, 0) < job.times:
            self._misbehaved[job.index] = self._misbehaved.get(job.index, 0) + 1
            self._effector.kill(process, task)

    def call(self, process: Process, worker: Callable[[], str]) -> Callable[[int, str], str]:
        """Return the function that calls name."""

        def run(index: int, filling: str) -> str:
            # A schedule and a parent make several tasks of one job, and only the code can say which of them runs.
            job, running = self._jobs[index], running_now.get()
            is_only = job.client and job.parent is None
            self.run(process, worker(), index, None if is_only else running.name)
            if job.code is Code.PARENT:
                self._wait = self._children.run(index, running)
            if job.code is Code.ONCE:
                self._wait = self._once.run(process, worker(), running)
                if running.attempt <= job.times:
                    raise PlannedFailure(f"job {index} was to fail in attempt {running.attempt}")
            return filling

        return run

    def step(self, process: Process, worker: Callable[[], str]) -> Callable[[object, int, list[object], str], object]:
        """Return the function that steps of flows name."""

        def run(element: object, index: int, parents: list[object], filling: str) -> object:  # noqa: ARG001 - it only makes the payload large
            step, running = self._steps[index], running_now.get()
            assert isinstance(running, Delivered)
            if running.item is None:
                self.run(process, worker(), index, running.name)
            else:
                self._run_item(process, worker(), step, running, running.item)
            if step.job.code is Code.PARENT:
                self._wait = self._children.run(index, running)
            is_planned = element is None
            if is_planned and step.adds:
                add_steps(step)
            lists = step.lists if element != ADDED else None
            return value_of(index, element, parents, step.items if is_planned else None, lists)

        return run

    def handle_raw(self, process: Process, worker: Callable[[], str]) -> Callable[[str, bytes], None]:
        """Return the handler of raw tasks."""

        def run(name: str, data: bytes) -> None:
            index = int(data.partition(b":")[0].removeprefix(b"t"))
            self.run(process, worker(), index, name)

        return run
