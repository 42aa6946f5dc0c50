"""Log records tell which task they come from."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import msgspec
import pytest

from herdmaster.cli.logs import JsonFormatter, TextFormatter
from herdmaster.core.names import UlidFactory, call_name
from herdmaster.core.payload import Call
from herdmaster.pools import child_logs
from herdmaster.running import log_fields
from herdmaster.running.current import running_now
from herdmaster.running.delivery import Delivered

NAME = call_name(UlidFactory(lambda: 1, lambda count: b"\0" * count).new())
FIELDS = {"task": NAME, "call": "shop:area", "queue": "default", "attempt": 2}
TASK = Delivered(NAME, b"", 1, Call(1, "shop:area", msgspec.Raw(b"[]"), msgspec.Raw(b"{}"), attempt=2))
SHOP = logging.getLogger("shop")


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    present = logging.getLogRecordFactory()
    log_fields.install()
    log_fields.install()
    yield
    log_fields.uninstall()
    assert logging.getLogRecordFactory() is present


def in_task(message: str) -> logging.LogRecord:
    token = running_now.set(TASK)
    try:
        return SHOP.makeRecord("shop", logging.INFO, "", 0, message, (), None)
    finally:
        running_now.reset(token)


def outside(message: str) -> logging.LogRecord:
    return SHOP.makeRecord("shop", logging.INFO, "", 0, message, (), None, extra={"task": "the app's", "queue": 1})


def test_json_carries_the_fields_inside_a_task_alone() -> None:
    found = json.loads(JsonFormatter().format(in_task("hello")))
    assert {name: found[name] for name in FIELDS} == FIELDS
    assert not json.loads(JsonFormatter().format(outside("hello"))).keys() & FIELDS.keys()


def test_text_names_the_task_if_asked_for_and_once() -> None:
    formatter, plain = TextFormatter(colour=False, task=True), TextFormatter(colour=False)
    assert formatter.format(in_task("hello")).endswith(f" shop: [{NAME} shop:area, attempt 2] hello")
    assert formatter.format(in_task(f"{NAME} is done")).endswith(f" shop: {NAME} is done")
    assert formatter.format(outside("hello")).endswith(" shop: hello")
    assert plain.format(in_task("hello")).endswith(" shop: hello")


def test_a_format_may_name_the_fields_everywhere() -> None:
    formatter = logging.Formatter("%(herd_task)s|%(herd_call)s|%(herd_queue)s|%(herd_attempt)s|%(message)s")
    assert formatter.format(in_task("hello")) == f"{NAME}|shop:area|default|2|hello"
    assert formatter.format(outside("hello")) == "||||hello"


def test_a_process_of_the_pool_passes_the_fields_on(caplog: pytest.LogCaptureFixture) -> None:
    line = child_logs._encode(in_task("from the process"), child_logs.MARK).decode()
    with caplog.at_level(logging.INFO):
        assert child_logs.relay(line.rstrip("\n"), child_logs.MARK) == ""
    (record,) = (each for each in caplog.records if each.name == "shop")
    assert log_fields.fields_of(record) == FIELDS
