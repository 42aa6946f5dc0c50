"""The filter that chooses tasks, field by field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.names import call_name, raw_name, ulid_time_ms
from herdmaster.inspection.task_seen import TaskFilter, TaskSeen, TaskState, matches_name

ULID = "01jd0000000000000000000001"
NAME = call_name(ULID, "mail")
TIME = ulid_time_ms(NAME) or 0
SEEN = TaskSeen(
    NAME, TaskState.DEAD, "mail", 5, TIME, worker="worker-aa", call="shop.tasks:send", error="shop.errors.OutOfStock"
)


@pytest.mark.parametrize(
    ("wanted", "is_taken"),
    [
        (TaskFilter(), True),
        (TaskFilter(frozenset({TaskState.DEAD})), True),
        (TaskFilter(frozenset({TaskState.FAILED})), False),
        (TaskFilter(queue="mail"), True),
        (TaskFilter(queue="default"), False),
        (TaskFilter(call="shop.tasks:send"), True),
        (TaskFilter(call="send"), True),
        (TaskFilter(call="end"), False),
        (TaskFilter(error="OutOfStock"), True),
        (TaskFilter(error="Stock"), False),
        (TaskFilter(worker="worker-aa"), True),
        (TaskFilter(worker="worker-bb"), False),
        (TaskFilter(before_ms=TIME + 1), True),
        (TaskFilter(before_ms=TIME), False),
        (TaskFilter(after_ms=TIME), True),
        (TaskFilter(after_ms=TIME + 1), False),
        (TaskFilter(queue="mail", error="LookupError"), False),
    ],
)
def test_a_task_is_wanted_if_everything_that_is_given_fits(wanted: TaskFilter, is_taken: bool) -> None:
    assert wanted.takes(SEEN) is is_taken


def test_what_is_not_known_of_a_task_fits_no_filter() -> None:
    seen = TaskSeen(raw_name(ULID), TaskState.PENDING, "default", 5)
    assert TaskFilter().takes(seen)
    for wanted in (TaskFilter(call="send"), TaskFilter(error="E"), TaskFilter(worker="w"), TaskFilter(before_ms=9**20)):
        assert not wanted.takes(seen)


@given(st.sampled_from([None, "mail", "default"]), st.integers(TIME - 1, TIME + 1), st.integers(TIME - 1, TIME + 1))
def test_the_name_alone_never_leaves_out_a_task_that_is_wanted(queue: str | None, before: int, after: int) -> None:
    wanted = TaskFilter(queue=queue, before_ms=before, after_ms=after)
    assert wanted.takes_name(NAME) is wanted.takes(SEEN)


def test_payloads_of_any_size_are_read_only_for_calls_and_errors() -> None:
    assert TaskFilter(call="a").needs_payloads
    assert TaskFilter(error="a").needs_payloads
    assert not TaskFilter(queue="a", worker="b", before_ms=1).needs_payloads


def test_a_name_fits_itself_and_its_last_part() -> None:
    assert matches_name(None, None)
    assert matches_name("ConnectionError", "ConnectionError")
    assert not matches_name("ConnectionError", "MyConnectionError")
    assert not matches_name("a", None)
