"""The data of schedules and their ticks."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.keys import KeyRecord, NewKey, Unique, encode_record, hash_key
from herdmaster.core.layout import NEVER, UNPLANNED, TickName
from herdmaster.core.names import MAX_SCHEDULE_NAME, check_schedule_name, parse_task_name, ulid_time_ms
from herdmaster.core.payload import Call, Scheduled, decode_call, encode_arguments, encode_call
from herdmaster.core.schedules import (
    MAX_PROBLEM,
    MAX_SCHEDULE,
    Missed,
    Overlap,
    Schedule,
    Tick,
    decode_schedule,
    decode_tick,
    encode_schedule,
    encode_tick,
    fire_time,
    is_same,
    is_same_timing,
    name_of_tick,
    scheduled_task,
    unplanned,
    with_problem,
)
from herdmaster.core.timetable import Cron, Every, Times
from herdmaster.errors import BadSchedule, ConfigurationError, HerdError, InvalidName, PayloadTooLarge

PAYLOAD = encode_call(Call(1, "shop:nightly", *encode_arguments((1,), {})))
DUE = 1_764_355_200_000
PLAIN = Schedule(id="0a1b2c3d", timetable=Every(60_000), payload=msgspec.Raw(PAYLOAD))
FULL = Schedule(
    id="0a1b2c3d",
    timetable=Cron("30 2 * * *", "Europe/Berlin"),
    payload=msgspec.Raw(PAYLOAD),
    queue="mail",
    priority=7,
    expires_ms=1000,
    missed=Missed.ALL,
    grace_ms=5000,
    overlap=Overlap.WAIT,
    jitter_ms=30_000,
    starts_ms=1,
    ends_ms=2,
    max_runs=3,
    paused=True,
    app="shop:herd",
)


@pytest.mark.parametrize("schedule", [PLAIN, FULL, msgspec.structs.replace(PLAIN, timetable=Times((1, 2)))])
def test_a_schedule_is_read_as_it_was_written(schedule: Schedule) -> None:
    assert decode_schedule(encode_schedule(schedule)) == schedule


def test_a_tick_is_read_as_it_was_written() -> None:
    for tick in (
        Tick(),
        Tick(due_ms=1, since_ms=2, task="t", last_ms=3, made_ms=4, late_ms=5, runs=6, skips={"a": 7}, problem="p"),
    ):
        assert decode_tick(encode_tick(tick)) == tick


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not JSON"),
        (b"[]", "is not JSON"),
        (b"\xff", "is not JSON"),
        (encode_schedule(PLAIN).replace(b'"herd":1', b'"herd":2', 1), "of version 2"),
        (encode_schedule(PLAIN).replace(b"0a1b2c3d", b"x"), "id"),
        (encode_schedule(FULL).replace(b'"mail"', b'"Mail"'), "queue"),
        (encode_schedule(FULL).replace(b'"priority":7', b'"priority":70'), "priority"),
        (encode_schedule(PLAIN).replace(b'"call"', b'"kall"'), "is no call"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_schedule_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(BadSchedule, match=reason):
        decode_schedule(data)


@pytest.mark.parametrize("data", [None, b"", b"{", b'{"herd":9}', b'{"herd":1,"runs":"x"}'])
def test_what_is_no_tick_says_so(data: bytes | None) -> None:
    with pytest.raises(BadSchedule, match="the tick of the schedule cannot be read"):
        decode_tick(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_schedule_or_an_error(data: bytes) -> None:
    for decode in (decode_schedule, decode_tick):
        try:
            decode(data)
        except BadSchedule:
            continue


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"queue": "Mail"}, InvalidName),
        ({"priority": 10}, InvalidName),
        ({"starts_ms": 2, "ends_ms": 1}, ConfigurationError),
        ({"jitter_ms": -1}, ConfigurationError),
        ({"max_runs": 0}, ConfigurationError),
        ({"payload": msgspec.Raw(b"{}")}, ConfigurationError),
        ({"payload": msgspec.Raw(b'"' + bytes([97]) * MAX_SCHEDULE + b'"')}, PayloadTooLarge),
    ],
)
def test_a_schedule_that_cannot_work_is_not_written(changes: dict[str, object], error: type[HerdError]) -> None:
    with pytest.raises(error):
        encode_schedule(msgspec.structs.replace(PLAIN, **changes))


@pytest.mark.parametrize("name", ["", "a b", "-a", "/a", "a/b", "ä", "a" * (MAX_SCHEDULE_NAME + 1), ".."])
def test_a_name_outside_the_grammar_is_refused(name: str) -> None:
    with pytest.raises(InvalidName, match="is not the name of a schedule"):
        check_schedule_name(name)


def test_a_tick_that_is_planned_anew_has_no_problem() -> None:
    tick = Tick(due_ms=1, since_ms=2, runs=3, problem="p")
    assert unplanned(tick) == Tick(runs=3)
    assert len(with_problem(tick, "x" * 10_000).problem or "") <= MAX_PROBLEM


def test_pausing_does_not_make_a_schedule_another() -> None:
    assert is_same(PLAIN, msgspec.structs.replace(PLAIN, paused=True, id="ffffffff"))
    assert not is_same(PLAIN, msgspec.structs.replace(PLAIN, missed=Missed.ALL))
    assert is_same_timing(PLAIN, msgspec.structs.replace(PLAIN, missed=Missed.ALL))
    assert not is_same_timing(PLAIN, msgspec.structs.replace(PLAIN, starts_ms=1))


def test_the_task_of_a_tick_has_one_name_for_ever() -> None:
    first = scheduled_task("nightly", PLAIN, DUE, None, DUE + 5)
    again = scheduled_task("nightly", msgspec.structs.replace(PLAIN, missed=Missed.ALL), DUE, 7, DUE + 99)
    assert first.name == again.name
    assert ulid_time_ms(first.name) == DUE
    others = [
        scheduled_task("weekly", PLAIN, DUE, None, DUE),
        scheduled_task("nightly", PLAIN, DUE + 1, None, DUE),
        scheduled_task("nightly", msgspec.structs.replace(PLAIN, id="00000000"), DUE, None, DUE),
    ]
    assert len({first.name, *(other.name for other in others)}) == 4


def test_the_task_of_a_tick_has_the_options_of_the_schedule() -> None:
    task = scheduled_task("nightly", FULL, DUE, DUE - 1, DUE + 5)
    name = parse_task_name(task.name)
    assert name is not None
    assert (name.queue, name.priority, name.conditional, name.big) == ("mail", 7, True, False)
    call = decode_call(task.data)
    assert (call.call, bytes(call.args), call.due, call.expires) == ("shop:nightly", b"[1]", DUE + 5, DUE + 1005)
    assert call.scheduled == Scheduled("nightly", DUE, DUE - 1)
    assert task.new_key is None


def test_the_task_of_a_tick_takes_the_key_of_the_schedule() -> None:
    key = hash_key("k", "shop:nightly")
    payload = encode_call(Call(1, "shop:nightly", *encode_arguments((), {}), key=key, unique=Unique("k")))
    schedule = msgspec.structs.replace(PLAIN, payload=msgspec.Raw(payload))
    record = encode_record(KeyRecord("k", "call", "shop:nightly"))
    assert scheduled_task("nightly", schedule, DUE, None, DUE).new_key == NewKey(key, record)
    assert schedule.has_key
    assert not PLAIN.has_key


@given(st.integers(0, 10**12), st.integers(0, 100_000))
def test_the_jitter_of_a_time_is_always_the_same_and_within_its_limit(due: int, jitter: int) -> None:
    schedule = msgspec.structs.replace(PLAIN, jitter_ms=jitter)
    assert due <= fire_time("nightly", schedule, due) <= due + jitter
    assert fire_time("nightly", schedule, due) == fire_time("nightly", schedule, due)


def test_a_jitter_spreads_schedules_that_are_due_together() -> None:
    schedule = msgspec.structs.replace(PLAIN, jitter_ms=60_000)
    assert len({fire_time(f"s{number}", schedule, DUE) for number in range(100)}) > 90


def test_the_name_of_a_tick_says_which_time_comes_next() -> None:
    paused = msgspec.structs.replace(PLAIN, paused=True)
    assert name_of_tick("s", PLAIN, Tick(due_ms=DUE)) == TickName(DUE, "0a1b2c3d", "s")
    assert name_of_tick("s", PLAIN, Tick()).due_ms == UNPLANNED
    assert name_of_tick("s", PLAIN, Tick(), is_over=True).due_ms == NEVER
    assert name_of_tick("s", paused, Tick(due_ms=DUE)) == TickName(NEVER, "0a1b2c3d", "s")
