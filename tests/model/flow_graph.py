"""Flows as the model knows them: graphs of steps, and what the names of a flow's znodes say about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple


class Definition(NamedTuple):
    """A step. `each`: it makes so many items. `adds`: it adds one step when it ends."""

    step: str
    parents: tuple[str, ...] = ()
    mark: str = ""
    each: int = 0
    adds: bool = False


class Graph(NamedTuple):
    definitions: tuple[Definition, ...]

    def of(self, step: str) -> Definition:
        """Return the definition; an item or an added step has one without parents."""
        return next((each for each in self.definitions if each.step == step), Definition(step))

    def entry(self, step: str) -> str:
        """Return the name under which a step waits."""
        found = self.of(step)
        if not found.mark and len(found.parents) == 1 and not self.of(found.parents[0]).each:
            return f"{found.parents[0]}:{step}"
        return step + found.mark

    def joins(self, step: str) -> tuple[str, ...]:
        """Return the names of what has an edge of this step; an item has the edges of its `each`."""
        parent = step.partition(".")[0]
        entries = ((each, self.entry(each.step)) for each in self.definitions if parent in each.parents)
        return tuple(entry for _, entry in entries if ":" not in entry)


def step_of(entry: str) -> str:
    return entry.rpartition(":")[2].rstrip("!?")


def children(names: Iterable[str], folder: str) -> tuple[str, ...]:
    prefix = f"{folder}/"
    found = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    return tuple(sorted(name for name in found if "/" not in name))


class View:
    """What names say: which steps are done, failed, running or waiting, and which can no longer start."""

    def __init__(self, names: frozenset[str], *, stop: bool) -> None:
        self.done = frozenset(children(names, "F/results"))
        self.failed = frozenset(children(names, "F/failed"))
        self.running = children(names, "F/running")
        self.entries = {entry: children(names, f"F/steps/{entry}") for entry in children(names, "F/steps")}
        self.is_cancelled = "F/cancel" in names
        self.is_stopped = stop and bool(self.failed)
        self.is_running = "F/running" in names
        self._waiting = {step_of(entry): entry for entry in self.entries}

    def over(self, step: str) -> bool:
        """Whether the step has failed, or can start only after a retry."""
        if step in self.failed:
            return True
        entry = self._waiting.get(step)
        return entry is not None and self._is_blocked(entry)

    def _is_blocked(self, entry: str) -> bool:
        edges = self.entries[entry]
        if entry.endswith("!"):
            return not edges
        if entry.endswith("?"):
            return False
        if self.is_stopped:
            return True
        parent, colon, _ = entry.rpartition(":")
        return self.over(parent) if colon else any(self.over(each) for each in edges)

    def ready(self) -> Iterator[str]:
        """Return the entries that start now."""
        if self.is_cancelled or not self.is_running:
            return
        for entry, edges in self.entries.items():
            if entry.endswith("!"):
                is_ready = bool(edges) and all(self.over(each) for each in edges)
            elif entry.endswith("?"):
                is_ready = all(self.over(each) for each in edges)
            elif self.is_stopped:
                is_ready = False
            else:
                parent, colon, _ = entry.rpartition(":")
                is_ready = parent in self.done if colon else not edges
            if is_ready:
                yield entry

    def at_rest(self) -> bool:
        return self.is_running and not self.running and not any(True for _ in self.ready())


@cache
def view(names: frozenset[str], *, stop: bool) -> View:
    return View(names, stop=stop)


def has_all(graph: Graph, entry: str, seen: View) -> bool:
    """Whether all that the step needs is there, by its definition instead of its edges."""
    found = graph.of(step_of(entry))
    parents = [(parent, parent) for parent in found.parents]
    for parent in found.parents:
        parents += [(f"{parent}.{number}", parent) for number in range(graph.of(parent).each)]
    is_done = [step in seen.done for step, _ in parents]
    if not found.mark:
        return all(is_done)
    are_over = all(step in seen.done or seen.over(step) or seen.over(parent) for step, parent in parents)
    return are_over and not (found.mark == "!" and all(is_done))
