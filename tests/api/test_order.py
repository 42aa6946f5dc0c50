"""Orders, as they are made of what a program submits."""

from __future__ import annotations

from typing import Any

import pytest

from herdmaster.api.order import order_raw
from herdmaster.core.names import UlidFactory
from herdmaster.core.payload import MAX_PAYLOAD
from herdmaster.errors import PayloadTooLarge

ULID = UlidFactory(lambda: 1_700_000_000_000, lambda count: b"\x00" * count).new()


class Sending:
    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.names: list[str] = []

    def named(self, task: str) -> None:
        self.names.append(task)


@pytest.mark.parametrize("data", [b"payload", bytearray(b"payload"), memoryview(b"payload")])
def test_a_raw_task_is_its_bytes_and_its_span_has_its_name(data: Any) -> None:
    begin: Any = Sending
    order = order_raw(ULID, data, begin)
    sending: Any = order.sending

    assert order.new_task.data == b"payload"
    assert sending.queue == "default"
    assert sending.names == [order.task.name]
    assert order_raw(ULID, data).sending is None


def test_a_raw_task_has_at_most_the_largest_payload() -> None:
    assert len(order_raw(ULID, b"x" * MAX_PAYLOAD).new_task.data) == MAX_PAYLOAD
    with pytest.raises(PayloadTooLarge):
        order_raw(ULID, b"x" * (MAX_PAYLOAD + 1))


@pytest.mark.parametrize("data", ["text", 7, None])
def test_a_raw_task_of_anything_else_is_refused(data: Any) -> None:
    with pytest.raises(TypeError, match=f"not {type(data).__name__}"):
        order_raw(ULID, data)
