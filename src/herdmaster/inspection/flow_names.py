"""What the names below a flow say of its steps. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import msgspec

from herdmaster.core.flow_graph import ON_FAILURE, OPTIONAL, parent_of, step_of
from herdmaster.inspection.flow_seen import StepState

_item = re.compile(r"\.[0-9]+")

When = Literal["", "failure", "optional"]


class Entry(NamedTuple):
    """A name in the folder of waiting steps. `parent` is that of a follower, which has no edges."""

    name: str
    step: str
    when: When = ""
    parent: str | None = None


def parse_entry(name: str) -> Entry:
    """Return the fields of `S`, `S!`, `S?` or `P:S`."""
    return Entry(name, step_of(name), when_of(name[-1:]), parent_of(name))


def when_of(mark: str) -> When:
    """Return when a step with this mark starts."""
    return "failure" if mark == ON_FAILURE else "optional" if mark == OPTIONAL else ""


def adder_of(step: str) -> str | None:
    """Return which step, or group, has added a step or group while it ran; None for one that was submitted."""
    adder, plus, _ = step.rpartition("+")
    return group_of(adder.removesuffix(".*")) if plus else None


def step_in(mark: bytes | None) -> str:
    """Return the id of a step in the data of a running task: `ID[MARK][ NEXT]`."""
    return step_of((mark or b"").decode("ascii", "replace").partition(" ")[0])


def group_of(step: str) -> str:
    """Return what a step is shown as: `4` for the items of an `each` step 4, `4.*+0` for the first step that each of
    these added, and its own id for any other."""
    return _item.sub(".*", step).removesuffix(".*") if "." in step else step


def sort_key(step: str) -> tuple[int, ...]:
    """Return a key that sorts ids, and ids of groups, by their numbers."""
    return tuple(int(part) for part in re.findall(r"[0-9]+", step))


class FlowNames(msgspec.Struct, frozen=True):
    """The names below a flow. `live` has the id of each step with a task, by the name of the task; `edges` those of
    each entry that is no follower."""

    live: dict[str, str]
    entries: tuple[Entry, ...]
    edges: dict[str, tuple[str, ...]]
    done: frozenset[str]
    failed: frozenset[str]

    def parents_of(self, entry: Entry) -> tuple[str, ...]:
        """Return the parents that it still waits for: items one by one."""
        if entry.parent is None:
            return self.edges.get(entry.name, ())
        return () if entry.parent in self.done else (entry.parent,)

    def blocked(self) -> frozenset[str]:
        """Return the ids of the steps that cannot start, because a parent has failed or is blocked."""
        below: dict[str, list[str]] = {}
        for entry in self.entries:
            for parent in () if entry.when else self.parents_of(entry):
                below.setdefault(parent, []).append(entry.step)
        blocked: set[str] = set()
        left = list(self.failed)
        while left:
            for child in below.get(left.pop(), ()):
                if child not in blocked:
                    blocked.add(child)
                    left.append(child)
        return frozenset(blocked)

    def waiting_states(self, *, has_ended: bool) -> dict[str, StepState]:
        """Return the state of each step that has not started, by id."""
        blocked = self.blocked()
        otherwise = StepState.SKIPPED if has_ended else StepState.WAITING
        return {each.step: StepState.BLOCKED if each.step in blocked else otherwise for each in self.entries}


def grouped(steps: Iterable[str]) -> tuple[str, ...]:
    """Return the groups of the steps, each once, in the order of their ids."""
    return tuple(sorted({group_of(step) for step in steps}, key=sort_key))


def weightiest(states: Mapping[StepState, int]) -> StepState:
    """Return the state of many steps together: what runs comes first, then what failed."""
    return next(state for state in _BY_WEIGHT if states.get(state))


_BY_WEIGHT = (
    StepState.RECOVERING, StepState.RUNNING, StepState.ASSIGNED, StepState.PENDING, StepState.DELAYED,
    StepState.FAILED, StepState.CANCELLED, StepState.EXPIRED, StepState.BLOCKED, StepState.WAITING, StepState.DONE,
    StepState.SKIPPED,
)  # fmt: skip
