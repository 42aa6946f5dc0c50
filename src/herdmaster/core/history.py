"""A batch of the history: what stands in `/history/MILLISECONDS-ID`.

A process writes what ended in it since its last batch: counts and histograms for each call and queue, and a record for
each failure. The history is a log and no promise. It is written beside the transactions of the tasks, so a process that
dies takes its last seconds along. Batches that grow old are merged; a merged batch has no records.
"""

from __future__ import annotations

import enum
import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from herdmaster.core.bounds import MAX_MS
from herdmaster.core.values import UNREADABLE

MAX_BATCH: Final = 64 * 1024
"""Bytes of a batch."""
MAX_FAILURES: Final = 100
"""Records of a batch; further failures are only counted."""
MAX_CALLS: Final = 200
"""Calls and queues that a batch counts one by one; the rest is counted as `OTHER`."""
MAX_MESSAGE: Final = 300
"""Characters of an error's message in a record."""
OTHER: Final = "other"

_STEPS: Final = 4
"""Buckets of a histogram for each doubling of the time, so that a quantile is off by at most 9%."""

_batch_name = re.compile(r"([0-9]{13})-([0-9a-z]{1,32})").fullmatch


class EndState(enum.StrEnum):
    """How an attempt or a task ended. Each end is counted once: a task in `/dead` as buried and not as failed.
    `REFUSED` is a task whose code could not be run at all."""

    DONE = "done"
    FAILED = "failed"
    RETRIED = "retried"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    BURIED = "buried"
    REFUSED = "refused"


FAILURES: Final = frozenset({EndState.FAILED, EndState.RETRIED, EndState.BURIED, EndState.REFUSED, EndState.EXPIRED})
"""The results that leave a record."""


_NUMBER: Final = msgspec.Meta(ge=0, le=2**50)
"""A count. Bounded, as the times are, so that nothing in the folder breaks a program that sums or merges it."""
_TIME: Final = msgspec.Meta(ge=0, le=MAX_MS)
_BUCKET: Final = msgspec.Meta(ge=0, le=200)


class Histogram(msgspec.Struct, frozen=True, array_like=True):
    """Durations by bucket. Bucket 0 is less than 1 ms; bucket N ends at 2 ** (N / 4) ms."""

    buckets: dict[Annotated[int, _BUCKET], Annotated[int, _NUMBER]] = {}

    @property
    def total(self) -> int:
        """The number of durations."""
        return sum(self.buckets.values())

    def quantile(self, share: float) -> float | None:
        """Return the seconds that `share` (0 to 1) of the durations do not exceed; None if there are none."""
        rest = share * self.total
        for bucket in sorted(self.buckets):
            rest -= self.buckets[bucket]
            if rest <= 0:
                return _middle_ms(bucket) / 1000
        return None

    def plus(self, other: Histogram) -> Histogram:
        """Add the numbers of `other`."""
        return Histogram(dict(Counter(self.buckets) + Counter(other.buckets)))


def bucket_of(milliseconds: float) -> int:
    return 0 if milliseconds < 1 else 1 + math.floor(_STEPS * math.log2(min(milliseconds, MAX_MS)))


def _middle_ms(bucket: int) -> float:
    return 2.0 ** ((bucket - 0.5) / _STEPS) if bucket else 0.5


class CallCounts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ended of one call in one queue. `call` is empty for raw tasks. `waiting` is from when a task was due to the
    begin of its attempt, `running` is the attempt."""

    call: str
    queue: str
    results: dict[EndState, Annotated[int, _NUMBER]] = {}
    waiting: Histogram = Histogram()
    running: Histogram = Histogram()

    @property
    def total(self) -> int:
        """The number of ends."""
        return sum(self.results.values())

    def plus(self, other: CallCounts) -> CallCounts:
        """Add the numbers of `other`, under the call and queue of this one."""
        results = dict(Counter(self.results) + Counter(other.results))
        waiting, running = self.waiting.plus(other.waiting), self.running.plus(other.running)
        return CallCounts(self.call, self.queue, results, waiting, running)


class FailureRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One failure. `began` and `ended` are unix milliseconds; `began` is None if the code was not run. `schedule` made
    the task; `flow` and `step` are set for the step of a flow. Raises ValueError for times that no batch can have."""

    task: str
    call: str
    queue: str
    result: EndState
    error: str
    message: str
    ended: int
    began: int | None = None
    attempt: int = 1
    worker: str | None = None
    host: str | None = None
    pid: int | None = None
    schedule: str | None = None
    flow: str | None = None
    step: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.ended <= MAX_MS or not 0 <= (self.began or 0) <= MAX_MS:
            raise ValueError(f"a time that is out of range: {self.began} to {self.ended}")


class Batch(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ended from `begins` to `ends` (unix milliseconds), as the process `pid` of `host` saw it. `unrecorded`
    counts failures without a record. `backlog` is the number of waiting tasks by queue at the end, which only a primary
    knows.

    Times are by the clock of the process. The time in the name of a batch is when it ended by the servers' clock.
    """

    herd: Annotated[int, msgspec.Meta(ge=1, le=1)]
    begins: Annotated[int, _TIME]
    ends: Annotated[int, _TIME]
    writer: str | None = None
    counts: tuple[CallCounts, ...] = ()
    failures: tuple[FailureRecord, ...] = ()
    unrecorded: Annotated[int, _NUMBER] = 0
    backlog: dict[str, Annotated[int, _NUMBER]] | None = None
    host: str | None = None
    pid: int | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Batch)


def batch_name(ends_ms: int, identity: str) -> str:
    return f"{ends_ms:013d}-{identity}"


def parse_batch_name(name: str) -> int | None:
    """Return the milliseconds of a batch's name, None for any other name."""
    matched = _batch_name(name)
    return int(matched[1]) if matched else None


def encode_batch(batch: Batch) -> bytes:
    """Return at most `MAX_BATCH` bytes: records go first, then the rarest calls are counted as `OTHER`."""
    calls = MAX_CALLS
    batch = _with_failures(_with_calls(batch, calls), MAX_FAILURES)
    while len(data := _encoder.encode(batch)) > MAX_BATCH:
        if batch.failures:
            batch = _with_failures(batch, len(batch.failures) // 2)
        elif batch.backlog and len(batch.backlog) > MAX_CALLS:
            batch = msgspec.structs.replace(batch, backlog=None)
        else:
            calls //= 2
            batch = _with_calls(batch, calls)
    return data


def _with_failures(batch: Batch, limit: int) -> Batch:
    dropped = max(0, len(batch.failures) - limit)
    unrecorded = batch.unrecorded + dropped
    return msgspec.structs.replace(batch, failures=batch.failures[:limit], unrecorded=unrecorded) if dropped else batch


def _with_calls(batch: Batch, limit: int) -> Batch:
    if len(batch.counts) <= limit:
        return batch
    by_total = sorted(batch.counts, key=lambda each: each.total, reverse=True)
    rest = (msgspec.structs.replace(each, call=OTHER, queue=OTHER) for each in by_total[limit - 1 :])
    return msgspec.structs.replace(batch, counts=sum_counts([*by_total[: limit - 1], *rest]))


def decode_batch(data: bytes | None) -> Batch | None:
    """Return None for data that is no batch, such as one of a later version."""
    if data is None or len(data) > MAX_BATCH:
        return None
    try:
        return _decoder.decode(data)
    except UNREADABLE:
        return None


def read_batch(name: str, data: bytes | None) -> Batch | None:
    """As `decode_batch`, with all times by the servers' clock, as the name of the batch tells it."""
    batch, ends = decode_batch(data), parse_batch_name(name)
    if batch is None or ends is None or ends == batch.ends:
        return batch
    return _shifted(batch, ends - batch.ends)


def _shifted(batch: Batch, milliseconds: int) -> Batch:
    def shift(time: int) -> int:
        return min(max(0, time + milliseconds), MAX_MS)

    return msgspec.structs.replace(
        batch,
        begins=shift(batch.begins),
        ends=shift(batch.ends),
        failures=tuple(
            msgspec.structs.replace(
                each, ended=shift(each.ended), began=None if each.began is None else shift(each.began)
            )
            for each in batch.failures
        ),
    )


def sum_counts(counts: Iterable[CallCounts]) -> tuple[CallCounts, ...]:
    """Return the sum for each call and queue."""
    sums: dict[tuple[str, str], CallCounts] = {}
    for each in counts:
        key = (each.call, each.queue)
        sums[key] = sums[key].plus(each) if key in sums else each
    return tuple(sums.values())


def merge_batches(batches: Iterable[Batch]) -> Batch:
    """Return one batch with the numbers of all and the records of none; the last backlog stays. Raises `ValueError` if
    there are none."""
    batches = sorted(batches, key=lambda each: each.ends)
    if not batches:
        raise ValueError("there are no batches to merge")
    return Batch(
        1,
        min(each.begins for each in batches),
        batches[-1].ends,
        counts=sum_counts(each for batch in batches for each in batch.counts),
        unrecorded=sum(batch.unrecorded + len(batch.failures) for batch in batches),
        backlog=next((each.backlog for each in reversed(batches) if each.backlog is not None), None),
    )
