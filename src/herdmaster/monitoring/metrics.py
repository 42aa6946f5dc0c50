"""Prometheus metrics of a process: of its worker, its master and its session, by Prometheus' naming conventions.

A label never holds the name of a task, worker or host. There are at most `MAX_CALLS` pairs of a call and a queue, at
most `MAX_QUEUES` queues, at most `MAX_SCHEDULES` schedules, and at most `MAX_FLOWS` names of flows; others are counted
as `other`. So the number of series is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.errors import BadSignature
from herdmaster.monitoring.gauges import GAUGES, Reading
from herdmaster.roles.shared.instruments import Instruments

MAX_CALLS: Final = 200
MAX_QUEUES: Final = 200
MAX_SCHEDULES: Final = 200
MAX_FLOWS: Final = 200
OTHER: Final = "other"

_DURATIONS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
_REQUESTS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_LATENESS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
"""Seconds."""

_capital: Final = partial(re.compile(r"(?<=[a-z])(?=[A-Z])").sub)

Source = Callable[[], Iterable[Reading]]


class _Names:
    """The labels of names. The first `limit` have their own, all others share one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        if name not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add(name)
        return name


class _Gauges(Collector):
    """Asks the sources at each scrape, so that a value is never older than the scrape."""

    def __init__(self, sources: list[Source], queues: _Names) -> None:
        self._sources = sources
        self._queues = queues

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        for (name, labels), value in self._read().items():
            gauge = GAUGES[name]
            family = families.get(name)
            if family is None:
                family = families[name] = GaugeMetricFamily(name, gauge.help, labels=gauge.labels)
            family.add_metric(labels, value)
        yield from families.values()

    def _read(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Return the values. Of the queues without labels of their own it is the sum, or the longest time."""
        values: dict[tuple[str, tuple[str, ...]], float] = {}
        for reading in (reading for source in self._sources for reading in source()):
            names = zip(GAUGES[reading.name].labels, reading.labels, strict=True)
            key = reading.name, tuple(self._queues.label(value) if name == "queue" else value for name, value in names)
            before = values.get(key, 0.0)
            is_time = reading.name.endswith("_seconds")
            values[key] = max(before, reading.value) if is_time else before + reading.value
        return values


class Metrics(Instruments):
    """The metrics of one process. Every method may be called on any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._sources: list[Source] = []
        self._calls: dict[tuple[str, str, str], tuple[Counter, Histogram, Histogram]] = {}
        self._known: set[tuple[str, str]] = set()
        self._queues = _Names(MAX_QUEUES)
        self._schedules = _Names(MAX_SCHEDULES)
        self._flows = _Names(MAX_FLOWS)
        self._operations: dict[str, Histogram] = {}
        self._submitted: dict[tuple[str, str], Counter] = {}
        self.registry.register(_Gauges(self._sources, self._queues))
        counter = partial(Counter, registry=self.registry)
        durations = partial(Histogram, buckets=_DURATIONS, registry=self.registry)
        lateness = partial(Histogram, buckets=_LATENESS, registry=self.registry)
        requests = partial(Histogram, buckets=_REQUESTS, registry=self.registry)
        self._runs = counter("herd_task_runs", "Attempts that ended, by outcome", ["call", "queue", "outcome"])
        self._durations = durations(
            "herd_task_duration_seconds", "How long the code of an attempt ran", ["call", "queue"]
        )
        self._waits = durations(
            "herd_task_wait_seconds", "How long a task that was due waited for its attempt", ["queue"]
        )
        self._bad_signatures = counter(
            "herd_bad_signatures", "Tasks refused because their signature was missing or wrong", ["queue"]
        )
        self._submissions = counter("herd_submissions", "Tasks submitted, by what came of it", ["queue", "result"])
        self._requests = requests(
            "herd_zookeeper_request_duration_seconds", "From sending a request to its reply", ["operation"]
        )
        self._expirations = counter("herd_zookeeper_session_expirations", "Sessions that were lost")
        self._recoveries = counter("herd_recoveries", "Tasks taken back from workers that were lost", ["reason"])
        self._ticks = counter("herd_schedule_ticks", "Times of schedules, by what came of them", ["schedule", "result"])
        self._lateness = lateness(
            "herd_schedule_lateness_seconds", "From when the task of a schedule was to be made to when it was"
        )
        self._flows_started = counter("herd_flows_started", "Flows that a primary has begun", ["name"])
        self._flows_ended = counter("herd_flows_ended", "Flows that have ended, by state", ["name", "state"])
        self._flow_durations = durations("herd_flow_duration_seconds", "From making a flow to its end", ["name"])
        self._takeovers = durations("herd_takeover_duration_seconds", "From becoming primary to the first decision")

    def add_source(self, source: Source) -> None:
        """Add a function that is asked for the gauges at every scrape."""
        self._sources.append(source)

    def attempt_ended(self, end: AttemptEnd, /) -> None:
        runs, durations, waits = self._of_call(end)
        runs.inc()
        times = end.times
        if times is not None:
            waited, ran = times
            durations.observe(ran / 1000)
            waits.observe(waited / 1000)
        elif end.error is not None and end.error.type == BadSignature.__name__:
            self._bad_signatures.labels(end.queue).inc()

    @property
    def count_submissions(self) -> Callable[[str, str], None]:
        return self.task_submitted

    def task_submitted(self, queue: str, result: str, /) -> None:
        found = self._submitted.get((queue, result))
        if found is None:
            label = self._queues.label(queue)
            found = self._submissions.labels(label, result)
            if label == queue:
                self._submitted[queue, result] = found
        found.inc()

    @property
    def measure_requests(self) -> Callable[[str, float], None]:
        return self.request_ended

    def request_ended(self, operation: str, seconds: float, /) -> None:
        found = self._operations.get(operation)
        if found is None:
            name = _capital("_", operation).lower()
            found = self._operations[operation] = self._requests.labels(name)
        found.observe(seconds)

    def session_expired(self) -> None:
        self._expirations.inc()

    def tasks_recovered(self, reason: str, count: int = 1, /) -> None:
        self._recoveries.labels(reason).inc(count)

    def tick_made(self, schedule: str, late: float, /) -> None:
        self._ticks.labels(self._schedules.label(schedule), "made").inc()
        self._lateness.observe(late)

    def ticks_skipped(self, schedule: str, reason: str, count: int, /) -> None:
        self._ticks.labels(self._schedules.label(schedule), reason).inc(count)

    def schedule_broken(self, schedule: str, /) -> None:
        self._ticks.labels(self._schedules.label(schedule), "broken").inc()

    def flow_started(self, name: str, /) -> None:
        self._flows_started.labels(self._flows.label(name)).inc()

    def flow_ended(self, name: str, state: str, seconds: float, /) -> None:
        label = self._flows.label(name)
        self._flows_ended.labels(label, state).inc()
        self._flow_durations.labels(label).observe(seconds)

    def took_over(self, seconds: float, /) -> None:
        self._takeovers.observe(seconds)

    def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """Return the text and its content type: OpenMetrics if `accept` asks for it, else Prometheus' own format."""
        encode, content_type = choose_encoder(accept or "")
        return encode(self.registry), content_type

    def _of_call(self, end: AttemptEnd) -> tuple[Counter, Histogram, Histogram]:
        key = (end.call, end.queue, end.result)
        found = self._calls.get(key)
        if found is None:
            is_known = self._is_known((end.call, end.queue))
            call, queue = (end.call or "raw", end.queue) if is_known else (OTHER, OTHER)
            runs, durations = self._runs.labels(call, queue, end.result.value), self._durations.labels(call, queue)
            found = runs, durations, self._waits.labels(self._queues.label(end.queue))
            if is_known:
                self._calls[key] = found
        return found

    def _is_known(self, pair: tuple[str, str]) -> bool:
        """Return whether a call and its queue have labels of their own."""
        if pair not in self._known:
            if len(self._known) >= MAX_CALLS:
                return False
            self._known.add(pair)
        return True
