"""Spans and metrics of tasks, with the SDK of OpenTelemetry."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, format_span_id

from herdmaster import Future, Herd, TaskDied, TimeLimitExceeded
from herdmaster.core.payload import Call, decode_call, encode_arguments, encode_call, for_replay, with_attempt
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.spans import Spans
from herdmaster.testing.running import RunningRoles, make_workers
from tests import traced_app
from tests.traced_app import herd

pytestmark = pytest.mark.long

POOLS = {"thread": traced_app.on_thread, "loop": traced_app.in_loop, "process": traced_app.in_process}
SUBMITTING = {
    "thread": traced_app.submits_on_thread,
    "loop": traced_app.submits_in_loop,
    "process": traced_app.submits_in_process,
}


class Traced:
    """A namespace with a master and a worker, whose spans are collected in this process and in those of the pool."""

    def __init__(self, hosts: str, file: Path, sampler: Sampler) -> None:
        self.hosts = hosts
        self._exporter = InMemorySpanExporter()
        self._file = file
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(sampler)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._meters = MeterProvider([self._reader])

    def find_spans(self, *, are_children: bool = False) -> Spans:
        return Spans(self.tracers, self._meters, are_children=are_children)

    def named(self, start: str, task: str | None = None, count: int = 1) -> list[ReadableSpan]:
        """Return the spans with such a name in this process, of one task or all, once there are so many."""
        limit = time.monotonic() + 20
        while True:
            found = [
                span
                for span in self._exporter.get_finished_spans()
                if span.name.startswith(start) and task in {None, of(span).get("messaging.message.id")}
            ]
            if len(found) >= count:
                return sorted(found, key=lambda span: span.start_time or 0)
            assert time.monotonic() < limit, [span.name for span in self._exporter.get_finished_spans()]
            time.sleep(0.01)

    def written(self, task: str) -> list[dict[str, Any]]:
        """Return the spans of a task that the processes of the pool have written."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        spans: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [span for span in spans if span["attributes"].get("messaging.message.id") == task]

    def measured(self, name: str) -> dict[tuple[object, ...], Any]:
        """Return the data points of a metric by the values of their attributes, in the order of their names."""
        data = self._reader.get_metrics_data()
        assert data is not None
        return {
            tuple(value for _, value in sorted((point.attributes or {}).items())): point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        }


def of(span: ReadableSpan) -> Mapping[str, object]:
    return span.attributes or {}


def ids(context: SpanContext | None) -> tuple[int, int]:
    assert context is not None
    return context.trace_id, context.span_id


def origins(*spans: ReadableSpan) -> list[tuple[int, int]]:
    """Return the ids of all spans that these are linked to."""
    return [ids(link.context) for span in spans for link in span.links]


def id_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return format_span_id(span.context.span_id)


@pytest.fixture
def trace(namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Traced]]:
    """`trace(sampler)`: the worker of `traced_app` begins, and its Herd is directed to it."""
    started: list[RunningRoles] = []
    directed = herd.directed_to(namespace)

    def begin(sampler: Sampler = ALWAYS_ON, *, parent: bool = False) -> Traced:
        traced = Traced(namespace, tmp_path / "spans", sampler)
        monkeypatch.setenv("SPANS", str(tmp_path / "spans"))
        monkeypatch.setattr("herdmaster.roles.worker.worker.find_spans", traced.find_spans)
        spans = traced.find_spans()
        monkeypatch.setattr(herd._core, "spans", spans)
        monkeypatch.setattr(herd._core, "begin_send", spans.begin_send)
        monkeypatch.setattr(herd._core.registry, "trace_parent", parent)
        directed.__enter__()
        workers = make_workers(herd, namespace, 1, 4, 2.0)
        started.append(RunningRoles(*workers, Master(namespace, MasterSettings(2.0))))
        started[0].__enter__()
        return traced

    yield begin
    directed.__exit__(None, None, None)
    for roles in started:
        roles.__exit__(None, None, None)


@pytest.mark.parametrize("pool", ["thread", "loop"])
def test_an_attempt_runs_in_a_span_that_is_linked_to_the_one_that_sent_it(
    trace: Callable[..., Traced], pool: str
) -> None:
    traced = trace()
    with traced.tracers.get_tracer("test").start_as_current_span("request") as request:
        future: Future[str] = POOLS[pool].options(queue="default").submit()
    inside = future.result(20)

    (sent,) = traced.named("send default", future.name)
    assert sent.kind is SpanKind.PRODUCER
    assert sent.parent == request.get_span_context()
    assert of(sent) == {
        "messaging.system": "herdmaster",
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.name": "default",
        "messaging.message.id": future.name,
    }
    expected = {
        "messaging.system": "herdmaster",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "default",
        "messaging.message.id": future.name,
        "herdmaster.attempt": 1,
        "herdmaster.call": POOLS[pool].call,
    }
    (ran,) = traced.named("process default", future.name)
    assert (ran.kind, ran.parent, of(ran), id_of(ran)) == (SpanKind.CONSUMER, None, expected, inside)
    assert origins(ran) == [ids(sent.context)]
    assert ran.context is not None
    assert ran.context.trace_id != request.get_span_context().trace_id


def test_a_process_of_the_pool_makes_its_own_spans_and_writes_them_before_it_ends(
    trace: Callable[..., Traced],
) -> None:
    traced = trace()
    task = traced_app.in_process.options(max_tasks_per_process=2, max_attempts=2, backoff=0)
    future = task.submit(1)
    inside = future.result(20)
    (sent,) = traced.named("send", future.name)

    limit = time.monotonic() + 20
    while len(traced.written(future.name)) < 2:
        assert time.monotonic() < limit, "the process has not written its spans"
        time.sleep(0.01)
    first, second = traced.written(future.name)
    assert (first["attributes"]["herdmaster.attempt"], second["attributes"]["herdmaster.attempt"]) == (1, 2)
    assert (first["attributes"]["error.type"], "error.type" in second["attributes"]) == ("KeyError", False)
    assert second["context"]["span_id"] == f"0x{inside}"
    assert (second["kind"], second["parent_id"]) == ("SpanKind.CONSUMER", None)
    for span in (first, second):
        assert [link["context"]["span_id"] for link in span["links"]] == [f"0x{id_of(sent)}"]


@pytest.mark.parametrize("pool", ["thread", "loop"])
def test_each_attempt_has_a_span_and_all_are_linked_to_one_origin(trace: Callable[..., Traced], pool: str) -> None:
    traced = trace()
    future = POOLS[pool].options(max_attempts=3, backoff=0).submit(2)
    future.result(20)

    (sent,) = traced.named("send", future.name)
    spans = traced.named("process", future.name, 3)
    assert [of(span)["herdmaster.attempt"] for span in spans] == [1, 2, 3]
    assert [of(span).get("error.type") for span in spans] == ["KeyError", "KeyError", None]
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR, StatusCode.ERROR, StatusCode.UNSET]
    assert [len(span.events) for span in spans] == [1, 1, 0]
    assert set(origins(*spans)) == {ids(sent.context)}


@pytest.mark.parametrize("pool", ["thread", "loop"])
def test_a_task_that_submits_continues_its_trace(trace: Callable[..., Traced], pool: str) -> None:
    traced = trace()
    outer, inner = SUBMITTING[pool].submit().result(20)

    (sent,) = traced.named("send", inner)
    assert sent.parent is not None
    assert format_span_id(sent.parent.span_id) == outer


def test_a_task_that_submits_in_a_process_continues_its_trace(trace: Callable[..., Traced]) -> None:
    traced = trace()
    outer, inner = SUBMITTING["process"].options(max_tasks_per_process=1).submit().result(20)

    limit = time.monotonic() + 20
    while not (found := [span for span in traced.written(inner) if span["name"].startswith("send")]):
        assert time.monotonic() < limit, "the process has not written its spans"
        time.sleep(0.01)
    assert [span["parent_id"] for span in found] == [f"0x{outer}"]


def test_a_batch_has_a_create_span_for_each_task_and_one_send_span(trace: Callable[..., Traced]) -> None:
    traced = trace()
    futures = traced_app.on_thread.submit_many([(0,)] * 3)
    for future in futures:
        future.result(20)

    created = [traced.named("create default", future.name)[0] for future in futures]
    (sent,) = traced.named("send default")
    assert (sent.kind, of(sent)["messaging.batch.message_count"]) == (SpanKind.CLIENT, 3)
    assert "messaging.message.id" not in of(sent)
    assert origins(sent) == [ids(span.context) for span in created]
    assert {(span.kind, of(span)["messaging.operation.type"]) for span in created} == {(SpanKind.PRODUCER, "create")}
    for future, span in zip(futures, created, strict=True):
        (ran,) = traced.named("process", future.name)
        assert origins(ran) == [ids(span.context)]


def test_a_chunk_is_one_task(trace: Callable[..., Traced]) -> None:
    traced = trace()
    assert len(set(traced_app.on_thread.map([0, 0, 0], chunksize=3))) == 1

    (sent,) = traced.named("send")
    (ran,) = traced.named("process")
    assert origins(ran) == [ids(sent.context)]


def test_the_origin_is_the_parent_where_the_app_says_so(trace: Callable[..., Traced]) -> None:
    traced = trace(parent=True)
    future = traced_app.on_thread.submit()
    future.result(20)

    (sent,) = traced.named("send", future.name)
    (ran,) = traced.named("process", future.name)
    assert (ids(ran.parent), origins(ran)) == (ids(sent.context), [])


def test_one_trace_has_a_whole_flow(trace: Callable[..., Traced]) -> None:
    traced = trace()
    with herd.flow("report") as flow:
        first = traced_app.on_thread.step()
        traced_app.in_loop.using(after=first).step()
    run = flow.submit()
    run.result(20)

    (sent,) = traced.named("send flow report")
    ran = traced.named("process", count=2)
    assert [ids(span.parent) for span in ran] == [ids(sent.context)] * 2
    assert origins(*ran) == []
    assert [(of(span)["herdmaster.flow.id"], of(span)["herdmaster.flow.step"]) for span in ran] == [
        (run.name, "0"),
        (run.name, "1"),
    ]


def test_raw_tasks_have_spans_without_an_origin(trace: Callable[..., Traced]) -> None:
    traced = trace()
    good, bad = herd.submit_raw(b"good"), herd.submit_raw(b"bad")
    good.result(20)
    with pytest.raises(LookupError):
        bad.result(20)

    assert [of(traced.named("send default", each.name)[0])["messaging.message.id"] for each in (good, bad)]
    spans = [traced.named("process default", each.name)[0] for each in (good, bad)]
    assert [of(span).get("error.type") for span in spans] == [None, "LookupError"]
    assert [list(span.links) for span in spans] == [[], []]


def test_an_attempt_whose_process_is_gone_has_a_span_all_the_same(trace: Callable[..., Traced]) -> None:
    traced = trace()
    died, hung = traced_app.dies.submit(), traced_app.hangs.submit()
    with pytest.raises(TaskDied):
        died.result(20)
    with pytest.raises(TimeLimitExceeded):
        hung.result(20)

    for future, kind in ((died, "TaskDied"), (hung, "TimeLimitExceeded")):
        (sent,) = traced.named("send", future.name)
        (span,) = traced.named("process", future.name)
        assert of(span)["error.type"] == kind
        assert origins(span) == [ids(sent.context)]
    (span,) = traced.named("process", hung.name)
    assert (span.end_time or 0) - (span.start_time or 0) >= 200_000_000
    assert traced.written(died.name) == traced.written(hung.name) == []


def test_what_is_not_sampled_says_so_to_the_worker(trace: Callable[..., Traced]) -> None:
    traced = trace(ALWAYS_OFF)
    order = traced_app.on_thread._core.order((), {})
    call = decode_call(order.new_task.data)

    assert call.traceparent is not None
    assert int(call.traceparent[-2:], 16) & 1 == 0
    traced_app.on_thread.submit().result(20)
    assert traced.named("", count=0) == []


def test_submissions_and_attempts_are_measured(trace: Callable[..., Traced]) -> None:
    traced = trace()
    future = traced_app.on_thread.options(max_attempts=2, backoff=0).submit(1)
    future.result(20)
    traced_app.in_loop.submit_many([(0,)])[0].result(20)
    traced.named("process", count=3)

    sent = traced.measured("messaging.client.sent.messages")
    assert {key: point.value for key, point in sent.items()} == {("default", "send", "herdmaster"): 2}
    ran = traced.measured("messaging.process.duration")
    counts = {key: point.count for key, point in ran.items()}
    assert counts == {("default", "process", "herdmaster"): 2, ("KeyError", "default", "process", "herdmaster"): 1}
    assert 0 < ran["default", "process", "herdmaster"].sum < 20


def test_what_is_not_accepted_has_a_span_with_the_error() -> None:
    traced = Traced("", Path(), ALWAYS_ON)
    spans = traced.find_spans()
    with Herd("127.0.0.1:1", submit_timeout=0.1, connect_timeout=0.1) as nowhere:
        vars(nowhere._core).update(spans=spans, begin_send=spans.begin_send)
        with pytest.raises(Exception, match="not accepted"):
            nowhere.submit_raw(b"x")
        with pytest.raises(Exception, match=r"not accepted"):
            nowhere.submit_many(traced_app.on_thread, [(0,)])

    raw, batch = traced.named("send", count=2)
    assert of(raw)["error.type"] == "NotSubmitted"
    assert of(batch)["error.type"] == "NotAllSubmitted"
    sent = traced.measured("messaging.client.sent.messages")
    assert [(key, point.value) for key, point in sent.items()] == [
        (("NotSubmitted", "default", "send", "herdmaster"), 2)
    ]


# --- without the SDK -------------------------------------------------------------------------------------------------


def test_the_context_stays_with_a_task_that_is_tried_again_or_replayed() -> None:
    sent = encode_call(Call(1, "m:f", *encode_arguments((), {}), traceparent="00-aa-bb-01", tracestate="a=b"))
    for data in (with_attempt(sent), for_replay("task-01arz3ndektsv4rrffq69g5fav.default", sent)):
        call = decode_call(data)
        assert (call.traceparent, call.tracestate) == ("00-aa-bb-01", "a=b")


@pytest.mark.parametrize("imports", ["", "import opentelemetry.trace, opentelemetry.metrics"])
def test_without_a_provider_there_are_no_spans_and_nothing_is_imported_for_them(imports: str) -> None:
    program = (
        f"{imports}\n"
        "import sys\n"
        "from herdmaster import Herd\n"
        "from herdmaster.running.program import Program\n"
        "herd = Herd()\n"
        "assert herd._core.begin_send is None\n"
        "assert not Program({}).is_watched\n"
        "from herdmaster.tracing import find_spans\n"
        "assert find_spans() is None\n"
        "print('opentelemetry' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == f"{bool(imports)}\n"
