"""The parts that are played in a world, by one process after the other, and what a client keeps on its disk."""

from __future__ import annotations

from typing import Protocol

import msgspec

from herdmaster.simulation.plan.plan import Job, Part
from herdmaster.simulation.world.operator import Errand
from herdmaster.simulation.world.process import Process
from herdmaster.zookeeper.client import Predecessors


class Actable(Protocol):
    """A role, ours or a reference one."""

    def stop(self) -> None: ...


class Submission(msgspec.Struct):
    """One task that a client submitted. `life` is the client's life that did."""

    job: Job
    name: str
    life: int
    answered: bool = False
    accepted: bool = False
    refused: bool = False
    unknown: bool = False
    delivered: bool = False
    attached: int = 0
    """The life that waits for its outcome, if another than the one that submitted it."""


class Slot:
    """One part. `wanted`: it is to run, and if it ends it starts again."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.name = part.slot
        self.life = 0
        self.process: Process | None = None
        self.role: Actable | None = None
        self.given_up: Predecessors | None = None
        """What the role knows of its sessions that no server has ended."""
        self.wanted = True
        self.restart_seconds: float | None = None
        """After leaving: when to start again; None, not at all."""
        self.submissions: dict[str, Submission] = {}
        self.submitted_jobs: dict[int, None] = {}
        self.hung_since: float | None = None
        self.errand: Errand | None = None

    @property
    def is_running(self) -> bool:
        process = self.process
        return process is not None and process.alive and not process.is_over
