"""Let operators change flows in the moments in which these end, and let some outcomes of flows stay."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from herdmaster.simulation.plan.faults import ChangeFlow, FlowChange, When
from herdmaster.simulation.plan.flow_plans import PlannedFlow
from herdmaster.simulation.plan.plan import Plan

_KEPT: Final = 0.4
_CANCELLED: Final = 0.3
_RETRIED: Final = 0.5
_SPAN: Final = 1.5
"""Seconds from the submission of a flow in which its first steps start and end."""


def with_flow_ends(plan: Plan) -> Plan:
    """Return the plan, with more changes of its flows, if it has flows."""
    rng = random.Random(f"herdmaster/{plan.seed}/flow ends")
    flows = tuple(_perhaps_kept(rng, flow) for flow in plan.flows)
    found = [change for flow in flows for change in _changes(rng, plan, flow)]
    return msgspec.structs.replace(plan, flows=flows, faults=(*plan.faults, *found))


def _perhaps_kept(rng: random.Random, flow: PlannedFlow) -> PlannedFlow:
    keeps = not flow.silent and rng.random() < _KEPT
    return msgspec.structs.replace(flow, keeps=True) if keeps else flow


def _changes(rng: random.Random, plan: Plan, flow: PlannedFlow) -> list[ChangeFlow]:
    found: list[tuple[float, FlowChange]] = []
    if rng.random() < _CANCELLED:
        found.append((flow.at + rng.uniform(0.0, _SPAN), FlowChange.CANCEL))
    if rng.random() < _RETRIED:
        found += [(flow.at + rng.uniform(0.0, _SPAN), FlowChange.RETRY) for _ in range(rng.choice((2, 6)))]
    if flow.keeps:
        found.append((rng.uniform(flow.at + _SPAN, plan.horizon + 2 * _SPAN), FlowChange.REMOVE))
    return [ChangeFlow(when=When(at=at), flow=flow.index, what=what) for at, what in found]
