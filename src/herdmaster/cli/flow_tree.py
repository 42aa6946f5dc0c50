"""Draws the graph of a flow in plain text: each step once, below the last of its parents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import click

if TYPE_CHECKING:
    from herdmaster.core.failure import ErrorInfo
    from herdmaster.inspection.flow_nodes import Node
    from herdmaster.inspection.flow_seen import StepInfo

COLOURS: Final = {
    "done": "green", "failed": "red", "cancelled": "yellow", "expired": "yellow", "blocked": "red",
    "recovering": "yellow", "running": "cyan", "delayed": "yellow",
}  # fmt: skip
_MAX_NAMED: Final = 3
_MAX_ERRORS: Final = 5
_MAX_WIDTH: Final = 60


class Branch(NamedTuple):
    """A node with what is drawn before it on its line, and on further lines about it."""

    first: str
    rest: str
    node: Node


def tree_lines(steps: Sequence[StepInfo], now_ms: int) -> Iterator[str]:
    """Yield the lines. A step with one successor is followed by it without indentation, so that chains stay narrow."""
    from herdmaster.inspection.flow_nodes import graph_of

    nodes = graph_of(steps)
    names = {step.id: node.label for node in nodes for step in node.steps}
    branches = list(_branches(nodes))
    width = min(_MAX_WIDTH, max((len(each.first) + len(each.node.label) for each in branches), default=0))
    for first, rest, node in branches:
        facts = "  ".join(facts_of(node, nodes, names, now_ms))
        yield f"{first}{node.label:<{max(0, width - len(first))}}  {styled(node.state)} {facts}".rstrip()
        for step, error in _errors(node.steps):
            yield f"{rest}    {click.style(f'{step}: {brief(error)}', fg='red')}"


def styled(state: str, width: int = 10) -> str:
    """Return the word for a state in its colour, filled up with blanks."""
    return f"{click.style(state, fg=COLOURS.get(state))}{' ' * (width - len(state))}"


def _branches(nodes: Sequence[Node]) -> Iterator[Branch]:
    below: dict[int | None, list[int]] = {}
    for number, node in enumerate(nodes):
        place = max(node.parents, key=lambda parent: (nodes[parent].depth, parent), default=None)
        below.setdefault(place, []).append(number)
    left = _level(below.get(None, []), "")
    while left:
        number, first, rest = left.pop()
        yield Branch(first, rest, nodes[number])
        left += _level(below.get(number, []), rest)


def _level(numbers: Sequence[int], before: str) -> list[tuple[int, str, str]]:
    """Return the nodes below one, the last one first."""
    if len(numbers) == 1:
        return [(numbers[0], before, before)]
    last = len(numbers) - 1
    return [
        (number, f"{before}{'`- ' if place == last else '|- '}", f"{before}{'   ' if place == last else '|  '}")
        for place, number in reversed(list(enumerate(numbers)))
    ]


def facts_of(node: Node, nodes: Sequence[Node], names: dict[str, str], now_ms: int) -> Iterator[str]:
    """Yield what is known of a node beside its name and state."""
    from herdmaster.inspection.flow_seen import describe_counts

    step = node.step
    if node.step.when:
        yield "(on failure)" if step.when == "failure" else "(optional)"
    if node.total > 1 or node.chunked is not None:
        yield describe_counts(node.counts, node.chunked)
    if len(node.steps) == 1:
        yield from step_facts(step, now_ms)
    waits = dict.fromkeys(parent for each in node.steps for parent in each.waits_for)
    labels = list(dict.fromkeys(names.get(parent, parent) for parent in waits))
    if labels:
        yield f"waits for {few(labels)}"
    elif len(node.parents) > 1:
        yield f"after {few([nodes[parent].label for parent in node.parents])}"


def step_facts(step: StepInfo, now_ms: int) -> Iterator[str]:
    """Yield where a step runs and how long it took."""
    from herdmaster.cli.history import seconds
    from herdmaster.cli.tasks import age

    if step.items:
        return  # its times are those of making the items
    if step.began is not None and step.ended is not None:
        yield seconds(max(0, step.ended - step.began) / 1000)
    elif step.began is not None:
        yield f"for {age(step.began, now_ms)}"
    if step.ended is not None:
        yield f"{age(step.ended, now_ms)} ago"
    if step.due is not None:
        yield f"due in {age(now_ms, step.due)}" if step.due > now_ms else "due"
    if step.worker is not None and step.ended is None:
        yield f"on {step.worker}"
    if step.attempt > 1:
        yield f"attempt {step.attempt}"
    if step.run:
        yield f"run {step.run + 1}"


def few(labels: Sequence[str]) -> str:
    """Return the first labels, and how many more there are."""
    shown = ", ".join(labels[:_MAX_NAMED])
    return shown if len(labels) <= _MAX_NAMED else f"{shown} and {len(labels) - _MAX_NAMED:,} more"


def _errors(steps: Iterable[StepInfo]) -> Iterator[tuple[str, ErrorInfo]]:
    """Yield the first errors of a node's steps and items, by step id."""
    count = 0
    for step in steps:
        own = {} if step.error is None else {step.id: step.error}
        for each in (own | step.errors).items():
            if count == _MAX_ERRORS:
                return
            count += 1
            yield each


def brief(error: ErrorInfo) -> str:
    """Return an error in one line."""
    from herdmaster.core.printable import printable

    return printable(f"{error.type}: {error.message}" if error.message else error.type, 200)
