"""The znodes of one flow as they are on disk, and what follows from them by the plan of the flow."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping
from functools import cached_property

import msgspec

from herdmaster.core.flow_graph import step_of
from herdmaster.core.flows import FlowHeader, FlowState, decode_header
from herdmaster.core.outcome import Outcome, decode_outcome
from herdmaster.errors import BadOutcome, BadPayload
from herdmaster.simulation.plan.flow_codec import CODEC
from herdmaster.simulation.plan.flow_plans import PlannedFlow
from herdmaster.simulation.plan.flow_values import flattened

ENDED = frozenset({FlowState.DONE, FlowState.FAILED, FlowState.CANCELLED, FlowState.EXPIRED})


class FlowTree:
    """A moment of a flow. `nodes` are its znodes by their path below it; its header has the path ``."""

    def __init__(self, name: str, plan: PlannedFlow, nodes: Mapping[str, bytes]) -> None:
        self.name = name
        self.plan = plan
        self.nodes = nodes

    def children(self, folder: str) -> list[str]:
        prefix = f"{folder}/"
        found = (path.removeprefix(prefix) for path in self.nodes if path.startswith(prefix))
        return [name for name in found if "/" not in name]

    @cached_property
    def header(self) -> FlowHeader | None:
        try:
            return decode_header(self.nodes.get(""))
        except BadPayload:
            return None

    @property
    def state(self) -> FlowState | None:
        return None if self.header is None else self.header.state

    @cached_property
    def running(self) -> dict[str, str]:
        """The step of each running task."""
        return {task: _id_of(self.nodes[f"running/{task}"]) for task in self.children("running")}

    @cached_property
    def waiting(self) -> dict[str, str]:
        """The entry of each waiting step."""
        return {step_of(entry): entry for entry in self.children("steps")}

    @cached_property
    def failed(self) -> set[str]:
        return set(self.children("failed"))

    def outcome(self, step: str) -> Outcome | None:
        data = self.nodes.get(f"results/{step}")
        try:
            return None if data is None else decode_outcome(f"{self.name}/{step}", data)
        except BadOutcome:
            return None

    def value(self, step: str) -> object:
        """Return the result of a step that is done, or None."""
        outcome = self.outcome(step)
        if outcome is None or outcome.result is None:
            return None
        found = msgspec.json.decode(outcome.result)
        planned = self.plan.step(step)
        if outcome.codec is None or planned is None:
            return found
        is_chunk = planned.has_chunks and "." in step
        return [CODEC.decode(b64decode(each)) for each in found] if is_chunk else CODEC.decode(b64decode(found))

    def places(self, step: str) -> list[str]:
        """Return where a step stands."""
        found = [f"{folder}/{step}" for folder in ("results", "failed") if f"{folder}/{step}" in self.nodes]
        found += [f"steps/{entry}" for entry in self.children("steps") if step_of(entry) == step]
        return found + [f"running/{task}" for task, each in self.running.items() if each == step]

    def known(self) -> set[str]:
        """Return the steps that stand somewhere."""
        return {*self.children("results"), *self.failed, *self.waiting, *self.running.values()}

    # --- by the plan -------------------------------------------------------------------------------------------------

    def parents(self, step: str) -> list[str]:
        """Return the steps that a step waits for, by its definition."""
        if "." in step:
            return []
        if "+" in step:
            before, _, number = step.rpartition("+")
            return [before if number == "0" else f"{before}+{int(number) - 1}"]
        planned = self.plan.step(step)
        return [] if planned is None else [str(parent) for parent in planned.parents]

    def mark(self, step: str) -> str:
        planned = self.plan.step(step)
        return planned.mark if planned is not None and step.isdecimal() else ""

    def sizes(self, step: str) -> list[int]:
        """Return how many elements are in each step of an `each` that is done: one, or a chunk of them."""
        planned = self.plan.step(step)
        match self.value(step) if planned is not None and planned.each and step.isdecimal() else 0:
            case int(count):
                return [1] * count
            case [int(count), int(chunk)]:
                return [min(chunk, count - first) for first in range(0, count, chunk)]
        return []

    def items(self, step: str) -> list[str]:
        """Return the steps of an `each` step that is done: its items, or chunks of them."""
        return [f"{step}.{number}" for number in range(len(self.sizes(step)))]

    def values(self, step: str) -> list[object]:
        """Return the results for the elements of an `each` that is done; None where there is none."""
        planned = self.plan.step(step)
        found = [self.value(item) for item in self.items(step)]
        if planned is None or not planned.has_chunks:
            return found
        chunks = zip(found, self.sizes(step), strict=True)
        return [value for chunk, size in chunks for value in (chunk if isinstance(chunk, list) else [None] * size)]

    def given(self, step: str) -> list[object]:
        """Return what the parents of a step have come to: for one with items, the list of their values."""
        if "." in step:
            planned = self.plan.step(step)
            parents = [] if planned is None else [str(parent) for parent in planned.parents[1:]]
        else:
            parents = self.parents(step)
        return [self.result(parent) for parent in parents]

    def result(self, step: str) -> object:
        planned = self.plan.step(step)
        if planned is not None and planned.each and step.isdecimal() and f"results/{step}" in self.nodes:
            return self.values(step)
        return self.value(step)

    def elements(self, each: str) -> list[object]:
        """Return the elements that an `each` goes over."""
        planned = self.plan.step(each)
        found = None if planned is None else self.result(str(planned.parents[0]))
        if planned is None or not isinstance(found, list):
            return []
        return flattened(found) if planned.flat else found

    def element(self, step: str) -> object:
        """Return the first argument of a step: an element for an item, minus one for an added step."""
        if "+" in step:
            return -1
        parent, dot, number = step.partition(".")
        elements = self.elements(parent) if dot else []
        return elements[int(number)] if dot and int(number) < len(elements) else None

    def is_done(self, step: str) -> bool:
        """Whether a step is done, with all its items."""
        return all(f"results/{each}" in self.nodes for each in (step, *self.items(step)))

    def is_over(self, step: str) -> bool:
        """Whether a step has failed, or an item of it, or it can start only after a retry."""
        if step in self.failed:
            return True
        if f"results/{step}" in self.nodes:
            items = self.items(step)
            return any(each in self.failed for each in items) and all(self._has_ended(each) for each in items)
        if step not in self.waiting:
            return False
        mark = self.mark(step)
        if mark == "!":
            return all(map(self.is_done, self.parents(step)))
        return not mark and (self.is_stopped or any(map(self._blocks, self.parents(step))))

    def _blocks(self, parent: str) -> bool:
        """Whether a step that needs all of its parent can start only after a retry: one item that failed is enough."""
        return self.is_over(parent) or any(step.startswith(f"{parent}.") for step in self.failed)

    def _has_ended(self, step: str) -> bool:
        return step in self.failed or f"results/{step}" in self.nodes

    @property
    def is_stopped(self) -> bool:
        return self.plan.stops and bool(self.failed)

    def has_all(self, step: str) -> bool:
        """Whether all that a step needs is there."""
        parents = self.parents(step)
        is_done = [self.is_done(parent) for parent in parents]
        mark = self.mark(step)
        if not mark:
            return all(is_done)
        are_over = all(done or self.is_over(parent) for done, parent in zip(is_done, parents, strict=True))
        return are_over and not (mark == "!" and all(is_done))

    def startable(self) -> Iterator[str]:
        """Return the waiting steps that have to start."""
        for step in self.waiting:
            if self.has_all(step) and not (self.is_stopped and not self.mark(step)):
                yield step


def _id_of(data: bytes) -> str:
    """Return the step in the data of a running task: its mark and its progress follow it."""
    return data.decode().partition(" ")[0].rstrip("!?")


def is_result_of_step(path: str) -> bool:
    match path.split("/"):
        case ["", "flows", _, "results", _]:
            return True
    return False
