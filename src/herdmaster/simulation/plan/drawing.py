"""Draw the plan of a seed.

The modules that were added later (`_EXTENSIONS`) use random generators of their own. So an old seed still means much
the same world.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.child_flows import with_child_flows
from herdmaster.simulation.plan.children import with_children
from herdmaster.simulation.plan.chunks import with_chunks
from herdmaster.simulation.plan.contested_keys import with_contested_keys
from herdmaster.simulation.plan.faults import AnyFault, Weights, When
from herdmaster.simulation.plan.features import with_features
from herdmaster.simulation.plan.flat_lists import with_flat_lists
from herdmaster.simulation.plan.flow_ends import with_flow_ends
from herdmaster.simulation.plan.flows import with_flows
from herdmaster.simulation.plan.full_workers import with_full_workers
from herdmaster.simulation.plan.hardware import Disk, Latency
from herdmaster.simulation.plan.herds import with_herds
from herdmaster.simulation.plan.jobs import ALWAYS, DEFAULT, OTHER, Code, Job
from herdmaster.simulation.plan.lagging_servers import with_lagging_servers
from herdmaster.simulation.plan.late_replies import with_late_replies
from herdmaster.simulation.plan.lost_steps import with_lost_steps
from herdmaster.simulation.plan.once import with_once
from herdmaster.simulation.plan.plan import Kind, Plan, Program
from herdmaster.simulation.plan.poison import with_poison
from herdmaster.simulation.plan.rated_takeovers import with_rated_takeovers
from herdmaster.simulation.plan.reference_defects import with_reference_defects
from herdmaster.simulation.plan.replayed_keys import with_replayed_keys
from herdmaster.simulation.plan.running_limits import with_running_limits
from herdmaster.simulation.plan.schedules import with_schedules
from herdmaster.simulation.plan.server_clocks import with_other_server_clocks
from herdmaster.simulation.plan.short_ages import with_short_ages
from herdmaster.simulation.plan.step_faults import with_step_faults

_ANOTHER_FAULT_CHANCE: Final = 0.35
_EXTENSIONS: Final = (
    with_full_workers,
    with_features,
    with_step_faults,
    with_poison,
    with_reference_defects,
    with_contested_keys,
    with_running_limits,
    with_lagging_servers,
    with_rated_takeovers,
)
_LATER_EXTENSIONS: Final = (
    (1000, with_replayed_keys),
    (1000, with_schedules),
    (2000, with_herds),
    (2000, with_short_ages),
    (4000, with_once),
    (5000, with_late_replies),
    (6000, with_flows),
    (7000, with_other_server_clocks),
    (8000, with_flow_ends),
    (9000, with_children),
    (10_000, with_chunks),
    (10_000, with_child_flows),
    (10_000, with_lost_steps),
    (11_000, with_flat_lists),
)
"""From which seed on each is used. Tests of planted bugs name smaller seeds, which mean the worlds that they meant."""
_KEYS: Final = ("0" * 16, "1" * 16)
HORIZON: Final = (6.0, 20.0)
"""The seconds in which tasks are submitted and faults happen."""


def draw_plan(seed: int) -> Plan:
    """Return the plan that the seed stands for."""
    rng = random.Random(f"herdmaster/{seed}")
    horizon = rng.uniform(*HORIZON)
    reference = rng.random() < 0.2
    programs = _draw_programs(rng, reference=reference)
    typical = rng.choice((0.0002, 0.0005, 0.002, 0.01, 0.05))
    jobs = _draw_jobs(rng, programs, horizon)
    timeout = rng.choice((4.0, 6.0, 10.0))
    plan = Plan(
        seed=seed,
        addresses=tuple(f"zk{number}:2181" for number in range(1, rng.choice((1, 1, 3)) + 1)),
        namespace=rng.choice(("", "", "", "/herd/prod")),
        latency=Latency(typical, max(typical * 20, 0.05)),
        disk=Disk(rng.choice((0.0, 0.0005, 0.005, 0.02))),
        session_timeout=timeout,
        outcome_ttl=90.0,
        max_deliveries=rng.choice((1, 2, 5)),
        horizon=horizon,
        programs=programs,
        jobs=jobs,
        faults=_FaultDrawing(rng, programs, jobs, horizon, timeout).draw(),
        sweeps=rng.random() < 0.06,
    )
    for extend in (*_EXTENSIONS, *(each for first, each in _LATER_EXTENSIONS if seed >= first)):
        plan = extend(plan)
    return plan


def _draw_programs(rng: random.Random, *, reference: bool) -> tuple[Program, ...]:
    programs: list[Program] = []
    for kind, count in (
        (Kind.MASTER, rng.choice((1, 2, 2, 3))),
        (Kind.WORKER, rng.choice((1, 2, 2, 3, 4))),
        (Kind.CLIENT, rng.choice((1, 1, 2, 3))),
    ):
        for number in range(1, count + 1):
            foreign = reference and number > 1 and rng.random() < 0.6
            programs.append(
                Program(
                    name=f"{kind}-{number}",
                    kind=kind,
                    starts=rng.uniform(0.0, 1.0),
                    skew_ms=rng.choice((0, 0, rng.randrange(-10_000, 10_000), rng.randrange(-(10**8), 10**8))),
                    reference=foreign,
                    slots=rng.choice((1, 2, 4)),
                    queues=(DEFAULT, OTHER) if number == 1 or rng.random() < 0.4 else (DEFAULT,),
                    attaches=rng.random() < 0.6,
                )
            )
    return tuple(programs)


def _draw_jobs(rng: random.Random, programs: tuple[Program, ...], horizon: float) -> tuple[Job, ...]:
    clients = [program for program in programs if program.kind is Kind.CLIENT]
    count = rng.choice((3, 12, 30, 30, 60))
    bursts = [rng.uniform(0.5, horizon) for _ in range(rng.randrange(1, 6))]
    slow = rng.choice((0.0, 0.15, 0.5))
    return tuple(_draw_job(rng, index, rng.choice(clients), bursts, slow) for index in range(count))


def _draw_job(rng: random.Random, index: int, client: Program, bursts: list[float], slow: float) -> Job:
    chance = rng.random()
    code, times = Code.RUN, 0
    if chance < 0.07:
        code = Code.FAIL
    elif chance < 0.09:
        code, times = Code.HANG, rng.choice((1, 1, ALWAYS))
    elif chance < 0.11:
        code, times = Code.KILL, rng.choice((1, 1, ALWAYS))
    seconds = rng.uniform(0.5, 6.0) if rng.random() < slow else rng.uniform(0.001, 0.05)
    raw = client.reference or rng.random() < 0.3
    return Job(
        index=index,
        client=client.name,
        at=rng.choice(bursts) + rng.choice((0.0, 0.0, rng.uniform(0.0, 0.5))),
        raw=raw,
        code=code,
        seconds=seconds,
        times=times,
        size=rng.choices((0, 200, 6_000, 60_000, 550_000, 1_100_000), (60, 20, 10, 10, 0.3, 0.3))[0],
        queue=DEFAULT if raw or rng.random() < 0.8 else OTHER,
        priority=rng.choice((5, 5, 5, 0, 9)),
        silent=not raw and rng.random() < 0.1,
        garbage=not raw and rng.random() < 0.04,
        key=rng.choice(_KEYS) if rng.random() < 0.04 else None,
        patience=rng.choice((0.0, 0.01, 3.0)) if rng.random() < 0.06 else None,
    )


# --- faults ----------------------------------------------------------------------------------------------------------


class _FaultDrawing:
    """Draws the faults of one plan."""

    def __init__(
        self,
        rng: random.Random,
        programs: tuple[Program, ...],
        jobs: tuple[Job, ...],
        horizon: float,
        session_timeout: float,
    ) -> None:
        self._rng = rng
        self._programs = programs
        self._jobs = jobs
        self._horizon = horizon
        self._timeout = session_timeout

    def draw(self) -> tuple[AnyFault, ...]:
        rng = self._rng
        weights = faults.PROFILES[rng.choice(("everything", *faults.PROFILES))]
        found: list[AnyFault] = []
        for _ in range(rng.choice((0, 1, 2, 3, 5, 8, 15))):
            when = self._draw_when()
            # At a transaction the fault mostly hits the program that asked for it.
            program = "" if when.transaction and rng.random() < 0.6 else rng.choice(self._programs).name
            found.append(self._draw_fault(weights, when, program))
            while rng.random() < _ANOTHER_FAULT_CHANCE:  # faults come in groups
                later = msgspec.structs.replace(when, later=when.later + rng.expovariate(2.0))
                found.append(self._draw_fault(weights, later, program))
        return tuple(found)

    def _draw_when(self) -> When:
        """Draw mostly moments of activity: at a transaction, or soon after a submission."""
        rng = self._rng
        chance = rng.random()
        if chance < 0.5:
            return When(transaction=rng.randrange(10, 40 + 4 * len(self._jobs)))
        if chance < 0.75:
            return When(at=rng.choice(self._jobs).at + rng.uniform(0.0, 1.5))
        return When(at=rng.uniform(0.0, self._horizon))

    def _draw_span(self) -> float:
        """Return seconds: a moment, less than a session timeout, about one, or longer."""
        rng = self._rng
        return rng.choice(
            (
                rng.uniform(0.01, 1.0),
                *(rng.uniform(*span) * self._timeout for span in ((0.2, 0.9), (0.9, 1.5), (1.5, 3.0))),
            )
        )

    def _draw_fault(self, weights: Weights, when: When, program: str) -> AnyFault:
        rng = self._rng
        kind = rng.choices(tuple(weights), tuple(weights.values()))[0]
        fields: dict[str, object] = {"when": when}
        for field in msgspec.structs.fields(kind):
            match field.name:
                case "program":
                    fields["program"] = program
                case "what":
                    fields["what"] = rng.choice(tuple(faults.Mistake))
                case "seconds":
                    fields["seconds"] = self._draw_span()
                case "milliseconds":
                    fields["milliseconds"] = rng.choice((-1, 1)) * rng.choice((500, 20_000, 4_000_000))
                case "up" | "down" | "power" | "io_first" | "everywhere":
                    fields[field.name] = rng.random() < 0.5
        return kind(**fields)  # type: ignore[arg-type]  # the fields are its own, by name
