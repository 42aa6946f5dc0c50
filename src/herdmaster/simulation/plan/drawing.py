"""Draws the plan of a seed.

What came later is drawn from sources of its own (`scenes`, `wishes`, `steps`, `flaws`), so that a seed goes on to mean
much the same world in which it once found something.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.contested_keys import with_rivals
from herdmaster.simulation.plan.faults import AnyFault, Weights, When
from herdmaster.simulation.plan.features import with_wishes
from herdmaster.simulation.plan.full_workers import with_scene
from herdmaster.simulation.plan.plan import ALWAYS, DEFAULT, OTHER, Code, Job, Kind, Part, Plan
from herdmaster.simulation.plan.poison import with_poison
from herdmaster.simulation.plan.reference_defects import with_flaws
from herdmaster.simulation.plan.step_faults import with_steps
from herdmaster.simulation.world.network import Latency
from herdmaster.simulation.world.server import Disk

_ANOTHER_CHANCE: Final = 0.35
_KEYS: Final = ("0" * 16, "1" * 16)
HORIZON: Final = (6.0, 20.0)
"""Seconds in which tasks are submitted and faults happen."""


def draw_plan(seed: int) -> Plan:
    rng = random.Random(f"herdmaster/{seed}")
    horizon = rng.uniform(*HORIZON)
    reference = rng.random() < 0.2
    parts = _draw_parts(rng, reference=reference)
    typical = rng.choice((0.0002, 0.0005, 0.002, 0.01, 0.05))
    jobs = _draw_jobs(rng, parts, horizon)
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
        parts=parts,
        jobs=jobs,
        faults=_Misfortune(rng, parts, jobs, horizon, timeout).draw(),
        sweeps=rng.random() < 0.06,
    )
    return with_rivals(with_flaws(with_poison(with_steps(with_wishes(with_scene(plan))))))


def _draw_parts(rng: random.Random, *, reference: bool) -> tuple[Part, ...]:
    parts: list[Part] = []
    for kind, count in (
        (Kind.MASTER, rng.choice((1, 2, 2, 3))),
        (Kind.WORKER, rng.choice((1, 2, 2, 3, 4))),
        (Kind.CLIENT, rng.choice((1, 1, 2, 3))),
    ):
        for number in range(1, count + 1):
            foreign = reference and number > 1 and rng.random() < 0.6
            parts.append(
                Part(
                    slot=f"{kind}-{number}",
                    kind=kind,
                    starts=rng.uniform(0.0, 1.0),
                    skew_ms=rng.choice((0, 0, rng.randrange(-10_000, 10_000), rng.randrange(-(10**8), 10**8))),
                    reference=foreign,
                    slots=rng.choice((1, 2, 4)),
                    queues=(DEFAULT, OTHER) if number == 1 or rng.random() < 0.4 else (DEFAULT,),
                    attaches=rng.random() < 0.6,
                )
            )
    return tuple(parts)


def _draw_jobs(rng: random.Random, parts: tuple[Part, ...], horizon: float) -> tuple[Job, ...]:
    clients = [part for part in parts if part.kind is Kind.CLIENT]
    count = rng.choice((3, 12, 30, 30, 60))
    bursts = [rng.uniform(0.5, horizon) for _ in range(rng.randrange(1, 6))]
    slow = rng.choice((0.0, 0.15, 0.5))
    return tuple(_draw_job(rng, index, rng.choice(clients), bursts, slow) for index in range(count))


def _draw_job(rng: random.Random, index: int, client: Part, bursts: list[float], slow: float) -> Job:
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
        client=client.slot,
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


# --- what goes wrong -------------------------------------------------------------------------------------------------


class _Misfortune:
    """Draws the faults of one plan."""

    def __init__(
        self, rng: random.Random, parts: tuple[Part, ...], jobs: tuple[Job, ...], horizon: float, session_timeout: float
    ) -> None:
        self._rng = rng
        self._parts = parts
        self._jobs = jobs
        self._horizon = horizon
        self._timeout = session_timeout

    def draw(self) -> tuple[AnyFault, ...]:
        rng = self._rng
        weights = faults.PROFILES[rng.choice(("everything", *faults.PROFILES))]
        found: list[AnyFault] = []
        for _ in range(rng.choice((0, 1, 2, 3, 5, 8, 15))):
            when = self._draw_when()
            # At a transaction, most often the process that asked for it is meant.
            slot = "" if when.transaction and rng.random() < 0.6 else rng.choice(self._parts).slot
            found.append(self._draw_fault(weights, when, slot))
            while rng.random() < _ANOTHER_CHANCE:  # misfortunes come together
                later = msgspec.structs.replace(when, later=when.later + rng.expovariate(2.0))
                found.append(self._draw_fault(weights, later, slot))
        return tuple(found)

    def _draw_when(self) -> When:
        """Most hit in the middle of things: at a transaction, wherever that is in time, or soon after a submission."""
        rng = self._rng
        chance = rng.random()
        if chance < 0.5:
            return When(transaction=rng.randrange(10, 40 + 4 * len(self._jobs)))
        if chance < 0.75:
            return When(at=rng.choice(self._jobs).at + rng.uniform(0.0, 1.5))
        return When(at=rng.uniform(0.0, self._horizon))

    def _draw_span(self) -> float:
        """Seconds: a moment, or less than a session timeout, about one, or long."""
        rng = self._rng
        return rng.choice(
            (
                rng.uniform(0.01, 1.0),
                *(rng.uniform(*span) * self._timeout for span in ((0.2, 0.9), (0.9, 1.5), (1.5, 3.0))),
            )
        )

    def _draw_fault(self, weights: Weights, when: When, slot: str) -> AnyFault:
        rng = self._rng
        kind = rng.choices(tuple(weights), tuple(weights.values()))[0]
        fields: dict[str, object] = {"when": when}
        for field in msgspec.structs.fields(kind):
            match field.name:
                case "slot":
                    fields["slot"] = slot
                case "what":
                    fields["what"] = rng.choice(tuple(faults.Meddling))
                case "seconds":
                    fields["seconds"] = self._draw_span()
                case "milliseconds":
                    fields["milliseconds"] = rng.choice((-1, 1)) * rng.choice((500, 20_000, 4_000_000))
                case "up" | "down" | "power" | "io_first" | "everywhere":
                    fields[field.name] = rng.random() < 0.5
        return kind(**fields)  # type: ignore[arg-type]  # the fields are its own, by name
