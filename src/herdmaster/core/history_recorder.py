"""What has ended in a process since its last batch of the history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import msgspec

from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.history import (
    FAILURES,
    MAX_CALLS,
    MAX_FAILURES,
    MAX_MESSAGE,
    OTHER,
    Batch,
    CallCounts,
    EndState,
    FailureRecord,
    Histogram,
    bucket_of,
)

_OTHER_KEY = (OTHER, OTHER)


class _Tally:
    """The numbers of one call in one queue."""

    __slots__ = ("results", "running", "waiting")

    def __init__(self) -> None:
        self.results: Counter[EndState] = Counter()
        self.waiting: Counter[int] = Counter()
        self.running: Counter[int] = Counter()


class Recorder:
    """Counts what ends and keeps the records of failures, until a batch takes them. Its size is bounded: by
    `MAX_CALLS` and `MAX_FAILURES`. All times are unix milliseconds."""

    def __init__(self, writer: str, host: str, now_ms: int, *, pid: int | None = None) -> None:
        self.writer = writer
        """Who writes the batches: a worker has another name in each session."""
        self._host = host
        self._pid = pid
        self._begins = now_ms
        self._tallies: dict[tuple[str, str], _Tally] = {}
        self._failures: list[FailureRecord] = []
        self._unrecorded = 0

    @property
    def is_empty(self) -> bool:
        return not self._tallies

    def count(self, call: str, queue: str, result: EndState, times: tuple[float, float] | None = None) -> None:
        """Count one end. `times` are how long the task waited and how long its code ran, in milliseconds, if it ran."""
        tally = self._tallies.get((call, queue)) or self._new_tally(call, queue)
        tally.results[result] += 1
        if times is not None:
            waiting, running = times
            tally.waiting[bucket_of(waiting)] += 1
            tally.running[bucket_of(running)] += 1

    def fail(self, failure: FailureRecord, times: tuple[float, float] | None = None) -> None:
        """Count a failure and keep its record, with its message cut and this process's host and id."""
        assert failure.result in FAILURES
        self.count(failure.call, failure.queue, failure.result, times)
        if len(self._failures) >= MAX_FAILURES:
            self._unrecorded += 1
            return
        message = failure.message
        if len(message) > MAX_MESSAGE:
            message = f"{message[: MAX_MESSAGE - 3]}..."
        self._failures.append(msgspec.structs.replace(failure, message=message, host=self._host, pid=self._pid))

    def attempt_ended(self, end: AttemptEnd) -> None:
        """Count what a role reports, with a record if it is a failure."""
        failure = end.failure()
        if failure is None:
            self.count(end.call, end.queue, end.result, end.times)
        else:
            self.fail(failure, end.times)

    def take(self, now_ms: int, backlog: Mapping[str, int] | None = None) -> Batch:
        """Return the batch of all that has ended since the last one, and forget it."""
        batch = Batch(
            1,
            self._begins,
            max(now_ms, self._begins),
            self.writer,
            tuple(_counts(key, tally) for key, tally in self._tallies.items()),
            tuple(self._failures),
            self._unrecorded,
            None if backlog is None else dict(backlog),
            self._host if self._pid is not None else None,
            self._pid,
        )
        self._begins = batch.ends
        self._tallies, self._failures, self._unrecorded = {}, [], 0
        return batch

    def _new_tally(self, call: str, queue: str) -> _Tally:
        key = (call, queue) if len(self._tallies) < MAX_CALLS else _OTHER_KEY
        return self._tallies.setdefault(key, _Tally())


def _counts(key: tuple[str, str], tally: _Tally) -> CallCounts:
    return CallCounts(*key, dict(tally.results), Histogram(dict(tally.waiting)), Histogram(dict(tally.running)))
