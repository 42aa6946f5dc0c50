"""The values of steps, as a plain sequential evaluation gives them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec

from herdmaster.simulation.plan.flow_plans import PlannedFlow, PlannedStep


def value_of(index: int, element: object, parents: Sequence[object], items: int | None) -> object:
    """Return what the code of a step returns: a number that depends on all that it is given, or a list of them."""
    digest = zlib.crc32(msgspec.json.encode([index, element, list(parents)]))
    return digest if items is None else [digest + number for number in range(items)]


def evaluate(flow: PlannedFlow) -> dict[str, object]:
    """Return the value of each step of a flow in which nothing fails, by id. The value of an `each` step is the list of
    the values of its items."""
    values: dict[str, object] = {}
    for number, step in enumerate(flow.steps):
        given = [values[str(parent)] for parent in step.parents]
        values[str(number)] = _evaluate_step(step, given)
    return values


def _evaluate_step(step: PlannedStep, given: list[object]) -> object:
    index = step.job.index
    if not step.each:
        return value_of(index, None, given, step.items)
    elements, *others = given
    assert isinstance(elements, list)
    return [value_of(index, element, others, None) for element in elements]
