"""The names, types and labels of the metrics: dashboards and alerts of users depend on them."""

from __future__ import annotations

import pytest
from prometheus_client import Counter, Histogram

from herdmaster.monitoring.gauges import GAUGES
from herdmaster.monitoring.metrics import Metrics

SERIES = (
    ("herd_recoveries_total", Counter, ("reason",)),
    ("herd_takeover_duration_seconds", Histogram, ()),
    ("herd_schedule_ticks_total", Counter, ("schedule", "result")),
    ("herd_schedule_lateness_seconds", Histogram, ()),
    ("herd_flows_started_total", Counter, ("name",)),
    ("herd_flows_ended_total", Counter, ("name", "state")),
    ("herd_flow_duration_seconds", Histogram, ("name",)),
    ("herd_task_runs_total", Counter, ("call", "queue", "outcome")),
    ("herd_task_duration_seconds", Histogram, ("call", "queue")),
    ("herd_task_wait_seconds", Histogram, ("queue",)),
    ("herd_bad_signatures_total", Counter, ("queue",)),
    ("herd_submissions_total", Counter, ("queue", "result")),
    ("herd_zookeeper_request_duration_seconds", Histogram, ("operation",)),
    ("herd_zookeeper_session_expirations_total", Counter, ()),
)
READINGS = (
    ("herd_primary", ()),
    ("herd_tasks", ("queue", "state")),
    ("herd_queue_oldest_pending_seconds", ("queue",)),
    ("herd_workers", ("state",)),
    ("herd_slots", ("state",)),
    ("herd_slots_wanted", ("queue",)),
    ("herd_flows", ()),
    ("herd_slots_busy", ()),
    ("herd_event_loop_lag_seconds", ()),
)


@pytest.mark.parametrize(("name", "kind", "labels"), SERIES)
def test_counters_and_histograms_keep_their_names_and_labels(
    name: str, kind: type[Counter | Histogram], labels: tuple[str, ...]
) -> None:
    metrics = Metrics()
    found = metrics.registry._names_to_collectors[name.removesuffix("_total")]

    assert type(found) is kind
    assert found._labelnames == labels
    assert isinstance(found, Counter) is name.endswith("_total")


@pytest.mark.parametrize(("name", "labels"), READINGS)
def test_gauges_keep_their_names_and_labels(name: str, labels: tuple[str, ...]) -> None:
    assert GAUGES[name].labels == labels
