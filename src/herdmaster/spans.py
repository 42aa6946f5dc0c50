"""Spans and metrics of OpenTelemetry for tasks, by its conventions for messaging.

| span | kind | when | linked to |
|---|---|---|---|
| `send QUEUE` | producer | from the call of `submit` to the acceptance | |
| `create QUEUE` | producer | for each task of a batch, before it is sent | |
| `send QUEUE` | client | for a batch, until all of its tasks are accepted or refused | the `create` spans |
| `process QUEUE` | consumer | while the code of an attempt runs | the `send` or `create` span of its task |

The context of the `send` or `create` span travels in the payload, as `traceparent` and `tracestate`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from opentelemetry import metrics, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.metrics import Counter, MeterProvider
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from herdmaster import __version__
from herdmaster.core.names import DEFAULT_QUEUE, is_call, queue_and_time
from herdmaster.core.payload import Call

Attributes = dict[str, str | int]

_NAME: Final = "herdmaster"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""The buckets that the conventions advise."""

_propagator: Final = TraceContextTextMapPropagator()
_log = logging.getLogger("herdmaster")


def make_spans(*, are_children: bool = False) -> Spans | None:
    """Return what makes spans and metrics with the providers that the program has set; None if it has set none."""
    tracers, meters = trace.get_tracer_provider(), metrics.get_meter_provider()
    return Spans(tracers, meters, are_children=are_children) if _is_set(tracers) or _is_set(meters) else None


def _is_set(provider: TracerProvider | MeterProvider) -> bool:
    """Return False for the providers of the API package, which do nothing."""
    return not type(provider).__module__.startswith(("opentelemetry.trace", "opentelemetry.metrics"))


class Spans:
    """Makes the spans of tasks. Threads may share it."""

    def __init__(self, tracers: TracerProvider, meters: MeterProvider, *, are_children: bool = False) -> None:
        self._tracer = tracers.get_tracer(_NAME, __version__)
        meter = meters.get_meter(_NAME, __version__)
        self._sent = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Tasks that this program has submitted, or tried to"
        )
        self._durations = meter.create_histogram(
            "messaging.process.duration", "s", "How long the code of an attempt ran",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )  # fmt: skip
        self._are_children = are_children

    # --- submissions -------------------------------------------------------------------------------------------------

    def begin_send(self, queue: str) -> Sending:
        """Begin the span of a task that is submitted by itself."""
        attributes = _attributes("send", queue)
        span = self._tracer.start_span(f"send {queue}", kind=SpanKind.PRODUCER, attributes=attributes)
        return Sending(span, self._sent, queue)

    def begin_flow(self, name: str, queue: str) -> Sending:
        """Begin the span of a flow that is submitted. `queue` is that of its first step."""
        attributes = _attributes("send", queue)
        attributes["herdmaster.flow.name"] = name
        span = self._tracer.start_span(f"send flow {name}", kind=SpanKind.PRODUCER, attributes=attributes)
        return Sending(span, self._sent, queue)

    def trace_now(self) -> tuple[str | None, str | None]:
        """Return the `traceparent` and `tracestate` of the span that runs."""
        carrier: dict[str, str] = {}
        _propagator.inject(carrier)
        return carrier.get("traceparent"), carrier.get("tracestate")

    def begin_create(self, queue: str) -> Sending:
        """Begin the span of a task of a batch. It ends as soon as the task has its name."""
        attributes = _attributes("create", queue)
        span = self._tracer.start_span(f"create {queue}", kind=SpanKind.PRODUCER, attributes=attributes)
        return Sending(span, self._sent, queue, ends_at_once=True)

    @contextmanager
    def send_batch(self, sendings: Sequence[Sending]) -> Iterator[None]:
        """The span of a batch that is submitted in this block."""
        queues = {sending.queue for sending in sendings}
        queue = queues.pop() if len(queues) == 1 else None
        attributes = _attributes("send", queue)
        attributes["messaging.batch.message_count"] = len(sendings)
        span = self._tracer.start_span(
            "send" if queue is None else f"send {queue}",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            links=[sending.link for sending in sendings],
        )
        try:
            yield
        except BaseException as error:
            _fail(span, type(error).__qualname__, error)
            raise
        finally:
            span.end()

    # --- attempts ----------------------------------------------------------------------------------------------------

    def process(self, task: str, call: Call | None, *, is_async: bool) -> Attempt:
        """Return the context of the code of an attempt: within it, the span of the attempt is the current one. A raw
        task has no `call`."""
        return Attempt(self._begin_process(task, call), self._observe, task, is_async=is_async)

    def record_lost(self, task: str, call: Call, kind: str, began: int) -> None:
        """Make the span of an attempt whose process has died, now that it is over. `kind` is the type of the error,
        `began` when the attempt began, in unix milliseconds."""
        span = self._begin_process(task, call, began * 1_000_000)
        _fail(span, kind, None)
        span.end()
        self._observe(task, max(0.0, time.time() - began / 1000), kind)

    def around_raw(self, handler: Callable[[str, bytes], None]) -> Callable[[str, bytes], None]:
        """Return a handler of raw tasks that calls this one within the span of an attempt."""

        def handle(task: str, data: bytes) -> None:
            with self.process(task, None, is_async=True):
                handler(task, data)

        return handle

    def _begin_process(self, task: str, call: Call | None, began: int | None = None) -> Span:
        queue = _queue_of(task)
        attributes = _attributes("process", queue)
        attributes["messaging.message.id"] = task
        origin: dict[str, str] = {}
        is_child = self._are_children
        if call is not None:
            if call.flow is not None:  # one trace has the whole flow
                is_child = True
                attributes["herdmaster.flow.id"], attributes["herdmaster.flow.step"] = call.flow.flow, call.flow.step
            attributes["herdmaster.call"] = call.call
            attributes["herdmaster.attempt"] = call.attempt
            if call.traceparent is not None:
                origin = {"traceparent": call.traceparent, "tracestate": call.tracestate or ""}
        extracted = _propagator.extract(origin, Context())
        sent = trace.get_current_span(extracted).get_span_context()
        return self._tracer.start_span(
            f"process {queue}",
            extracted if is_child else Context(),
            SpanKind.CONSUMER,
            attributes,
            [Link(sent)] if sent.is_valid and not is_child else None,
            began,
        )

    def _observe(self, task: str, seconds: float, error: str | None) -> None:
        attributes = _measured("process", _queue_of(task), error)
        self._durations.record(seconds, attributes)


class Sending:
    """The span of a task that is being submitted."""

    def __init__(self, span: Span, sent: Counter, queue: str, *, ends_at_once: bool = False) -> None:
        self._span = span
        self._sent = sent
        self._ends_at_once = ends_at_once
        self.queue = queue
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, trace.set_span_in_context(span, Context()))
        self.traceparent = carrier.get("traceparent")
        self.tracestate = carrier.get("tracestate")

    @property
    def link(self) -> Link:
        return Link(self._span.get_span_context())

    def named(self, task: str) -> None:
        """Note the name of the task."""
        self._span.set_attribute("messaging.message.id", task)
        if self._ends_at_once:
            self._span.end()

    def settled(self, error: BaseException | None) -> None:
        """Note that the task was accepted, or why not. Never raises."""
        try:
            kind = None if error is None else type(error).__qualname__
            if not self._ends_at_once:
                if error is not None:
                    _fail(self._span, type(error).__qualname__, error)
                self._span.end()
            self._sent.add(1, _measured("send", self.queue, kind))
        except Exception:  # noqa: BLE001 - a provider of the program's, which must not fail the submission
            _log.exception("the span of a submission could not be ended")


class Attempt:
    """The span of an attempt, around its code."""

    def __init__(
        self, span: Span, observe: Callable[[str, float, str | None], None], task: str, *, is_async: bool
    ) -> None:
        self._span = span
        self._observe = observe
        self._task = task
        self._is_async = is_async
        self._kind: str | None = None

    def __enter__(self) -> Self:
        self._token = attach(trace.set_span_in_context(self._span))
        self._began = time.perf_counter()
        return self

    def fail(self, kind: str, error: object) -> None:
        """Note that the attempt has failed. `kind` is the type of the error as outcomes have it."""
        self._kind = kind
        _fail(self._span, kind, error if isinstance(error, BaseException) else None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        detach(self._token)
        if kind is not None and not self._is_async:
            return  # the process of the task has to end, and its worker makes the span: see `record_lost`
        if kind is not None:
            self.fail(kind.__qualname__, error)
        self._span.end()
        self._observe(self._task, time.perf_counter() - self._began, self._kind)


def _attributes(operation: str, queue: str | None) -> Attributes:
    found: Attributes = {
        "messaging.system": _NAME,
        "messaging.operation.type": operation,
        "messaging.operation.name": operation,
    }
    if queue is not None:
        found["messaging.destination.name"] = queue
    return found


def _measured(operation: str, queue: str, error: str | None) -> Attributes:
    found: Attributes = {
        "messaging.system": _NAME,
        "messaging.operation.name": operation,
        "messaging.destination.name": queue,
    }
    if error is not None:
        found["error.type"] = error
    return found


def _fail(span: Span, kind: str, error: BaseException | None) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, None if error is None else str(error)))
    if error is not None:
        span.record_exception(error)


def _queue_of(task: str) -> str:
    return queue_and_time(task)[0] if is_call(task) else DEFAULT_QUEUE
