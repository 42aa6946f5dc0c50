"""The steps of a flow as listings and pictures show them."""

from __future__ import annotations

import enum
from typing import Literal

import msgspec

from herdmaster.core.failure import ErrorInfo


class StepState(enum.StrEnum):
    """The state of a step, for people. `waiting`: for parents that are not done. `blocked`: one of its parents has
    failed or is blocked. `skipped`: it runs after failures only, and nothing failed. `pending` to `recovering` are the
    states of its task, `failed` to `expired` say how that ended."""

    WAITING = "waiting"
    PENDING = "pending"
    DELAYED = "delayed"
    ASSIGNED = "assigned"
    RUNNING = "running"
    RECOVERING = "recovering"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    BLOCKED = "blocked"
    SKIPPED = "skipped"


LIVE = frozenset({
    StepState.PENDING, StepState.DELAYED, StepState.ASSIGNED, StepState.RUNNING, StepState.RECOVERING,
})  # fmt: skip
"""The states of a step that has a task."""
UNSUCCESSFUL = frozenset({StepState.FAILED, StepState.CANCELLED, StepState.EXPIRED})


class StepInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of a flow. Times are unix milliseconds.

    `parents` are the ids of the steps that it needs, or of the one that added it; `waits_for` of those that are not
    done. `when` says whether it
    runs only after a failure, or also without parents that failed. `run` counts the retries of the flow in which it
    ran again, `attempt` the attempts of its present task.

    An `each` stands for its items as well: `items` has their number by state, `errors` some of those that failed, by
    id, and `state` is `done` when all items are. Where these are chunks of items, `chunked` is how many items there are
    in all chunks; None while chunks are still made, and where there are no chunks.
    """

    id: str
    name: str
    state: StepState
    parents: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    when: Literal["", "failure", "optional"] = ""
    task: str | None = None
    worker: str | None = None
    run: int = 0
    attempt: int = 1
    due: int | None = None
    began: int | None = None
    ended: int | None = None
    error: ErrorInfo | None = None
    items: dict[StepState, int] | None = None
    errors: dict[str, ErrorInfo] = {}
    chunked: int | None = None


def describe_counts(counts: dict[StepState, int], chunked: int | None = None) -> str:
    """Return counts as `9,997 done, 3 failed`; of chunks, with the number of items in all."""
    text = ", ".join(f"{counts[state]:,} {state}" for state in StepState if counts.get(state))
    if chunked is None:
        return text
    chunks = sum(counts.values())
    return f"{chunked:,} items in {chunks:,} {'chunk' if chunks == 1 else 'chunks'}: {text}"
