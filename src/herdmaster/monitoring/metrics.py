"""Prometheus metrics of a process: of its worker, its master and its session, by Prometheus' naming conventions.

A label never holds the name of a task, worker or host, and there are at most `MAX_CALLS` calls; others are counted as
`other`. So the number of series is bounded.
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
from herdmaster.monitoring.gauges import GAUGES, Reading
from herdmaster.roles.shared.instruments import Instruments

MAX_CALLS: Final = 200
OTHER: Final = "other"

_DURATIONS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
_REQUESTS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Seconds."""

_capital: Final = partial(re.compile(r"(?<=[a-z])(?=[A-Z])").sub)

Source = Callable[[], Iterable[Reading]]


class _Gauges(Collector):
    """Asks the sources at each scrape, so that a value is never older than the scrape."""

    def __init__(self, sources: list[Source]) -> None:
        self._sources = sources

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        for reading in (reading for source in self._sources for reading in source()):
            gauge = GAUGES[reading.name]
            family = families.get(reading.name)
            if family is None:
                family = families[reading.name] = GaugeMetricFamily(reading.name, gauge.help, labels=gauge.labels)
            family.add_metric(reading.labels, reading.value)
        yield from families.values()


class Metrics(Instruments):
    """The metrics of one process. Every method may be called on any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._sources: list[Source] = []
        self._calls: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self._known: set[str] = set()
        self._operations: dict[str, Histogram] = {}
        self._submitted: dict[tuple[str, str], Counter] = {}
        self.registry.register(_Gauges(self._sources))
        counter = partial(Counter, registry=self.registry)
        durations = partial(Histogram, buckets=_DURATIONS, registry=self.registry)
        requests = partial(Histogram, buckets=_REQUESTS, registry=self.registry)
        self._runs = counter("herd_task_runs", "Attempts that ended, by outcome", ["call", "queue", "outcome"])
        self._durations = durations(
            "herd_task_duration_seconds", "How long the code of an attempt ran", ["call", "queue"]
        )
        self._waits = durations(
            "herd_task_wait_seconds", "How long a task that was due waited for its attempt", ["queue"]
        )
        self._submissions = counter("herd_submissions", "Tasks submitted, by what came of it", ["queue", "result"])
        self._requests = requests(
            "herd_zookeeper_request_duration_seconds", "From sending a request to its reply", ["operation"]
        )
        self._expirations = counter("herd_zookeeper_session_expirations", "Sessions that were lost")
        self._recoveries = counter("herd_recoveries", "Tasks taken back from workers that were lost", ["reason"])
        self._takeovers = durations("herd_takeover_duration_seconds", "From becoming primary to the first decision")

    def add_source(self, source: Source) -> None:
        """Add a function that is asked for the gauges at every scrape."""
        self._sources.append(source)

    def attempt_ended(self, end: AttemptEnd, /) -> None:
        runs, durations = self._of_call(end)
        runs.inc()
        times = end.times
        if times is not None:
            waited, ran = times
            durations.observe(ran / 1000)
            self._waits.labels(end.queue).observe(waited / 1000)

    @property
    def count_submissions(self) -> Callable[[str, str], None]:
        return self.task_submitted

    def task_submitted(self, queue: str, result: str, /) -> None:
        found = self._submitted.get((queue, result))
        if found is None:
            found = self._submitted[queue, result] = self._submissions.labels(queue, result)
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

    def took_over(self, seconds: float, /) -> None:
        self._takeovers.observe(seconds)

    def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """Return the text and its content type: OpenMetrics if `accept` asks for it, else Prometheus' own format."""
        encode, content_type = choose_encoder(accept or "")
        return encode(self.registry), content_type

    def _of_call(self, end: AttemptEnd) -> tuple[Counter, Histogram]:
        key = (end.call, end.queue, end.result)
        found = self._calls.get(key)
        if found is None:
            call = self._call_label(end.call)
            found = (
                self._runs.labels(call, end.queue, end.result.value),
                self._durations.labels(call, end.queue),
            )
            if call != OTHER:
                self._calls[key] = found
        return found

    def _call_label(self, call: str) -> str:
        if call not in self._known:
            if len(self._known) >= MAX_CALLS:
                return OTHER
            self._known.add(call)
        return call or "raw"
