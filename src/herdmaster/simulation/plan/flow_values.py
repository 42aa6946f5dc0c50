"""The values of steps, as a plain sequential evaluation gives them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec

from herdmaster.simulation.plan.flow_plans import PlannedFlow, PlannedStep


def value_of(
    index: int, element: object, parents: Sequence[object], items: int | None, lists: int | None = None
) -> object:
    """Return what the code of a step returns: a number that depends on all that it is given, or a list of them. With
    `lists`, there is a list of so many in place of each number."""
    digest = zlib.crc32(msgspec.json.encode([index, element, list(parents)]))
    if items is None:
        return digest if lists is None else [digest + number for number in range(lists)]
    return [value_of(index, digest + number, (), None, lists) if lists is not None else digest + number
            for number in range(items)]  # fmt: skip


def flattened(lists: Sequence[object]) -> list[object]:
    """Return the elements of the lists in a list."""
    return [element for each in lists if isinstance(each, list) for element in each]


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
        return value_of(index, None, given, step.items, step.lists)
    elements, *others = given
    assert isinstance(elements, list)
    if step.flat:
        elements = flattened(elements)
    return [value_of(index, element, others, None, step.lists) for element in elements]
