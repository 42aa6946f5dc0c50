from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.queues import QueueSettings
from herdmaster.core.throttle import Throttle

A, B, C = "task-a", "task-b", "task-c"
MAIL = "task-01arz3ndektsv4rrffq69g5fav.mail"


def limited(*, max_running: int | None = None, rate: float | None = None) -> Throttle:
    throttle = Throttle()
    throttle.told("default", QueueSettings(max_running=max_running, rate=rate), 0.0)
    throttle.count(())
    return throttle


def test_a_queue_without_settings_has_no_limits() -> None:
    throttle = Throttle()
    throttle.told("default", None, 0.0)
    throttle.told("mail", QueueSettings(), 0.0)

    assert throttle.admits("default", 0.0)
    assert throttle.admits("mail", 0.0)
    assert not throttle.needs_count


def test_a_paused_queue_holds_up_no_other() -> None:
    throttle = Throttle()
    throttle.told("default", QueueSettings(paused=True), 0.0)

    assert not throttle.admits("default", 0.0)
    assert throttle.admits("mail", 0.0)
    throttle.told("default", QueueSettings(paused=False), 0.0)
    assert throttle.admits("default", 0.0)


def test_a_queue_whose_znode_went_has_no_limits_any_more() -> None:
    throttle = Throttle()
    for queue in ("a", "b"):
        throttle.told(queue, QueueSettings(paused=True, rate=1.0, max_running=1), 0.0)
    throttle.listed(["b"], 0.0)
    throttle.count(())

    assert (throttle.admits("a", 0.0), throttle.admits("b", 0.0)) == (True, False)


# --- how many at a time ----------------------------------------------------------------------------------------------


def test_no_more_run_than_may() -> None:
    throttle = limited(max_running=2)
    for task in (A, B):
        assert throttle.admits("default", 0.0)
        throttle.take(task, "default")
    assert not throttle.admits("default", 0.0)
    throttle.left(A)

    assert throttle.admits("default", 0.0)


def test_other_queues_are_counted_by_themselves() -> None:
    throttle = limited(max_running=1)
    throttle.entered(MAIL)
    assert throttle.admits("default", 0.0)
    throttle.entered(A)

    assert not throttle.admits("default", 0.0)
    assert throttle.admits("mail", 0.0)


def test_what_runs_already_is_counted_when_a_limit_comes() -> None:
    throttle = Throttle()
    throttle.entered(A)
    throttle.told("default", QueueSettings(max_running=2), 0.0)
    assert throttle.needs_count
    throttle.count([A, B, MAIL])

    assert not throttle.admits("default", 0.0)
    throttle.told("default", QueueSettings(max_running=3), 0.0)
    assert throttle.admits("default", 0.0)


# --- how many per second ---------------------------------------------------------------------------------------------


def test_a_new_primary_begins_with_one_token() -> None:
    throttle = limited(rate=10.0)
    assert throttle.admits("default", 0.0)
    throttle.take(A, "default")
    assert not throttle.admits("default", 0.0)
    assert throttle.next_token == pytest.approx(0.1)

    assert throttle.admits("default", throttle.next_token or 0.0)


def test_a_second_of_tokens_is_saved_and_never_less_than_one() -> None:
    for rate, saved in ((5.0, 5), (0.5, 1)):
        throttle = limited(rate=rate)
        count = 0
        while throttle.admits("default", 1000.0):
            throttle.take(A, "default")
            count += 1
        assert count == saved


def test_the_next_token_is_that_of_the_queue_that_waits_least() -> None:
    throttle = limited(rate=1.0)
    throttle.told("mail", QueueSettings(rate=4.0), 0.0)
    for queue in ("default", "mail"):
        throttle.take(A, queue)
        assert not throttle.admits(queue, 0.0)
    assert throttle.next_token == pytest.approx(0.25)
    throttle.begin_round()

    assert throttle.next_token is None


def test_a_new_rate_does_not_give_the_saved_ones_anew() -> None:
    throttle = limited(rate=1.0)
    throttle.take(A, "default")
    throttle.told("default", QueueSettings(rate=10.0), 0.0)

    assert not throttle.admits("default", 0.0)
    assert throttle.next_token == pytest.approx(0.1)


@given(
    rate=st.floats(0.01, 1000.0),
    steps=st.lists(st.floats(-5.0, 5.0), max_size=60),
)
def test_over_any_time_no_more_start_than_the_rate_and_a_second_of_it(rate: float, steps: list[float]) -> None:
    """Also when the clock goes back."""
    throttle = limited(rate=rate)
    now, latest, elapsed, started = 0.0, 0.0, 0.0, 0
    for step in steps:
        now += step
        elapsed += max(0.0, now - latest)
        latest = now
        for _ in range(3):
            if throttle.admits("default", now):
                throttle.take(A, "default")
                started += 1

    assert started <= elapsed * rate + max(1.0, rate) + 1e-6


@given(rate=st.floats(0.01, 1000.0), now=st.floats(0.0, 1e9))
def test_when_the_next_token_is_due_there_is_one(rate: float, now: float) -> None:
    throttle = limited(rate=rate)
    assert throttle.admits("default", now)
    while throttle.admits("default", now):
        throttle.take(A, "default")
    assert throttle.next_token is not None
    # The sum of a large time and a short wait is rounded; a role waits a hundredth of a second at least.
    assert throttle.admits("default", throttle.next_token + 1e-6)
