"""What a seed stands for: who takes part, what is submitted, how the network and the disk are, and what goes wrong
when.

A plan is drawn as a whole before anything runs (`drawing`), so that a fault can be left out and everything else stay as
it was.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from herdmaster.core.keys import KeyHolds, KeyScope
from herdmaster.simulation.plan.faults import DELAYING, AnyFault
from herdmaster.simulation.world.network import Latency
from herdmaster.simulation.world.server import Disk

ALWAYS: Final = 99
"""A job that misbehaves so often never behaves."""
DEFAULT: Final = "default"
OTHER: Final = "other"
_USUAL_SECONDS: Final = 0.5


class Kind(enum.StrEnum):
    MASTER = "master"
    WORKER = "worker"
    CLIENT = "client"
    OPERATOR = "operator"


class Flaw(enum.StrEnum):
    """What a reference role does wrong beyond its two-step moves."""

    NONE = "none"
    JAVA = "java"
    """After a broken connection a worker repeats its status at `/status/TASK/status`, and a master does not repeat the
    delete of a task."""
    C = "c"
    """A master that recovers nothing, cuts the names of tasks, and dies of a task without a worker."""


class Part(msgspec.Struct, frozen=True):
    """A process that takes part. `reference`: it behaves as the reference's programs do. Times in seconds."""

    slot: str
    kind: Kind
    starts: float
    skew_ms: int = 0
    reference: bool = False
    flaw: Flaw = Flaw.NONE
    slots: int = 1
    queues: tuple[str, ...] = (DEFAULT,)
    lacks: bool = False
    """A worker without the rare function."""
    attaches: bool = True
    """A client that comes back waits for the outcomes of what it submitted in an earlier life."""


class Code(enum.StrEnum):
    """What a task's code does."""

    RUN = "run"
    FAIL = "fail"
    HANG = "hang"
    KILL = "kill"


CALL: Final = "simulated:code"
RARE: Final = "simulated:rare"


class Job(msgspec.Struct, frozen=True):
    """A submission. `seconds` is how long its code runs; `times`, for HANG and KILL, how often it does so before it
    behaves; `garbage`: its payload is no call; `key`: a uniqueness key, which only one task holds at a time."""

    index: int
    client: str
    at: float
    raw: bool
    code: Code
    seconds: float
    times: int = 0
    size: int = 0
    queue: str = DEFAULT
    priority: int = 5
    silent: bool = False
    garbage: bool = False
    key: str | None = None
    key_scope: KeyScope = KeyScope.CALL
    key_holds: KeyHolds = KeyHolds.DONE
    old_key: bool = False
    """Its client is of a version that knew neither."""
    patience: float | None = None
    """After so many seconds its client gives up waiting for the acceptance."""
    attempts: int = 1
    backoff: float = 0.0
    delay: float | None = None
    """It is due so many seconds after it was submitted."""
    expires: float | None = None
    """If it has not begun so many seconds after it was submitted, it ends as expired."""
    cancel: float | None = None
    """Seconds after its submission at which an operator asks to cancel it."""
    timeout: float | None = None
    """Seconds that its code may take."""
    rare: bool = False
    """Not every worker has its function."""


class Plan(msgspec.Struct, frozen=True):
    seed: int
    addresses: tuple[str, ...]
    namespace: str
    latency: Latency
    disk: Disk
    session_timeout: float
    outcome_ttl: float
    max_deliveries: int
    horizon: float
    parts: tuple[Part, ...]
    jobs: tuple[Job, ...]
    faults: tuple[AnyFault, ...]
    sweeps: bool
    """The run goes on until everything that has a time to live has been swept away."""
    lingers: float = 0.0
    """How many seconds reference roles stay after the faults have stopped."""

    @property
    def slowness(self) -> float:
        """Seconds by which anything here is late at most that is neither lost nor given up."""
        late = sum(fault.seconds for fault in self.faults if isinstance(fault, DELAYING))
        return _USUAL_SECONDS + 4 * self.latency.spike + late

    @property
    def has_reference(self) -> bool:
        return any(part.reference for part in self.parts)
