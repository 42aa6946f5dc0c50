"""An app whose tasks tell in which span they run. Its processes write their spans into $SPANS, a line of JSON each."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from herdmaster import Herd, current_task

herd = Herd()


class FileExporter(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with Path(os.environ["SPANS"]).open("a") as file:
            file.writelines(f"{json.dumps(json.loads(span.to_json()))}\n" for span in spans)
        return SpanExportResult.SUCCESS


if "SPANS" in os.environ:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(FileExporter()))
    trace.set_tracer_provider(provider)


def span_id() -> str:
    return trace.format_span_id(trace.get_current_span().get_span_context().span_id)


@herd.task
def on_thread(fails: int = 0) -> str:
    if current_task().attempt <= fails:
        raise KeyError("not yet")
    return span_id()


@herd.task
async def in_loop(fails: int = 0) -> str:
    return on_thread(fails)


@herd.task(pool="process")
def in_process(fails: int = 0) -> str:
    return on_thread(fails)


@herd.task
def submits_on_thread() -> tuple[str, str]:
    return span_id(), on_thread.submit().name


@herd.task
async def submits_in_loop() -> tuple[str, str]:
    return span_id(), (await on_thread.submit_async()).name


@herd.task(pool="process")
def submits_in_process() -> tuple[str, str]:
    return span_id(), on_thread.submit().name


@herd.task(pool="process")
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@herd.task(pool="process", timeout=0.2)
def hangs() -> None:
    time.sleep(60)


@herd.raw_handler
def handle(_name: str, data: bytes) -> None:
    if data == b"bad":
        raise LookupError("bad")
