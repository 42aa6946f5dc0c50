from __future__ import annotations

import pytest

from herdmaster.core.failure import error_info
from herdmaster.core.options import Overrides, RunOptions, apply_overrides, overrides
from herdmaster.core.retry import Raised, raised, seconds_until_retry
from herdmaster.errors import Retry


def highest(low: float, high: float) -> float:
    return high


def lowest(low: float, high: float) -> float:
    return low


def what(error: BaseException) -> Raised:
    return raised(error, error_info(error))


THREE = RunOptions(max_attempts=3)


def test_a_task_has_one_attempt_unless_it_says_otherwise() -> None:
    assert seconds_until_retry(RunOptions(), 1, what(ValueError()), highest) is None


def test_the_bound_of_the_wait_doubles_with_each_attempt_up_to_the_cap() -> None:
    options = RunOptions(max_attempts=99, backoff=2.0, max_backoff=10.0)
    waits = [seconds_until_retry(options, attempt, what(ValueError()), highest) for attempt in (1, 2, 3, 4, 98)]
    assert waits == [2.0, 4.0, 8.0, 10.0, 10.0]


def test_the_wait_is_drawn_from_nothing_to_its_bound() -> None:
    assert seconds_until_retry(THREE, 2, what(ValueError()), lowest) == 0.0


def test_the_last_attempt_is_not_followed_by_another() -> None:
    assert seconds_until_retry(THREE, 2, what(ValueError()), lowest) is not None
    assert seconds_until_retry(THREE, 3, what(ValueError()), lowest) is None
    assert seconds_until_retry(THREE, 3, what(Retry(after=1.0)), lowest) is None


def test_a_base_class_named_in_retry_on_covers_what_derives_from_it() -> None:
    options = RunOptions(max_attempts=3, retry_on=("OSError",))
    assert seconds_until_retry(options, 1, what(ConnectionResetError()), highest) == 1.0
    assert seconds_until_retry(options, 1, what(ValueError()), highest) is None


def test_give_up_on_wins_over_retry_on() -> None:
    options = RunOptions(max_attempts=3, retry_on=("OSError",), give_up_on=("FileNotFoundError",))
    assert seconds_until_retry(options, 1, what(FileNotFoundError()), highest) is None
    assert seconds_until_retry(options, 1, what(PermissionError()), highest) == 1.0


def test_an_asked_for_retry_comes_when_it_says_whatever_the_types_are() -> None:
    options = RunOptions(max_attempts=3, retry_on=("OSError",))
    assert seconds_until_retry(options, 1, what(Retry(after=7.5)), highest) == 7.5
    assert seconds_until_retry(options, 1, what(Retry()), highest) == 1.0


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
def test_what_is_no_ordinary_exception_is_not_tried_again(error: BaseException) -> None:
    assert seconds_until_retry(THREE, 1, what(error), highest) is None


@pytest.mark.parametrize("after", [-1.0, float("inf"), float("nan")])
def test_a_time_that_cannot_be_waited_for_is_refused_where_it_is_raised(after: float) -> None:
    with pytest.raises(ValueError, match="number of seconds from 0"):
        Retry(after=after)


def test_overrides_hold_exactly_what_differs_and_bring_it_back() -> None:
    wanted = RunOptions(max_attempts=4, timeout=2.0)
    registered = RunOptions(max_attempts=4, timeout=9.0)
    assert overrides(wanted, wanted) is None
    assert overrides(registered, wanted) == Overrides(timeout=2.0)
    assert apply_overrides(registered, overrides(registered, wanted)) == wanted
    assert apply_overrides(registered, Overrides(timeout=None)).timeout is None
    assert apply_overrides(registered, None) is registered
