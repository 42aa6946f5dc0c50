"""Make a failing plan smaller while it still fails in the same way: fewer faults, jobs and programs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from herdmaster.simulation.plan.faults import Fault, ProgramFault
from herdmaster.simulation.plan.plan import Kind, Plan

T = TypeVar("T")

MAX_RUNS: Final = 400
_names = re.compile(r"(task|worker|master|client|session|operator)[-/ #]?[0-9a-z.#+-]*|/\S+|[0-9.]+")


def kind_of(failure: str) -> str:
    """Return a failure without the names and numbers in it."""
    return _names.sub("*", failure)[:60]


class Shrinker:
    """Looks for the smallest plan that fails in the same way. `run` runs a plan and returns the failure, or None."""

    def __init__(self, plan: Plan, failure: str, run: Callable[[Plan], str | None]) -> None:
        self.plan = plan
        self.runs = 0
        self._kind = kind_of(failure)
        self._run = run

    def shrink(self) -> Plan:
        """Return the smallest plan that was found."""
        size = -1
        while size != self._size() and self.runs < MAX_RUNS:
            size = self._size()
            self._reduce(self.plan.faults, lambda faults: msgspec.structs.replace(self.plan, faults=tuple(faults)))
            self._drop_programs()
            self._reduce(self.plan.flows, lambda flows: msgspec.structs.replace(self.plan, flows=tuple(flows)))
            self._reduce(self.plan.jobs, lambda jobs: msgspec.structs.replace(self.plan, jobs=tuple(jobs)))
        return self.plan

    def _size(self) -> int:
        return len(self.plan.faults) + len(self.plan.jobs) + len(self.plan.programs) + len(self.plan.flows)

    def _reduce(self, items: Sequence[T], with_items: Callable[[Sequence[T]], Plan]) -> None:
        """Leave out halves, then quarters, and at last single items."""
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

    def _drop_programs(self) -> None:
        for program in self.plan.programs:
            if program.name.endswith("-1") and program.kind is not Kind.CLIENT:
                continue
            programs = tuple(other for other in self.plan.programs if other is not program)
            if any(other.kind is Kind.CLIENT for other in programs):
                jobs = tuple(job for job in self.plan.jobs if job.client != program.name)
                flows = tuple(flow for flow in self.plan.flows if flow.client != program.name)
                faults = tuple(fault for fault in self.plan.faults if not _concerns(fault, program.name))
                smaller = msgspec.structs.replace(self.plan, programs=programs, jobs=jobs, flows=flows, faults=faults)
                self._still_fails(smaller)

    def _still_fails(self, plan: Plan) -> bool:
        if self.runs >= MAX_RUNS:
            return False
        self.runs += 1
        failure = self._run(plan)
        if failure is None or kind_of(failure) != self._kind:
            return False
        self.plan = plan
        return True


def _concerns(fault: Fault, program: str) -> bool:
    return isinstance(fault, ProgramFault) and fault.program == program
