"""Flows of a plan: what clients submit, and what each step does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from herdmaster.simulation.plan.jobs import Job

MISBEHAVING: Final = 3
"""The code of a chunk may misbehave for one of so many elements."""


class PlannedStep(msgspec.Struct, frozen=True):
    """A step. `parents` are numbers of steps before it. `mark` is `!` for a step that runs after a failure, and `?` for
    one that goes on without parents that failed.

    `items`: the result is a list of so many values. `each`: there is one item for each element of what the first parent
    returns, or, with `chunk`, for each chunk of so many elements. `adds`: its code adds so many steps, each of which
    waits for the one before it.

    `lists`: in place of each value there is a list of so many. With `flat`, the first parent of an `each` returns a
    list of lists, and there is one item for each of their elements. With `codec`, the arguments and the result are
    written with a codec.

    In chunks, the code misbehaves for every third element, so often for each of them.
    """

    job: Job
    parents: tuple[int, ...] = ()
    mark: str = ""
    items: int | None = None
    each: bool = False
    adds: int = 0
    chunk: int | None = 1
    lists: int | None = None
    flat: bool = False
    codec: bool = False

    @property
    def has_chunks(self) -> bool:
        """Whether there are chunks of elements. A flow that leaves that open gets none for so few elements."""
        return self.each and self.chunk not in {None, 1}

    def misbehaves_for(self, position: int) -> bool:
        """Return whether the code may misbehave for the element at this position of a list."""
        return position % MISBEHAVING == self.job.index % MISBEHAVING


class PlannedFlow(msgspec.Struct, frozen=True):
    """A flow. All times are in seconds. Only one flow at a time has a `key`. `silent`: its client does not wait for its
    outcome, and there is none. `keeps`: its outcome stays when it was read. `parent`: the job whose code submits it as
    its child, `at` seconds after it has noted its name."""

    index: int
    client: str
    at: float
    steps: tuple[PlannedStep, ...]
    stops: bool = False
    timeout: float | None = None
    ttl: float | None = None
    key: str | None = None
    silent: bool = False
    keeps: bool = False
    parent: int | None = None

    def step(self, number: str) -> PlannedStep | None:
        """Return a step by its id; an item has that of its `each` step, and an added step that of the one that added
        it. None for an id that the flow has not."""
        first = number.replace("+", ".").partition(".")[0]
        return self.steps[int(first)] if first.isdecimal() and int(first) < len(self.steps) else None

    @property
    def jobs(self) -> Iterator[Job]:
        return (step.job for step in self.steps)
