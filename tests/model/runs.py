"""What is explored: the runs of every test, and those that take longer."""

from __future__ import annotations

from typing import Final

from tests.model.engine import Verdict
from tests.model.rules import Setup
from tests.model.vocabulary import Kind

ANY_MASTERS: Final = (Kind.REFERENCE, Kind.OURS)
UNCOUNTED: Final = 10**9
"""Raw tasks are counted by the primary in memory, which is not modelled: none is buried."""

RUNS: Final = {
    "one task, two faults": Setup(faults=2),
    "two tasks, one fault": Setup(tasks=2, faults=1, wire_order=True),
    "a task is refused for its key": Setup(tasks=2, faults=1, prompt=True, key_taken=True),
    "a key is released, and another task gets it": Setup(
        faults=1, wire_order=True, keyed=True, attempts=2, cancelling=True, expiring=True
    ),
    "workers drain": Setup(faults=1, wire_order=True, draining=True),
    "workers drain under any master": Setup(faults=0, masters=ANY_MASTERS, wire_order=True, draining=True),
    "tasks are cancelled": Setup(faults=1, cancelling=True),
    "tasks are delayed, and may be cancelled or expire": Setup(
        faults=1, wire_order=True, delaying=True, cancelling=True, expiring=True
    ),
    "attempts fail": Setup(faults=1, wire_order=True, attempts=2),
    "attempts fail under any master": Setup(faults=1, masters=ANY_MASTERS, wire_order=True, attempts=2),
    "a worker lacks the function": Setup(faults=1, wire_order=True, lacking=True),
    "reference masters and ours, two faults": Setup(faults=2, masters=ANY_MASTERS, wire_order=True),
    "C masters and ours": Setup(faults=1, masters=ANY_MASTERS, wire_order=True, c_master=True),
    "reference workers, two faults": Setup(faults=2, workers=Kind.REFERENCE, wire_order=True, max_deliveries=UNCOUNTED),
    "reference client, two faults": Setup(faults=2, clients=Kind.REFERENCE, max_deliveries=UNCOUNTED),
    "reference client, too large a task": Setup(
        faults=2, masters=ANY_MASTERS, clients=Kind.REFERENCE, too_large=True, max_deliveries=UNCOUNTED
    ),
}
LONG_RUNS: Final = {
    "C masters and ours, two faults": Setup(faults=2, masters=ANY_MASTERS, wire_order=True, c_master=True),
    "workers drain under any master, one fault": Setup(faults=1, masters=ANY_MASTERS, wire_order=True, draining=True),
    "two tasks, two faults": Setup(tasks=2, faults=2, prompt=True),
    "one task, three faults": Setup(faults=3, wire_order=True),
    "workers drain, two faults": Setup(faults=2, wire_order=True, draining=True),
    "tasks are cancelled, two faults": Setup(faults=2, wire_order=True, cancelling=True),
}


def line(name: str, verdict: Verdict) -> str:
    """The run and its size, for a report."""
    return f"model: {name}: {verdict.states:,} states, {verdict.depth} steps deep"
