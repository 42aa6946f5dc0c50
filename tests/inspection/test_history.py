"""The history as it is read."""

from __future__ import annotations

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.history import (
    Batch,
    CallCounts,
    EndState,
    FailureRecord,
    Histogram,
    batch_name,
    encode_batch,
)
from herdmaster.inspection.history import By, HistoryFilter, Quantiles, read_history
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.client import Client

MINUTE = 60_000
NOW = 1_700_000_000_000
FAILURE = FailureRecord("task-1", "shop:pay", "money", EndState.BURIED, "requests.ConnectionError", "no route", NOW - 5)


async def write(zk: Client, batch: Batch, identity: str = "0") -> None:
    await zk.create(layout.history_path(batch_name(batch.ends, identity)), encode_batch(batch))


async def test_a_namespace_without_a_history_has_an_empty_one(zk: Client) -> None:
    history = await read_history(zk, NOW - MINUTE, NOW)

    assert (history.counts, history.failures, history.backlog) == ((), (), ())
    assert (history.total().tasks_per_minute, history.total().failure_rate) == (0, None)


async def test_batches_of_the_range_are_read_and_others_are_not(zk: Client) -> None:
    await make_folders(zk)
    for number, ends in enumerate((NOW - 2 * MINUTE, NOW - MINUTE, NOW, NOW + 1)):
        await write(zk, Batch(1, ends - 5000, ends, counts=(CallCounts("a", "q", {EndState.DONE: 10**number}),)))
    await zk.create(layout.history_path("of-something-else"))
    await zk.create(layout.history_path(batch_name(NOW - 1, "f")), b'{"herd":99}')

    history = await read_history(zk, NOW - MINUTE, NOW)

    assert history.total().results == {EndState.DONE: 110}
    assert history.unreadable == 1


async def test_large_znodes_of_other_programs_do_not_keep_batches_from_being_read(zk: Client) -> None:
    await make_folders(zk)
    for number in range(12):
        await zk.create(layout.history_path(batch_name(NOW - 2, f"a{number}")), b"[" * 1_000_000)
    await write(zk, Batch(1, NOW - 5000, NOW - 1, counts=(CallCounts("a", "q", {EndState.DONE: 1}),)))

    history = await read_history(zk, NOW - MINUTE, NOW)
    assert (history.total().results, history.unreadable) == ({EndState.DONE: 1}, 12)


async def test_a_batch_of_a_process_whose_clock_is_off_is_found_by_the_clock_of_the_servers(zk: Client) -> None:
    await make_folders(zk)
    off = 3_600_000
    failure = msgspec.structs.replace(FAILURE, began=FAILURE.ended + off - 10, ended=FAILURE.ended + off)
    batch = Batch(1, NOW + off - 5000, NOW + off, failures=(failure,))
    await zk.create(layout.history_path(batch_name(NOW, "0")), encode_batch(batch))

    (found,) = (await read_history(zk, NOW - MINUTE, NOW)).failures
    assert found == msgspec.structs.replace(FAILURE, began=FAILURE.ended - 10)


async def test_statistics_are_by_call_or_by_queue(zk: Client) -> None:
    await make_folders(zk)
    quick, slow = Histogram({0: 30}), Histogram({40: 30})
    pay = CallCounts("shop:pay", "money", {EndState.DONE: 10, EndState.BURIED: 10, EndState.RETRIED: 40}, quick, slow)
    counts = (CallCounts("shop:area", "money", {EndState.DONE: 60, EndState.CANCELLED: 20}), pay)
    await write(zk, Batch(1, NOW - 2 * MINUTE, NOW, counts=counts, failures=(FAILURE,), unrecorded=9))

    history = await read_history(zk, NOW - 2 * MINUTE, NOW)
    area, paying = history.statistics()
    (money,) = history.statistics(By.QUEUE)

    assert (area.group, area.tasks_per_minute, area.failure_rate) == ("shop:area", 40, 0)
    assert (paying.group, paying.tasks_per_minute, paying.failure_rate) == ("shop:pay", 10, 0.5)
    assert paying.running.p50 == paying.running.p99 == pytest.approx(0.94, rel=0.01)
    assert area.running == Quantiles(None, None, None)
    assert (money.group, money.tasks_per_minute, money.failure_rate) == ("money", 50, 0.1)
    assert (history.failures, history.unrecorded) == ((FAILURE,), 9)


async def test_a_system_that_is_younger_than_the_range_has_its_own_rate(zk: Client) -> None:
    await make_folders(zk)
    await write(zk, Batch(1, NOW - MINUTE, NOW, counts=(CallCounts("a", "q", {EndState.DONE: 5}),)))

    assert (await read_history(zk, NOW - 60 * MINUTE, NOW)).total().tasks_per_minute == 5


@pytest.mark.parametrize(
    ("only", "failures"),
    [
        (HistoryFilter(call="pay"), 1),
        (HistoryFilter(call="shop:pay", queue="money"), 1),
        (HistoryFilter(error="ConnectionError"), 1),
        (HistoryFilter(error="requests.ConnectionError"), 1),
        (HistoryFilter(error="nnectionError"), 0),
        (HistoryFilter(queue="other"), 0),
        (HistoryFilter(call="area"), 0),
        (HistoryFilter(schedule="nightly"), 0),
        (HistoryFilter(flow="flow-1"), 0),
    ],
)
async def test_a_filter_chooses_failures(zk: Client, only: HistoryFilter, failures: int) -> None:
    await make_folders(zk)
    await write(zk, Batch(1, NOW - MINUTE, NOW, failures=(FAILURE,)))

    assert len((await read_history(zk, NOW - MINUTE, NOW, only)).failures) == failures


async def test_records_are_of_the_range_although_their_batch_begins_before(zk: Client) -> None:
    await make_folders(zk)
    old = msgspec.structs.replace(FAILURE, ended=NOW - 2 * MINUTE)
    await write(zk, Batch(1, NOW - 5 * MINUTE, NOW, failures=(old, FAILURE)))

    assert (await read_history(zk, NOW - MINUTE, NOW)).failures == (FAILURE,)


async def test_the_backlog_is_told_by_time(zk: Client) -> None:
    await make_folders(zk)
    await write(zk, Batch(1, NOW - MINUTE, NOW - 1, backlog={"q": 5}))
    await write(zk, Batch(1, NOW - 1, NOW, backlog={"q": 7}))

    history = await read_history(zk, NOW - MINUTE, NOW)

    assert [(each.time, each.queues) for each in history.backlog] == [(NOW - 1, {"q": 5}), (NOW, {"q": 7})]


async def test_more_than_fits_one_reply_is_read(zk: Client) -> None:
    await make_folders(zk)
    failures = (FailureRecord("task-1", "c" * 300, "q", EndState.FAILED, "E" * 256, "x" * 300, NOW),) * 60
    for number in range(30):
        await write(zk, Batch(1, NOW - MINUTE, NOW - number, failures=failures))

    assert len((await read_history(zk, NOW - MINUTE, NOW)).failures) == 30 * 60
