"""The graph of a flow for people: steps that are alike are one node, so that a picture stays small. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from herdmaster.inspection.flow_names import weightiest
from herdmaster.inspection.flow_seen import StepInfo, StepState

_MANY: Final = 6
"""So many steps that are alike are one node."""
_MAX_ROUNDS: Final = 20


class Node(msgspec.Struct, frozen=True):
    """A step, or several that have the same name and the same place in the graph. `depth` is the number of steps on the
    longest way to it, `parents` and `children` are indexes of nodes."""

    steps: tuple[StepInfo, ...]
    depth: int
    parents: tuple[int, ...]
    children: tuple[int, ...]

    @property
    def step(self) -> StepInfo:
        """The first of its steps."""
        return self.steps[0]

    @property
    def label(self) -> str:
        """Its ids and name: `4 parse`, or `4..103 parse`."""
        ids = self.step.id if len(self.steps) == 1 else f"{self.step.id}..{self.steps[-1].id}"
        return f"{ids} {self.step.name}".rstrip()

    @property
    def counts(self) -> dict[StepState, int]:
        """The number of its steps, or of the items of an `each`, by state."""
        counts: Counter[StepState] = Counter()
        for step in self.steps:
            counts.update(step.items or {step.state: 1})
        return dict(counts)

    @property
    def total(self) -> int:
        """The number of its steps or items; 1 for a plain step."""
        return sum(self.counts.values())

    @property
    def chunked(self) -> int | None:
        """The number of items in the chunks of an `each`; None if there are no chunks, or several steps."""
        return self.step.chunked if len(self.steps) == 1 else None

    @property
    def state(self) -> StepState:
        """The state of its steps together."""
        return weightiest(Counter(step.state for step in self.steps))


def graph_of(steps: Iterable[StepInfo]) -> tuple[Node, ...]:
    """Return the nodes, each after its parents. Parents that are no step of the flow are left out."""
    by_id = {step.id: step for step in steps}
    parents = {each: tuple(p for p in dict.fromkeys(step.parents) if p in by_id) for each, step in by_id.items()}
    depths = _depths(parents)
    ids = sorted(by_id, key=depths.__getitem__)  # stable: steps of one depth stay in their order
    groups: dict[Hashable, list[str]] = {}
    classes = _classes(by_id, parents, depths)
    sizes = Counter(classes.values())
    for each in ids:
        is_many = sizes[classes[each]] >= _MANY
        groups.setdefault(classes[each] if is_many else each, []).append(each)
    node_of = {each: number for number, members in enumerate(groups.values()) for each in members}
    above = [tuple(sorted({node_of[p] for each in members for p in parents[each]})) for members in groups.values()]
    below: list[list[int]] = [[] for _ in above]
    for number, nodes in enumerate(above):
        for node in nodes:
            below[node].append(number)
    return tuple(
        Node(tuple(by_id[each] for each in members), depths[members[0]], above[number], tuple(below[number]))
        for number, members in enumerate(groups.values())
    )


def _depths(parents: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the length of the longest way to each step. A circle, which no flow has, is cut."""
    children: dict[str, list[str]] = {each: [] for each in parents}
    missing = {each: len(above) for each, above in parents.items()}
    for each, above in parents.items():
        for parent in above:
            children[parent].append(each)
    depths = dict.fromkeys(parents, 0)
    ready = [each for each, count in missing.items() if not count]
    for each in ready:
        for child in children[each]:
            depths[child] = max(depths[child], depths[each] + 1)
            missing[child] -= 1
            if not missing[child]:
                ready.append(child)
    return depths


def _classes(
    by_id: Mapping[str, StepInfo], parents: Mapping[str, Sequence[str]], depths: Mapping[str, int]
) -> dict[str, int]:
    """Return the number of the class of each step. Steps of one class have the same name and depth, and their parents
    and children are of the same classes."""
    children: dict[str, list[str]] = {each: [] for each in by_id}
    for each, above in parents.items():
        for parent in above:
            children[parent].append(each)
    classes = _numbered({each: (step.name, step.when, depths[each]) for each, step in by_id.items()})
    for _ in range(_MAX_ROUNDS):
        before = len(set(classes.values()))
        classes = _numbered(
            {
                each: (
                    number,
                    frozenset(classes[p] for p in parents[each]),
                    frozenset(classes[child] for child in children[each]),
                )
                for each, number in classes.items()
            }
        )
        if len(set(classes.values())) == before:
            break
    return classes


def _numbered(keys: Mapping[str, Hashable]) -> dict[str, int]:
    numbers: dict[Hashable, int] = {}
    return {each: numbers.setdefault(key, len(numbers)) for each, key in keys.items()}
