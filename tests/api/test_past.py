"""What has ended in a time, as a program reads it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from herdmaster import ConfigurationError, FailureRecord, Future, Herd
from herdmaster.api.past import Instant
from herdmaster.core import layout
from herdmaster.core.history import Batch, CallCounts, EndState, batch_name, encode_batch
from tests.api.znodes import Znodes


def _write(namespace: Znodes, ended: int) -> FailureRecord:
    failure = FailureRecord(
        "task-1", "shop:pay", "money", EndState.FAILED, "ValueError", "no route", ended - 5, flow="flow-1"
    )
    counts = (
        CallCounts("shop:pay", "money", {EndState.DONE: 3, EndState.FAILED: 1}),
        CallCounts("shop:area", "sums"),
    )
    data = encode_batch(Batch(1, ended - 5000, ended, counts=counts, failures=(failure,)))
    namespace.create(layout.history_path(batch_name(ended, "7")).lstrip("/"), data)
    return failure


async def test_a_program_reads_the_counts_and_the_failures_of_a_time(
    namespace: str, make_herd: Callable[..., Herd], znodes: Callable[[str], Znodes]
) -> None:
    herd = make_herd(namespace)
    _: Future[object] = await herd.submit_call_async("shop:pay")  # makes the folders
    now = time.time_ns() // 1_000_000
    failure = _write(znodes(namespace), now - 60_000)

    of_flow = await herd.history_async(flow="flow-1", timeout=30.0)
    found = await herd.history_async(timedelta(minutes=2), call="pay", error="ValueError", timeout=30.0)
    later = await herd.history_async(since=30, timeout=30.0)
    earlier = await herd.history_async(datetime.fromtimestamp(now / 1000 - 90, UTC), 50.0, queue="money", timeout=30.0)
    other = await herd.history_async(error="KeyError", timeout=30.0)
    ahead = _write(znodes(namespace), now + 600_000)  # this machine's clock is behind the servers'
    _write(znodes(namespace), now + 48 * 3600_000)  # this says nothing of it
    behind = await herd.history_async(since=60, timeout=30.0)
    of_another = await herd.history_async(flow="flow-2", timeout=30.0)

    assert found.failures == earlier.failures == of_flow.failures == (failure,)
    assert of_another.failures == ()
    assert behind.failures == (ahead,)
    assert [each.group for each in found.statistics()] == ["shop:pay"]
    assert [each.group for each in earlier.statistics("queue")] == ["money"]
    assert (later.counts, later.failures, other.failures) == ((), (), ())


def test_a_program_without_an_event_loop_reads_it(namespace: str, make_herd: Callable[..., Herd]) -> None:
    assert make_herd(namespace).history(since=60, timeout=30.0).total().results == {}


@pytest.mark.parametrize(
    ("since", "until", "why"),
    [
        (datetime(2024, 1, 1), 0, "time zone"),  # noqa: DTZ001 - the mistake that is shown
        (-1, 0, "since=-1"),
        (float("nan"), 0, "since=nan"),
        (True, 0, "since=True"),
        (60, timedelta(days=-1), "until="),
        (60, 60, "not before"),
    ],
)
def test_times_that_are_no_range_of_the_past_are_refused(
    make_herd: Callable[..., Herd], since: Instant, until: Instant, why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why):
        make_herd("127.0.0.1:1").history(since, until)


async def test_reading_the_history_does_not_block_an_event_loop(make_herd: Callable[..., Herd]) -> None:
    with pytest.raises(RuntimeError, match="history_async"):
        make_herd("127.0.0.1:1").history()
