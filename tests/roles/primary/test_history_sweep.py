"""The history is kept within its age and its size."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable

import pytest

from herdmaster.core import layout
from herdmaster.core.history import (
    Batch,
    CallCounts,
    EndState,
    FailureRecord,
    batch_name,
    decode_batch,
    encode_batch,
)
from herdmaster.inspection.history import read_history
from herdmaster.roles.primary.history_sweep import MERGED, HistorySweep
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Node

NOW = 1_700_000_000_000
HOUR = 3600_000
FAILURES = (FailureRecord("task-1", "a", "q", EndState.FAILED, "ValueError", "x" * 300, NOW),) * 20
BATCH = len(encode_batch(Batch(1, NOW, NOW, "w", (CallCounts("a", "q", {EndState.DONE: 1}),), FAILURES)))


async def write(zk: Client, ends: int, identity: str = "0") -> None:
    batch = Batch(1, ends - 5000, ends, "w", (CallCounts("a", "q", {EndState.DONE: 1}),), FAILURES)
    await zk.create(layout.history_path(batch_name(ends, identity)), encode_batch(batch))


def later(seconds: float = 0) -> int:
    """The servers' time so many seconds from now, and a little more."""
    return time.time_ns() // 1_000_000 + round(seconds * 1000) + 100


MERGING = 11 * 60
"""Seconds until all batches may be merged."""


async def names(zk: Client) -> list[str]:
    return sorted(await zk.children(layout.HISTORY))


async def total(zk: Client) -> tuple[int, int]:
    """The tasks that are counted, and the failures with or without a record."""
    history = await read_history(zk, NOW - 100 * HOUR, NOW)
    return history.total().results.get(EndState.DONE, 0), len(history.failures) + history.unrecorded


async def test_batches_go_at_their_age_by_the_clock_of_the_servers(zk: Client) -> None:
    await make_folders(zk)
    for ends in (NOW - 1000 * HOUR, NOW, later(100 * 3600)):  # by clocks of writers, which may be wrong
        await write(zk, ends)
    await write(zk, NOW - HOUR, MERGED)
    await zk.create(layout.history_path("of-something-else"))
    before = await names(zk)
    sweep = HistorySweep(zk, 3600, 10**6)

    await sweep.sweep(later())
    assert await names(zk) == sorted({*before} - {batch_name(NOW - HOUR, MERGED)})
    await sweep.sweep(later(3600))
    assert await names(zk) == ["of-something-else"]


async def test_nothing_is_merged_as_long_as_there_is_room(zk: Client) -> None:
    await make_folders(zk)
    for number in range(4):
        await write(zk, NOW - number)
    before = await names(zk)

    await HistorySweep(zk, 3600, 4 * BATCH).sweep(later(MERGING))

    assert await names(zk) == before


async def test_the_oldest_minutes_are_merged_first_and_keep_their_numbers(zk: Client) -> None:
    await make_folders(zk)
    for number in range(30):
        await write(zk, NOW - HOUR - number)
    await write(zk, NOW)

    sweep = HistorySweep(zk, 10**9, 20 * BATCH)
    await sweep.sweep(later(MERGING))
    left = await names(zk)

    assert await total(zk) == (31, 31 * 20)
    assert left[-1] == batch_name(NOW, "0")  # as it was written
    assert len(left) <= 5
    for name in left[:-1]:
        batch = decode_batch((await zk.get(layout.history_path(name)))[0])
        assert batch is not None
        assert batch.failures == ()
    await sweep.sweep(later(MERGING))
    assert await names(zk) == left  # there is room again


async def test_what_is_merged_already_is_deleted_when_there_is_no_room_left(zk: Client) -> None:
    await make_folders(zk)
    for minute in range(10):
        for number in range(3):
            await write(zk, NOW - minute * 60_000 - number * 1000)

    await HistorySweep(zk, 7200, 700).sweep(later(MERGING))
    left = await names(zk)

    assert 1 <= len(left) < 10
    assert left[-1].startswith(f"{NOW}-m")  # the newest stays


async def test_a_batch_of_a_later_version_is_left_until_there_is_no_room(zk: Client) -> None:
    await make_folders(zk)
    unknown = batch_name(NOW - 1, "0")
    await zk.create(layout.history_path(unknown), b'{"herd":99}')
    for number in range(2, 6):
        await write(zk, NOW - number)

    await HistorySweep(zk, 7200, 2 * BATCH).sweep(later(MERGING))

    assert unknown in await names(zk)
    assert await total(zk) == (4, 80)


async def test_masters_that_sweep_at_once_count_nothing_twice(zk: Client, namespace: str) -> None:
    await make_folders(zk)
    for number in range(30):
        await write(zk, NOW - number)
    async with Client(namespace, session_timeout=4.0) as other:
        await asyncio.gather(*(HistorySweep(each, 10**9, 5 * BATCH).sweep(later(MERGING)) for each in (zk, other)))

    assert await total(zk) == (30, 600)


@pytest.mark.parametrize("read", [1, 2])
async def test_a_master_that_loses_a_race_deletes_nothing_for_want_of_room(
    zk: Client, namespace: str, monkeypatch: pytest.MonkeyPatch, read: int
) -> None:
    await make_folders(zk)
    for number in range(30):
        await write(zk, NOW - number)
    now = later(MERGING)
    async with Client(namespace, session_timeout=4.0) as other:
        has_listed, goes_on = asyncio.Event(), asyncio.Event()
        read_many, other_reads_many, reads = zk.multi_read, other.multi_read, itertools.count()

        async def wait_before_reading(paths: Iterable[str]) -> list[Node | errors.ServerError]:
            has_listed.set()
            await goes_on.wait()
            return await other_reads_many(paths)

        async def read_before_the_other(paths: Iterable[str]) -> list[Node | errors.ServerError]:
            replies = await read_many(paths)
            if next(reads) == read:
                goes_on.set()
                await late
            return replies

        monkeypatch.setattr(other, "multi_read", wait_before_reading)
        monkeypatch.setattr(zk, "multi_read", read_before_the_other)
        late = asyncio.ensure_future(HistorySweep(other, 10**9, 5 * BATCH).sweep(now))
        await has_listed.wait()
        await HistorySweep(zk, 10**9, 5 * BATCH).sweep(now)
    monkeypatch.undo()

    assert next(reads) > read
    assert await total(zk) == (30, 600)


async def test_young_batches_are_not_merged_because_they_may_be_written_again(zk: Client) -> None:
    await make_folders(zk)
    for number in range(10):
        await write(zk, NOW - number)

    await HistorySweep(zk, 7200, 6 * BATCH).sweep(later())

    assert await names(zk) == [batch_name(NOW - number, "0") for number in reversed(range(5))]
