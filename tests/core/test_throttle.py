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
    throttle.set_limits("default", QueueSettings(max_running=max_running, rate=rate), 0.0)
    throttle.count_running(())
    return throttle


def test_a_queue_without_settings_has_no_limits() -> None:
    throttle = Throttle()
    throttle.set_limits("default", None, 0.0)
    throttle.set_limits("mail", QueueSettings(), 0.0)

    assert throttle.admits("default", 0.0)
    assert throttle.admits("mail", 0.0)
    assert not throttle.needs_count


def test_a_paused_queue_holds_up_no_other() -> None:
    throttle = Throttle()
    throttle.set_limits("default", QueueSettings(paused=True), 0.0)

    assert not throttle.admits("default", 0.0)
    assert throttle.admits("mail", 0.0)
    throttle.set_limits("default", QueueSettings(paused=False), 0.0)
    assert throttle.admits("default", 0.0)


def test_a_queue_whose_znode_went_has_no_limits_any_more() -> None:
    throttle = Throttle()
    for queue in ("a", "b"):
        throttle.set_limits(queue, QueueSettings(paused=True, rate=1.0, max_running=1), 0.0)
    throttle.keep_limits(["b"], 0.0)
    throttle.count_running(())

    assert (throttle.admits("a", 0.0), throttle.admits("b", 0.0)) == (True, False)


# --- how many at a time ----------------------------------------------------------------------------------------------


def test_no_more_run_than_may() -> None:
    throttle = limited(max_running=2)
    for task in (A, B):
        assert throttle.admits("default", 0.0)
        throttle.begin_assignment(task, "default")
    assert not throttle.admits("default", 0.0)
    throttle.remove_running(A)

    assert throttle.admits("default", 0.0)


def test_other_queues_are_counted_by_themselves() -> None:
    throttle = limited(max_running=1)
    throttle.add_running(MAIL)
    assert throttle.admits("default", 0.0)
    throttle.add_running(A)

    assert not throttle.admits("default", 0.0)
    assert throttle.admits("mail", 0.0)


def test_what_runs_already_is_counted_when_a_limit_comes() -> None:
    throttle = Throttle()
    throttle.add_running(A)
    throttle.set_limits("default", QueueSettings(max_running=2), 0.0)
    assert throttle.needs_count
    throttle.count_running([A, B, MAIL])

    assert not throttle.admits("default", 0.0)
    throttle.set_limits("default", QueueSettings(max_running=3), 0.0)
    assert throttle.admits("default", 0.0)


# --- how many per second ---------------------------------------------------------------------------------------------

KNOWN = 1.0
"""When a second is over since the rate was told."""


def start(throttle: Throttle, now: float) -> int:
    """As many as may be, each committed at once."""
    count = 0
    throttle.begin_round(now)
    while throttle.admits("default", now):
        throttle.begin_assignment(A, "default")
        throttle.end_assignment(A)
        count += 1
    throttle.begin_round(now)
    return count


def test_the_first_second_belongs_to_the_primary_before() -> None:
    throttle = limited(rate=10.0)
    assert not throttle.admits("default", 0.0)
    assert throttle.next_token == pytest.approx(KNOWN)
    throttle.begin_round(KNOWN)
    assert throttle.admits("default", KNOWN)
    throttle.begin_assignment(A, "default")
    assert not throttle.admits("default", KNOWN)
    assert throttle.next_token == pytest.approx(KNOWN + 0.1)

    assert throttle.admits("default", throttle.next_token or 0.0)


def test_after_an_idle_time_no_more_start_than_in_a_tenth_of_a_second_and_never_less_than_one() -> None:
    for rate, saved in ((50.0, 5), (5.0, 1), (0.5, 1)):
        assert start(limited(rate=rate), 1000.0) == saved


def test_a_primary_that_decides_seldom_reaches_the_rate_all_the_same() -> None:
    throttle = limited(rate=1000.0)
    assert sum(start(throttle, KNOWN + 0.05 * turn) for turn in range(101)) == pytest.approx(5000, abs=100)


def test_what_is_under_way_counts_until_a_second_after_its_reply() -> None:
    throttle = limited(rate=2.0)
    for now in (1.0, 1.5, 2.0):
        assert throttle.admits("default", now)
        throttle.begin_assignment(A, "default")
    throttle.begin_round(9.0)
    assert not throttle.admits("default", 9.0)  # all three may be committed at this very moment
    assert throttle.next_token is None  # the next reply wakes the primary
    throttle.end_assignment(A)
    throttle.begin_round(9.0)
    assert not throttle.admits("default", 9.0)
    assert throttle.next_token == pytest.approx(10.0)

    throttle.begin_round(10.0)
    assert throttle.admits("default", 10.0)


def test_the_next_token_is_that_of_the_queue_that_waits_least() -> None:
    throttle = limited(rate=1.0)
    throttle.set_limits("mail", QueueSettings(rate=4.0), 0.0)
    for queue in ("default", "mail"):
        assert throttle.admits(queue, KNOWN)
        throttle.begin_assignment(A, queue)
        assert not throttle.admits(queue, KNOWN)
    assert throttle.next_token == pytest.approx(KNOWN + 0.25)
    throttle.begin_round(KNOWN)

    assert throttle.next_token is None


def test_a_new_rate_does_not_give_the_saved_ones_anew() -> None:
    throttle = limited(rate=1.0)
    assert start(throttle, KNOWN) == 1
    throttle.set_limits("default", QueueSettings(rate=10.0), KNOWN)

    assert not throttle.admits("default", KNOWN)
    assert throttle.next_token == pytest.approx(KNOWN + 0.1)


def test_a_limit_that_goes_and_comes_back_gives_nothing_anew() -> None:
    throttle = limited(rate=5.0)
    assert start(throttle, KNOWN) == 1
    throttle.set_limits("default", None, KNOWN)
    throttle.set_limits("default", QueueSettings(rate=5.0), KNOWN)

    assert not throttle.admits("default", KNOWN + 0.99)


def most_in_a_second(times: list[float]) -> int:
    """Of the times in rising order: how many at most lie within less than a second."""
    most = first = 0
    for last, time in enumerate(times):
        while time - times[first] >= 1.0 - 1e-6:
            first += 1
        most = max(most, last - first + 1)
    return most


STEPS = st.lists(
    st.tuples(st.floats(-0.5, 2.0), st.integers(0, 40), st.floats(0.0, 0.9), st.booleans()), min_size=1, max_size=60
)


@given(rate=st.floats(0.05, 40.0), steps=STEPS)
def test_no_interval_of_a_second_holds_more_than_the_rate_and_one(
    rate: float, steps: list[tuple[float, int, float, bool]]
) -> None:
    """However seldom or late it is asked, wherever between decision and reply each assignment is committed, also when
    the clock goes back, over a change of primaries, and over an idle time."""
    throttle = limited(rate=rate)
    now = latest = 0.0
    committed: list[float] = []
    under_way: list[tuple[float, float]] = []  # decided, share of the way to the reply
    for step, replies, share, is_new in steps:
        now += step
        latest = max(latest, now)
        for _ in range(min(replies, len(under_way))):
            decided, part = under_way.pop(0)
            committed.append(decided + part * (latest - decided))
            throttle.end_assignment(A)
        if is_new and step > 1.5:  # what was under way is over before the next primary begins
            committed += [latest] * len(under_way)
            under_way.clear()
            throttle = limited(rate=rate)
            throttle.set_limits("default", None, latest)
            throttle.set_limits("default", QueueSettings(rate=rate), latest)
        throttle.begin_round(latest)
        for _ in range(30):
            if throttle.admits("default", latest):
                throttle.begin_assignment(A, "default")
                under_way.append((latest, share))
    committed += [latest] * len(under_way)

    assert most_in_a_second(sorted(committed)) <= rate + 1


@given(
    rate=st.floats(0.01, 1000.0),
    steps=st.lists(st.floats(-5.0, 5.0), max_size=60),
)
def test_over_any_time_no_more_start_than_the_rate_and_a_tenth_of_a_second_of_it(
    rate: float, steps: list[float]
) -> None:
    """Also when the clock goes back."""
    throttle = limited(rate=rate)
    now, latest, elapsed, started = 0.0, 0.0, 0.0, 0
    for step in steps:
        now += step
        elapsed += max(0.0, now - latest)
        latest = max(latest, now)
        started += start(throttle, latest)

    assert started <= elapsed * rate + max(1.0, rate / 10) + 1e-6


@given(rate=st.floats(0.01, 1000.0), now=st.floats(1.0, 1e9))
def test_when_the_next_token_is_due_there_is_one(rate: float, now: float) -> None:
    throttle = limited(rate=rate)
    assert start(throttle, now) >= 1
    assert not throttle.admits("default", now)
    assert throttle.next_token is not None
    # The sum of a large time and a short wait is rounded; a role waits a hundredth of a second at least.
    due = throttle.next_token + 1e-6
    throttle.begin_round(due)
    assert throttle.admits("default", due)
