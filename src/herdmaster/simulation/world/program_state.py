"""The state of each program: its process, its role, and what a client keeps on its disk."""

from __future__ import annotations

from typing import Protocol

import msgspec

from herdmaster.simulation.plan.flow_plans import PlannedFlow
from herdmaster.simulation.plan.jobs import Job
from herdmaster.simulation.plan.plan import Program
from herdmaster.simulation.world.errands import Errand
from herdmaster.simulation.world.process import Process
from herdmaster.zookeeper.client import Predecessors


class Stoppable(Protocol):
    """A role, ours or a reference role."""

    def stop(self) -> None: ...


class Submission(msgspec.Struct):
    """One task that a client submitted. `life` is the number of the client's process."""

    job: Job
    name: str
    life: int
    answered: bool = False
    accepted: bool = False
    refused: bool = False
    unknown: bool = False
    given_up: bool = False
    delivered: bool = False
    attached: int = 0
    """The number of the process that waits for the outcome, if not the submitting process."""


class FlowSubmission(msgspec.Struct):
    """One flow that a client submitted. `name` is that of the flow, `submission` that of this submission of it. `life`
    and `attached`: as of a task."""

    plan: PlannedFlow
    name: str
    submission: str
    life: int
    answered: bool = False
    accepted: bool = False
    delivered: bool = False
    attached: int = 0


class ProgramState:
    """What is known of one program. While `wanted`, the program is started again when its process ends."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.name = program.name
        self.life = 0
        self.process: Process | None = None
        self.role: Stoppable | None = None
        self.given_up: Predecessors | None = None
        """The role's earlier sessions that no server has ended."""
        self.wanted = True
        self.restart_seconds: float | None = None
        """After a stop: when to start again, or None for never."""
        self.submissions: dict[str, Submission] = {}
        self.submitted_jobs: dict[int, None] = {}
        self.flows: dict[str, FlowSubmission] = {}
        """The flows that were submitted, by the names of their submissions."""
        self.submitted_flows: dict[int, None] = {}
        self.hung_since: float | None = None
        self.errand: Errand | None = None

    @property
    def is_running(self) -> bool:
        process = self.process
        return process is not None and process.alive and not process.is_over
