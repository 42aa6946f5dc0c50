"""Reads the history: what has ended in a time, how long it took, and what failed."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from herdmaster.core import layout
from herdmaster.core.history import (
    Batch,
    CallCounts,
    EndState,
    FailureRecord,
    Histogram,
    parse_batch_name,
    read_batch,
)
from herdmaster.inspection.task_seen import matches_name
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

_AT_ONCE: Final = 12
"""Batches of one reply: less than 1 MiB, or 12 MiB if other programs put large znodes there."""
_MINUTE_MS: Final = 60_000
_BAD: Final = (EndState.FAILED, EndState.BURIED, EndState.REFUSED, EndState.EXPIRED)


class By(enum.StrEnum):
    """What statistics are grouped by."""

    CALL = "call"
    QUEUE = "queue"


class Quantiles(msgspec.Struct, frozen=True):
    """Seconds; None where nothing was run."""

    p50: float | None
    p95: float | None
    p99: float | None


class Statistics(msgspec.Struct, frozen=True):
    """The numbers of one call or queue. `tasks_per_minute` counts tasks that ended and no attempts that are retried;
    `failure_rate` is the share of them that ended neither as done nor as cancelled."""

    group: str
    results: dict[EndState, int]
    tasks_per_minute: float
    failure_rate: float | None
    waiting: Quantiles
    running: Quantiles


class BacklogSample(msgspec.Struct, frozen=True):
    """The waiting tasks of each queue at a time (unix milliseconds), as a primary counted them."""

    time: int
    queues: dict[str, int]


class History(msgspec.Struct, frozen=True):
    """What ended from `begins` to `ends` (unix milliseconds), as far as processes have written it. `unrecorded` counts
    failures of which no record was kept, `unreadable` batches that this version cannot read."""

    begins: int
    ends: int
    counts: tuple[CallCounts, ...]
    failures: tuple[FailureRecord, ...]
    unrecorded: int
    backlog: tuple[BacklogSample, ...]
    unreadable: int = 0

    def statistics(self, by: By | Literal["call", "queue"] = By.CALL) -> list[Statistics]:
        """Return the numbers of each call or queue, the most frequent first."""
        groups: dict[str, list[CallCounts]] = {}
        for each in self.counts:
            groups.setdefault(each.call if by == By.CALL else each.queue, []).append(each)
        found = [self._statistics(group, counts) for group, counts in groups.items()]
        return sorted(found, key=lambda each: (-each.tasks_per_minute, each.group))

    def total(self) -> Statistics:
        """Return the numbers of all calls together."""
        return self._statistics("all", self.counts)

    def _statistics(self, group: str, counts: Iterable[CallCounts]) -> Statistics:
        together = CallCounts("", "")
        for each in counts:
            together = together.plus(each)
        results = together.results
        ended = together.total - results.get(EndState.RETRIED, 0)
        bad = sum(results.get(each, 0) for each in _BAD)
        return Statistics(
            group,
            results,
            ended * _MINUTE_MS / max(1, self.ends - self.begins),
            bad / ended if ended else None,
            _quantiles(together.waiting),
            _quantiles(together.running),
        )


def _quantiles(histogram: Histogram) -> Quantiles:
    return Quantiles(histogram.quantile(0.5), histogram.quantile(0.95), histogram.quantile(0.99))


class HistoryFilter(msgspec.Struct, frozen=True):
    """What of the history is wanted. `call` and `error` match a whole name or its last part after `:` or `.`. With
    `schedule` or `flow` only failures are left out that are not of that schedule or flow."""

    call: str | None = None
    queue: str | None = None
    error: str | None = None
    schedule: str | None = None
    flow: str | None = None

    def takes_counts(self, counts: CallCounts) -> bool:
        return self._takes(counts.call, counts.queue)

    def takes_failure(self, failure: FailureRecord) -> bool:
        is_wanted = self._takes(failure.call, failure.queue) and matches_name(self.error, failure.error)
        return is_wanted and self.schedule in {None, failure.schedule} and self.flow in {None, failure.flow}

    def _takes(self, call: str, queue: str) -> bool:
        return matches_name(self.call, call) and self.queue in {None, queue}


async def read_history(client: Client, begins_ms: int, ends_ms: int, only: HistoryFilter | None = None) -> History:
    """Read the batches that ended between two times, by the servers' clock.

    A namespace whose masters do not write a history yet has an empty one. Raises SessionExpired, NoAuth.
    """
    only = only or HistoryFilter()
    await client.sync()
    batches, unreadable = await read_batches(client, begins_ms, ends_ms)
    # A system younger than the range has not had all of it to end tasks in.
    begins = max(begins_ms, min((each.begins for each in batches), default=begins_ms))
    return History(
        begins,
        ends_ms,
        tuple(each for batch in batches for each in batch.counts if only.takes_counts(each)),
        tuple(
            each
            for batch in batches
            for each in batch.failures
            if begins_ms <= each.ended <= ends_ms and only.takes_failure(each)
        ),
        sum(batch.unrecorded for batch in batches),
        tuple(BacklogSample(batch.ends, batch.backlog) for batch in batches if batch.backlog is not None),
        unreadable,
    )


async def read_newest(client: Client, before_ms: int) -> int:
    """Return when the newest batch before this time was written, in unix milliseconds of the servers' clock; 0 if there
    is none. Raises as `read_history`."""
    await client.sync()
    try:
        names = await client.children(layout.HISTORY)
    except errors.NoNode:
        return 0
    return max((time for name in names if (time := parse_batch_name(name) or 0) < before_ms), default=0)


async def read_batches(client: Client, begins_ms: int, ends_ms: int) -> tuple[list[Batch], int]:
    """Return the batches that ended between two times, oldest first, and how many cannot be read. Raises as
    `read_history`."""
    try:
        found = await client.children(layout.HISTORY)
    except errors.NoNode:
        return [], 0
    times = ((name, parse_batch_name(name)) for name in found)
    names = sorted(name for name, time in times if time is not None and begins_ms <= time <= ends_ms)
    batches: list[Batch] = []
    unreadable = 0
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        for name, reply in zip(some, await client.multi_read(map(layout.history_path, some)), strict=True):
            if isinstance(reply, errors.NoNode):
                continue  # swept, or merged with others, since
            batch = None if isinstance(reply, errors.ServerError) else read_batch(name, reply[0])
            if batch is None:
                unreadable += 1
            else:
                batches.append(batch)
    return batches, unreadable
