"""Durations become times of the servers' clock."""

from __future__ import annotations

import pytest

from herdmaster.core.payload import decode_call
from herdmaster.core.transitions import NewTask
from herdmaster.errors import BadPayload
from herdmaster.roles.client.due_times import FRESH_SECONDS, DueTimes, is_timed
from tests.roles.stage import call_payload, new_call_name, new_raw_name

SERVER_MS = 1_800_000_000_000


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _due_times(clock: _Clock) -> DueTimes:
    found = DueTimes(clock, lambda: 12_345)  # this machine's own clock is far off
    found.synchronize(SERVER_MS)
    return found


def _task(*, due_ms: int | None = None, delay_ms: int | None = None, expires_ms: int | None = None) -> NewTask:
    return NewTask(new_call_name(), call_payload("m:f"), due_ms=due_ms, delay_ms=delay_ms, expires_ms=expires_ms)


def test_a_delay_counts_from_when_it_was_asked_for() -> None:
    clock = _Clock()
    due_times = _due_times(clock)
    asked_at = due_times.asked_at()
    clock.now += 7.5

    assert due_times.fix(_task(delay_ms=60_000), asked_at).due_ms == SERVER_MS + 60_000
    assert due_times.fix(_task(delay_ms=7_500), asked_at).due_ms is None  # it is over by now
    assert due_times.fix(_task(delay_ms=7_501), asked_at).due_ms == SERVER_MS + 7_501


def test_a_time_stays_what_it_is_unless_it_is_in_the_past() -> None:
    due_times = _due_times(_Clock())

    assert due_times.fix(_task(due_ms=SERVER_MS + 1), 100.0).due_ms == SERVER_MS + 1
    assert due_times.fix(_task(due_ms=SERVER_MS), 100.0).due_ms is None


def test_a_payload_says_when_a_delayed_call_is_due() -> None:
    due_times = _due_times(_Clock())
    raw = NewTask(new_raw_name(), b"raw", due_ms=SERVER_MS + 1)

    assert decode_call(due_times.fix(_task(due_ms=SERVER_MS + 1), 100.0).data).due == SERVER_MS + 1
    assert decode_call(due_times.fix(_task(due_ms=SERVER_MS), 100.0).data).due is None
    assert due_times.fix(raw, 100.0) == raw


def test_an_expiry_is_written_into_the_payload_and_nothing_else_changes() -> None:
    task = _task(expires_ms=1_000)
    fixed = _due_times(_Clock()).fix(task, 100.0)

    assert decode_call(fixed.data).expires == SERVER_MS + 1_000
    assert (fixed.name, fixed.due_ms, fixed.delay_ms, fixed.expires_ms) == (task.name, None, None, None)
    assert not is_timed(fixed)


def test_what_is_no_call_can_take_no_time_limit() -> None:
    with pytest.raises(BadPayload):
        _due_times(_Clock()).fix(NewTask(new_call_name(), b"garbage", expires_ms=1_000), 100.0)


def test_a_reading_is_used_for_a_minute() -> None:
    clock = _Clock()
    due_times = DueTimes(clock, lambda: 0)
    seen = [due_times.is_fresh]
    due_times.synchronize(SERVER_MS)
    seen.append(due_times.is_fresh)
    clock.now += FRESH_SECONDS - 1
    seen.append(due_times.is_fresh)
    clock.now += 1
    seen.append(due_times.is_fresh)

    assert seen == [False, True, True, False]
