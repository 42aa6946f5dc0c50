"""The task that the throughput benchmark runs: nothing, so that only Herdmaster's own cost is measured."""

from __future__ import annotations

from herdmaster import Herd

herd = Herd()


@herd.task
def noop(number: int) -> int:
    return number
