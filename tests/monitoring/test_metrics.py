"""The metrics of a process as a scrape sees them."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.history import EndState
from herdmaster.monitoring.gauges import GAUGES, Reading
from herdmaster.monitoring.metrics import MAX_CALLS, MAX_FLOWS, MAX_QUEUES, MAX_SCHEDULES, Metrics

END = AttemptEnd("task-1", "shop:area", "default", EndState.DONE, ended=3500, began=3000, due=1000)


def scrape(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample: (name, label values in the order of their names), value."""
    text, _ = metrics.render()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parse_text(text.decode())
        for sample in family.samples
    }


def fill(metrics: Metrics) -> None:
    metrics.attempt_ended(END)
    metrics.attempt_ended(msgspec.structs.replace(END, result=EndState.FAILED))
    metrics.attempt_ended(msgspec.structs.replace(END, call="", result=EndState.EXPIRED, began=None))
    for _ in range(3):
        metrics.count_submissions("default", "accepted")
    metrics.request_ended("multi", 0.004)
    metrics.session_expired()
    metrics.tasks_recovered("worker lost", 2)
    metrics.tick_made("nightly", 0.02)
    metrics.ticks_skipped("nightly", "overlap", 3)
    metrics.schedule_broken("nightly")
    metrics.flow_started("report")
    metrics.flow_ended("report", "failed", 61.0)
    metrics.took_over(0.3)
    metrics.add_source(
        lambda: [Reading(name, 1.0, tuple(f"{label}-x" for label in gauge.labels)) for name, gauge in GAUGES.items()]
    )


def test_attempts_are_counted_and_timed() -> None:
    metrics = Metrics()
    fill(metrics)
    samples = scrape(metrics)

    assert samples["herd_task_runs_total", "shop:area", "done", "default"] == 1
    assert samples["herd_task_runs_total", "raw", "expired", "default"] == 1
    assert samples["herd_task_duration_seconds_sum", "shop:area", "default"] == pytest.approx(1.0)
    assert samples["herd_task_wait_seconds_count", "default"] == 2
    assert samples["herd_task_wait_seconds_sum", "default"] == pytest.approx(4.0)
    assert samples["herd_submissions_total", "default", "accepted"] == 3
    assert samples["herd_recoveries_total", "worker lost"] == 2


def test_names_units_and_types_follow_the_conventions() -> None:
    metrics = Metrics()
    fill(metrics)
    text, content_type = metrics.render("application/openmetrics-text; version=1.0.0")

    # The strict parser, which has no types.
    families = list(parse_open_metrics(text.decode()))  # type: ignore[no-untyped-call]
    assert content_type.startswith("application/openmetrics-text")
    for family in families:
        assert family.name.startswith("herd_")
        assert family.documentation
        assert family.type in {"counter", "gauge", "histogram"}
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
            assert {label for sample in family.samples for label in sample.labels} <= {
                "call",
                "queue",
                "operation",
                "name",
                "le",
            }


def test_a_scrape_asks_for_the_gauges() -> None:
    metrics, busy = Metrics(), [1]
    metrics.add_source(lambda: [Reading("herd_slots_busy", busy[0]), Reading("herd_workers", 2, ("ready",))])
    metrics.add_source(lambda: [Reading("herd_workers", 1, ("draining",))])
    scrape(metrics)
    busy[0] = 5

    samples = scrape(metrics)
    assert samples["herd_slots_busy",] == 5
    assert (samples["herd_workers", "ready"], samples["herd_workers", "draining"]) == (2, 1)


def test_the_number_of_series_is_bounded() -> None:
    metrics = Metrics()
    for number in range(MAX_CALLS + 50):
        metrics.attempt_ended(msgspec.structs.replace(END, call=f"shop:f{number}"))
    samples = scrape(metrics)

    assert samples["herd_task_runs_total", "other", "done", "other"] == 50
    assert len({labels[1] for labels in samples if labels[0] == "herd_task_runs_total"}) == MAX_CALLS + 1


def test_the_times_of_schedules_are_counted_and_the_number_of_schedules_is_bounded() -> None:
    metrics = Metrics()
    fill(metrics)
    for number in range(MAX_SCHEDULES + 5):
        metrics.tick_made(f"s{number}", 0.5)
    samples = scrape(metrics)

    assert samples["herd_schedule_ticks_total", "made", "nightly"] == 1
    assert samples["herd_schedule_ticks_total", "overlap", "nightly"] == 3
    assert samples["herd_schedule_ticks_total", "broken", "nightly"] == 1
    assert samples["herd_schedule_ticks_total", "made", "other"] == 6
    assert samples[("herd_schedule_lateness_seconds_count",)] == MAX_SCHEDULES + 6


def test_flows_are_counted_by_name_and_state_and_the_number_of_names_is_bounded() -> None:
    metrics = Metrics()
    fill(metrics)
    for number in range(MAX_FLOWS + 5):
        metrics.flow_started(f"f{number}")
        metrics.flow_ended(f"f{number}", "done", 0.5)
    samples = scrape(metrics)

    assert samples["herd_flows_started_total", "report"] == 1
    assert samples["herd_flows_ended_total", "report", "failed"] == 1
    assert samples["herd_flows_started_total", "other"] == samples["herd_flows_ended_total", "other", "done"] == 6
    assert samples["herd_flow_duration_seconds_sum", "report"] == 61.0


def test_the_number_of_queues_is_bounded() -> None:
    metrics = Metrics()
    for number in range(MAX_QUEUES):
        metrics.task_submitted(f"q{number}", "accepted")
    for queue in ("more", "and-more", "more"):
        metrics.task_submitted(queue, "accepted")
        metrics.attempt_ended(msgspec.structs.replace(END, queue=queue, began=END.ended - 1))
    metrics.add_source(
        lambda: [
            Reading("herd_slots_wanted", 2, ("more",)),
            Reading("herd_slots_wanted", 3, ("and-more",)),
            Reading("herd_slots_wanted", 4, ("q1",)),
            Reading("herd_queue_oldest_pending_seconds", 9.0, ("more",)),
            Reading("herd_queue_oldest_pending_seconds", 7.0, ("and-more",)),
        ]
    )
    samples = scrape(metrics)

    assert samples["herd_submissions_total", "other", "accepted"] == 3
    assert samples["herd_task_wait_seconds_count", "other"] == 3
    assert (samples["herd_slots_wanted", "other"], samples["herd_slots_wanted", "q1"]) == (5, 4)
    assert samples["herd_queue_oldest_pending_seconds", "other"] == 9
    assert len({labels[1] for labels in samples if labels[0] == "herd_submissions_total"}) == MAX_QUEUES + 1


def test_clocks_that_differ_make_no_negative_durations() -> None:
    assert msgspec.structs.replace(END, due=9999, ended=1).times == (0.0, 0.0)
