"""Makes a failing plan smaller while it still fails in the same way: fewer faults, fewer tasks, fewer processes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from herdmaster.simulation.plan.faults import Fault, OfPart
from herdmaster.simulation.plan.plan import Kind, Plan
from herdmaster.simulation.world.world import Result, World

T = TypeVar("T")

MAX_RUNS: Final = 400
_names = re.compile(r"(task|worker|master|client|session|operator)[-/ #]?[0-9a-z.#+-]*|/\S+|[0-9.]+")


def kind_of(failure: str) -> str:
    """A failure without the names and numbers in it."""
    return _names.sub("*", failure)[:60]


class Shrinker:
    """`run` is called with a smaller plan and says what came of it."""

    def __init__(
        self, plan: Plan, failure: str, run: Callable[[Plan], Result] = lambda plan: World(plan).run()
    ) -> None:
        self.plan = plan
        self.runs = 0
        self._kind = kind_of(failure)
        self._run = run

    def shrink(self) -> Plan:
        """The smallest plan that was found."""
        size = -1
        while size != self._size() and self.runs < MAX_RUNS:
            size = self._size()
            self._reduce(self.plan.faults, lambda faults: msgspec.structs.replace(self.plan, faults=tuple(faults)))
            self._drop_parts()
            self._reduce(self.plan.jobs, lambda jobs: msgspec.structs.replace(self.plan, jobs=tuple(jobs)))
        return self.plan

    def _size(self) -> int:
        return len(self.plan.faults) + len(self.plan.jobs) + len(self.plan.parts)

    def _reduce(self, items: Sequence[T], with_items: Callable[[Sequence[T]], Plan]) -> None:
        """Leaves out halves, then quarters, and at last single ones."""
        kept = list(items)
        length = max(len(kept) // 2, 1)
        while kept and length:
            place = 0
            while place < len(kept):
                fewer = kept[:place] + kept[place + length :]
                if self._still_fails(with_items(fewer)):
                    kept = fewer
                else:
                    place += length
            length //= 2

    def _drop_parts(self) -> None:
        for part in self.plan.parts:
            if part.slot.endswith("-1") and part.kind is not Kind.CLIENT:
                continue
            parts = tuple(other for other in self.plan.parts if other is not part)
            if any(other.kind is Kind.CLIENT for other in parts):
                jobs = tuple(job for job in self.plan.jobs if job.client != part.slot)
                faults = tuple(fault for fault in self.plan.faults if not _concerns(fault, part.slot))
                self._still_fails(msgspec.structs.replace(self.plan, parts=parts, jobs=jobs, faults=faults))

    def _still_fails(self, plan: Plan) -> bool:
        if self.runs >= MAX_RUNS:
            return False
        self.runs += 1
        failure = self._run(plan).failure
        if failure is None or kind_of(failure) != self._kind:
            return False
        self.plan = plan
        return True


def _concerns(fault: Fault, slot: str) -> bool:
    return isinstance(fault, OfPart) and fault.slot == slot
