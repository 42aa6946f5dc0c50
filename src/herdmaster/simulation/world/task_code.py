"""The code of tasks: what it does in each run, how long that takes, and a record of each run."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from herdmaster.core import layout
from herdmaster.simulation.plan.plan import Code, Job
from herdmaster.simulation.world.process import Process


class Execution(msgspec.Struct, frozen=True):
    """One run of a task's code. `at` in seconds of the world."""

    task: str
    worker: str
    process: str
    at: float


class PlannedFailure(Exception):
    """What a job raises that is to fail."""


class TaskCode:
    """`inbox_holds` says whether an assignment exists on the server, `excused` whether the run may be without one;
    `kill` ends a process at once, for that task."""

    def __init__(
        self,
        jobs: dict[int, Job],
        *,
        inbox_holds: Callable[[str], bool],
        excused: Callable[[Process, str], bool],
        started: Callable[[Execution, str], None],
        kill: Callable[[Process, str], None],
        hang: Callable[[Process], None],
        complain: Callable[[str], None],
    ) -> None:
        self.names: dict[int, list[str]] = {}
        """The tasks that each job became: one, and more when it is replayed; a reference client's are not there."""
        self._jobs = jobs
        self._inbox_holds = inbox_holds
        self._excused = excused
        self._started = started
        self._kill = kill
        self._hang = hang
        self._complain = complain
        self._misbehaved: dict[int, int] = {}
        self._duration: float | None = 0.0

    def take_duration(self) -> float | None:
        duration, self._duration = self._duration, 0.0
        return duration

    def run(self, process: Process, worker: str, index: int, task: str | None = None) -> None:
        """Called in the worker's process when the code begins."""
        job = self._jobs[index]
        names = [task] if task is not None else self.names[index]
        held = [name for name in names if self._inbox_holds(layout.assignment_path(worker, name))]
        task = held[0] if held else names[-1]
        if not held and not self._excused(process, task):
            self._complain(f"{process.name} started {task}, which is not in its inbox")
        self._started(Execution(task, worker, process.name, process.loop.now), job.code)
        self._duration = job.seconds
        if job.code is Code.FAIL:
            failed = self._misbehaved[index] = self._misbehaved.get(index, 0) + 1
            if failed <= (job.times or failed):
                raise PlannedFailure(f"job {index} was to fail")
        if job.code in (Code.HANG, Code.KILL) and self._misbehaved.get(index, 0) < job.times:
            self._misbehaved[index] = self._misbehaved.get(index, 0) + 1
            if job.code is Code.KILL:
                self._kill(process, task)
            else:
                self._duration = None
                self._hang(process)

    def call(self, process: Process, worker: Callable[[], str]) -> Callable[[int, str], str]:
        """The function that calls name."""

        def run(index: int, filling: str) -> str:
            self.run(process, worker(), index)
            return filling

        return run

    def handle_raw(self, process: Process, worker: Callable[[], str]) -> Callable[[str, bytes], None]:
        """The handler of raw tasks."""

        def run(name: str, data: bytes) -> None:
            index = int(data.partition(b":")[0].removeprefix(b"t"))
            self.run(process, worker(), index, name)

        return run
