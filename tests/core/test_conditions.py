from __future__ import annotations

from itertools import islice

import pytest

from herdmaster.core.conditions import Conditions, expiry_of, is_conditional
from herdmaster.core.payload import Call, encode_arguments, encode_call
from tests.core.takeover import W, told

ULID = "01arz3ndektsv4rrffq69g5fav"
CONDITIONAL = f"task-{ULID}.default.c"


def payload(expires: int | None = 1000, attempt: int = 1) -> bytes:
    return encode_call(Call(1, "m:f", *encode_arguments((), {}), expires=expires, attempt=attempt))


def test_the_name_says_whether_there_are_conditions() -> None:
    for name in (CONDITIONAL, f"task-{ULID}.mail.p9.b.c", f"task-{ULID}.c.c"):
        assert is_conditional(name)
    for name in (f"task-{ULID}.default", f"task-{ULID}.c", "task-raw", "task-c", "garbage.c"):
        assert not is_conditional(name)


def test_a_first_attempt_expires_when_its_header_says() -> None:
    assert expiry_of(CONDITIONAL, payload()) == 1000
    assert expiry_of(CONDITIONAL, payload(expires=None)) is None
    assert expiry_of(f"task-{ULID}.default", payload()) is None


def test_a_task_that_has_begun_does_not_expire() -> None:
    assert expiry_of(CONDITIONAL, payload(attempt=2)) is None


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b'{"herd":1,"expires":"soon"}', b"9" * 5000, b"\xff"])
def test_what_cannot_be_read_has_no_conditions(data: bytes) -> None:
    assert expiry_of(CONDITIONAL, data) is None


# --- what is known of waiting tasks ----------------------------------------------------------------------------------

A, B, C = (f"task-0{number:025d}.default.c" for number in range(3))


def test_a_header_is_wanted_once() -> None:
    conditions = Conditions()
    for task in (A, B, C):
        conditions.want(task)
    assert list(islice(conditions.take_unread(), 2)) == [A, B]
    assert list(islice(conditions.take_unread(), 2)) == [C]
    assert list(islice(conditions.take_unread(), 2)) == []


def test_tasks_expire_when_their_time_has_come_the_first_first() -> None:
    conditions = Conditions()
    for task, expires in ((A, 30), (B, None), (C, 10)):
        conditions.tell(task, expires)
    assert conditions.next_expiry_ms() == 10
    assert list(islice(conditions.take_expired(9), 5)) == []
    assert list(islice(conditions.take_expired(30), 1)) == [C]
    assert list(islice(conditions.take_expired(30), 5)) == [A]
    assert conditions.next_expiry_ms() is None
    assert all(conditions.knows(task) for task in (A, B, C))


def test_what_did_not_expire_after_all_may_do_so_again() -> None:
    conditions = Conditions()
    conditions.tell(A, 10)
    assert list(islice(conditions.take_expired(10), 5)) == [A]
    assert list(islice(conditions.take_expired(10), 5)) == []
    conditions.watch(A)
    conditions.watch(A)

    assert list(islice(conditions.take_expired(10), 5)) == [A]


def test_what_left_neither_expires_nor_is_read() -> None:
    conditions = Conditions()
    conditions.want(A)
    conditions.tell(B, 10)
    conditions.forget(A)
    conditions.forget(B)

    assert list(islice(conditions.take_unread(), 5)) == list(islice(conditions.take_expired(100), 5)) == []
    assert not conditions.knows(B)


def test_a_header_that_was_read_anew_counts() -> None:
    conditions = Conditions()
    conditions.tell(A, 10)
    conditions.tell(A, 20)

    assert list(islice(conditions.take_expired(15), 5)) == []
    assert list(islice(conditions.take_expired(20), 5)) == [A]
    assert list(islice(conditions.take_expired(20), 5)) == []


def test_those_that_leave_leave_no_memory() -> None:
    conditions = Conditions()
    for number in range(5000):
        conditions.tell(str(number), 10**13)
        conditions.forget(str(number))

    assert len(conditions._heap) < 200


def test_a_task_that_leaves_before_its_header_is_read_is_held_no_more() -> None:
    dispatcher = told(alive=(W,))
    dispatcher.add_task(CONDITIONAL)
    dispatcher.remove_task(CONDITIONAL)
    assert dispatcher._backlog._held == {}
