"""The plan of a run: the programs, the jobs, the network, the disk, and the faults with their times.

A plan is drawn as a whole before anything runs (`drawing`). So a fault can be left out while all else stays the same.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from herdmaster.simulation.plan.faults import DELAYING, AnyFault, DeleteStep, Mistake
from herdmaster.simulation.plan.flow_plans import PlannedFlow
from herdmaster.simulation.plan.hardware import Disk, Latency
from herdmaster.simulation.plan.jobs import DEFAULT, Job

_USUAL_SECONDS: Final = 0.5


class Kind(enum.StrEnum):
    """What role a program has."""

    MASTER = "master"
    WORKER = "worker"
    CLIENT = "client"
    OPERATOR = "operator"


class Defect(enum.StrEnum):
    """What a reference role does wrong beyond its two-step moves."""

    NONE = "none"
    JAVA = "java"
    """After a lost connection a worker repeats its status at `/status/TASK/status`, and a master does not repeat the
    delete of a task."""
    C = "c"
    """A master recovers nothing, cuts the names of tasks, and exits at a task for which there is no worker."""


class Program(msgspec.Struct, frozen=True):
    """A program that is run by one process after the other. Times are in seconds.

    `reference`: the program is a reference role. `slots`: the threads of a worker.
    """

    name: str
    kind: Kind
    starts: float
    skew_ms: int = 0
    reference: bool = False
    defect: Defect = Defect.NONE
    slots: int = 1
    queues: tuple[str, ...] = (DEFAULT,)
    lacks: bool = False
    """A worker lacks the rare function."""
    attaches: bool = True
    """A restarted client waits for the outcomes of what it submitted in an earlier process."""
    herd: bool = False
    """A client uses a Herd, with its I/O thread."""
    closes: tuple[float, ...] = ()
    """When a client closes its Herd and opens it again."""
    knows_flows: bool = True
    """A worker that does not is of a version before flows."""


class Ages(msgspec.Struct, frozen=True):
    """How long things are kept, in seconds. They are so long that nothing is swept while clients still need it, unless
    a plan is about that."""

    journal: float = 90.0
    dead: float = 90.0
    linger: float = 60.0
    """For an outcome that was read and left to others."""
    merged_after: float = 120.0
    """For batches of the history: longer than it may take until a batch is written again whose reply was lost."""

    @property
    def are_short(self) -> bool:
        return self != Ages()


class Plan(msgspec.Struct, frozen=True):
    """All that a run is made of."""

    seed: int
    addresses: tuple[str, ...]
    namespace: str
    latency: Latency
    disk: Disk
    session_timeout: float
    outcome_ttl: float
    max_deliveries: int
    horizon: float
    """Seconds after which no more faults happen."""
    programs: tuple[Program, ...]
    jobs: tuple[Job, ...]
    faults: tuple[AnyFault, ...]
    sweeps: bool
    """The run goes on until everything with a time to live has been swept."""
    lingers: float = 0.0
    """Seconds for which reference roles stay after the last fault."""
    ages: Ages = Ages()
    """The other times to live, beside `outcome_ttl`."""
    lags: tuple[float, ...] = ()
    """Seconds by which the servers behind the last addresses lag behind the leader."""
    late_replies: bool = False
    """What was sent arrives at a client also after it gave the connection up."""

    flows: tuple[PlannedFlow, ...] = ()

    @property
    def all_jobs(self) -> tuple[Job, ...]:
        """The jobs, and those of the steps of flows."""
        return (*self.jobs, *(job for flow in self.flows for job in flow.jobs))

    @property
    def loses_steps(self) -> bool:
        """Whether tasks of steps are deleted by hand."""
        return any(isinstance(fault, DeleteStep) for fault in self.faults)

    @property
    def slowness(self) -> float:
        """The most seconds by which anything is late that is neither lost nor given up."""
        late = sum(fault.seconds for fault in self.faults if isinstance(fault, DELAYING))
        return _USUAL_SECONDS + 4 * self.latency.spike + late + self.lag

    @property
    def lag(self) -> float:
        return max(self.lags, default=0.0)

    @property
    def has_nested_statuses(self) -> bool:
        """Whether a reference worker may create a znode below a status."""
        return any(each.kind is Kind.WORKER and each.defect is Defect.JAVA for each in self.programs)

    @property
    def has_reference(self) -> bool:
        return any(program.reference for program in self.programs)

    @property
    def unfit_mistakes(self) -> frozenset[Mistake]:
        """The mistakes that are not made, because of what reference masters do then: they assign tasks to a worker that
        is litter, and go on beside the next primary when `/master` is deleted by hand, by which a task may be lost."""
        found = {Mistake.LITTER} if self.has_reference else set()
        if any(program.reference and program.kind is Kind.MASTER for program in self.programs):
            found.add(Mistake.OUST_PRIMARY)
        return frozenset(found)
