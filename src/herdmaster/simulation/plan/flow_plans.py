"""Flows of a plan: what clients submit, and what each step does."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from herdmaster.simulation.plan.jobs import Job


class PlannedStep(msgspec.Struct, frozen=True):
    """A step. `parents` are numbers of steps before it. `mark` is `!` for a step that runs after a failure, and `?` for
    one that goes on without parents that failed.

    `items`: the result is a list of so many values. `each`: there is one item for each element of what the first parent
    returns. `adds`: its code adds so many steps, each of which waits for the one before it.
    """

    job: Job
    parents: tuple[int, ...] = ()
    mark: str = ""
    items: int | None = None
    each: bool = False
    adds: int = 0


class PlannedFlow(msgspec.Struct, frozen=True):
    """A flow. All times are in seconds. Only one flow at a time has a `key`. `silent`: its client does not wait for its
    outcome, and there is none. `keeps`: its outcome stays when it was read."""

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

    def step(self, number: str) -> PlannedStep | None:
        """Return a step by its id; an item has that of its `each` step, and an added step that of the one that added
        it. None for an id that the flow has not."""
        first = number.replace("+", ".").partition(".")[0]
        return self.steps[int(first)] if first.isdecimal() and int(first) < len(self.steps) else None

    @property
    def jobs(self) -> Iterator[Job]:
        return (step.job for step in self.steps)
