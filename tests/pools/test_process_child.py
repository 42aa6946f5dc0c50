"""The alarm and the memory limit of a task process, without a process."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator

import pytest

from herdmaster import forks
from herdmaster.errors import SoftTimeLimitExceeded
from herdmaster.pools.process_child import MEMORY_LIMIT, Alarm, Memory

LONG = 3600.0


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    handler, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    try:
        yield Alarm()
    finally:
        signal.signal(signal.SIGALRM, handler)  # of pytest-timeout
        forks._handlers.pop(signal.SIGALRM, None)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def ring() -> None:
    signal.raise_signal(signal.SIGALRM)


def test_the_alarm_raises_once_in_a_request_and_names_its_limit(alarm: Alarm) -> None:
    alarm.set(LONG)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == pytest.approx(LONG, abs=60)
    with pytest.raises(SoftTimeLimitExceeded, match="limit of 3600 s"):
        ring()
    ring()

    alarm.set(LONG)
    with pytest.raises(SoftTimeLimitExceeded):
        ring()


def test_the_alarm_raises_nothing_outside_of_a_request(alarm: Alarm) -> None:
    ring()
    alarm.set(LONG)
    alarm.clear()

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    ring()


def test_a_limit_of_nothing_rings_at_once(alarm: Alarm) -> None:
    def be_late() -> None:
        alarm.set(0.0)
        signal.sigtimedwait([], 10)

    with pytest.raises(SoftTimeLimitExceeded):
        be_late()


def test_an_alarm_that_is_held_raises_when_it_is_released_once(alarm: Alarm) -> None:
    alarm.set(LONG)
    alarm.hold()
    ring()
    with pytest.raises(SoftTimeLimitExceeded):
        alarm.release()
    alarm.hold()
    alarm.release()

    alarm.set(LONG)
    alarm.hold()
    alarm.release()
    alarm.hold()
    ring()
    alarm.clear()
    alarm.release()


def test_an_alarm_that_is_held_twice_raises_at_the_last_release_or_where_the_code_asks(alarm: Alarm) -> None:
    alarm.set(LONG)
    alarm.hold()
    alarm.hold()
    ring()
    alarm.release()
    with pytest.raises(SoftTimeLimitExceeded):
        alarm.raise_late()
    alarm.release()

    alarm.set(LONG)
    alarm.hold()
    alarm.raise_late()  # nothing is late
    ring()
    with pytest.raises(SoftTimeLimitExceeded):
        alarm.release()


@pytest.mark.parametrize(
    ("hard", "sizes", "calls"),
    [
        (resource.RLIM_INFINITY, [100, 100, None, None], [(100, resource.RLIM_INFINITY), (50, resource.RLIM_INFINITY)]),
        (80, [100, 60, None], [(80, 80), (60, 80), (50, 80)]),
        (resource.RLIM_INFINITY, [None], []),
    ],
)
def test_memory_limits_are_set_where_they_change_and_lifted_to_what_was_first(
    monkeypatch: pytest.MonkeyPatch, hard: int, sizes: list[int | None], calls: list[tuple[int, int]]
) -> None:
    made: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (50, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: made.append((which, limits)))
    memory = Memory()
    for size in sizes:
        memory.limit(size)

    assert made == [(MEMORY_LIMIT, call) for call in calls]
