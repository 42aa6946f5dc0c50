"""Let operators delete the tasks of steps of flows by hand."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.faults import AnyFault, ChangeFlow, DeleteStep, FlowChange, When
from herdmaster.simulation.plan.plan import Plan

_CHANCE: Final = 0.12
_SPAN: Final = 2.0
"""The most seconds between two things that operators do."""
_CHANGES: Final[tuple[tuple[FlowChange, ...], ...]] = (
    (),
    (FlowChange.RETRY,),
    (FlowChange.CANCEL,),
    (FlowChange.CANCEL, FlowChange.RETRY),
    (FlowChange.CANCEL, FlowChange.RETRY),
)


def with_lost_steps(plan: Plan) -> Plan:
    """Return the plan, perhaps with steps of flows whose tasks are deleted, and requests to cancel or retry these
    flows afterwards."""
    rng = random.Random(f"herdmaster/{plan.seed}/lost steps")
    # A reference master makes a task again that it has read, also after it was deleted.
    if plan.has_reference or not plan.flows or rng.random() >= _CHANCE:
        return plan
    flow, found = rng.choice(plan.flows), list[AnyFault]()
    at = flow.at
    for _ in range(rng.choice((1, 2, 3))):
        at += rng.uniform(0.0, _SPAN)
        found += [_delete(rng, flow.index, at) for _ in range(rng.choice((1, 3)))]
        for what in rng.choice(_CHANGES):
            at += rng.uniform(0.0, _SPAN)
            found.append(ChangeFlow(when=When(at=at), flow=flow.index, what=what))
    return msgspec.structs.replace(plan, faults=(*plan.faults, *found))


def _delete(rng: random.Random, flow: int, at: float) -> DeleteStep:
    return DeleteStep(when=When(at=at + rng.uniform(0.0, 0.5)), flow=flow)
