"""Batches of the history: their names, numbers, limits and merging."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.history import (
    MAX_BATCH,
    MAX_CALLS,
    MAX_FAILURES,
    MAX_MESSAGE,
    OTHER,
    Batch,
    CallCounts,
    EndState,
    FailureRecord,
    Histogram,
    batch_name,
    bucket_of,
    decode_batch,
    encode_batch,
    merge_batches,
    parse_batch_name,
)
from herdmaster.core.history_recorder import Recorder

FAILURE = FailureRecord("task-1", "shop:pay", "default", EndState.FAILED, "ValueError", "no", 2000, 1000, 1, "worker-1")


def total(batch: Batch) -> int:
    return sum(each.total for each in batch.counts)


def test_a_name_tells_when_its_batch_ends() -> None:
    assert batch_name(1_700_000_000_000, "0ab") == "1700000000000-0ab"
    assert parse_batch_name("1700000000000-0ab") == 1_700_000_000_000


@pytest.mark.parametrize("name", ["", "1700000000000", "170-0ab", "1700000000000-", "1700000000000-0AB"])
def test_other_names_are_no_batches(name: str) -> None:
    assert parse_batch_name(name) is None


@given(st.floats(0.001, 10**9))
def test_a_quantile_is_off_by_nine_percent_at_most(milliseconds: float) -> None:
    quantile = Histogram({bucket_of(milliseconds): 1}).quantile(0.5)

    assert quantile is not None
    assert quantile * 1000 == pytest.approx(max(milliseconds, 0.5), rel=0.0906, abs=0.5)


def test_quantiles_order_the_durations() -> None:
    durations = [1.0] * 90 + [1000.0] * 9 + [60_000.0]
    histogram = Histogram()
    for each in durations:
        histogram = histogram.plus(Histogram({bucket_of(each): 1}))

    shares = [histogram.quantile(share) for share in (0.5, 0.95, 1.0)]

    assert shares == [pytest.approx(0.001, rel=0.1), pytest.approx(1, rel=0.1), pytest.approx(60, rel=0.1)]
    assert Histogram().quantile(0.5) is None


def test_a_batch_is_read_as_it_was_written() -> None:
    recorder = Recorder("worker-1", "host-1", 1000)
    recorder.count("shop:area", "default", EndState.DONE, (20, 300))
    recorder.fail(FAILURE, (0, 1000))
    batch = recorder.take(2500, {"default": 3})

    assert decode_batch(encode_batch(batch)) == batch
    assert batch.failures == (msgspec.structs.replace(FAILURE, host="host-1"),)
    assert (batch.begins, batch.ends, batch.backlog) == (1000, 2500, {"default": 3})
    assert [(each.call, each.results) for each in batch.counts] == [
        ("shop:area", {EndState.DONE: 1}),
        ("shop:pay", {EndState.FAILED: 1}),
    ]
    assert batch.counts[0].running.quantile(1) == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("data", [None, b"", b"{}", b'{"herd":2,"begins":1,"ends":2}', b"[" * 100_000])
def test_other_data_is_no_batch(data: bytes | None) -> None:
    assert decode_batch(data) is None


def test_a_recorder_begins_anew_with_each_batch() -> None:
    recorder = Recorder("worker-1", "host-1", 1000)
    recorder.fail(FAILURE)
    recorder.take(2000)

    assert recorder.is_empty
    assert recorder.take(3000) == Batch(1, 2000, 3000, "worker-1")


def test_a_clock_that_goes_back_makes_an_empty_range() -> None:
    assert (Recorder("w", "h", 1000).take(500).begins, Recorder("w", "h", 1000).take(500).ends) == (1000, 1000)


def test_a_recorder_keeps_so_many_records_and_counts_the_rest() -> None:
    recorder = Recorder("worker-1", "host-1", 0)
    for _ in range(MAX_FAILURES + 5):
        recorder.fail(msgspec.structs.replace(FAILURE, message="x" * 1000))
    batch = recorder.take(1)

    assert (len(batch.failures), batch.unrecorded, total(batch)) == (MAX_FAILURES, 5, MAX_FAILURES + 5)
    assert {len(each.message) for each in batch.failures} == {MAX_MESSAGE}


def test_what_was_not_recorded_is_counted_in_one_batch() -> None:
    recorder = Recorder("worker-1", "host-1", 0)
    for _ in range(MAX_FAILURES + 5):
        recorder.fail(FAILURE)
    assert (recorder.take(1).unrecorded, recorder.take(2).unrecorded) == (5, 0)


def test_a_recorder_counts_further_calls_as_others() -> None:
    recorder = Recorder("worker-1", "host-1", 0)
    for number in range(MAX_CALLS + 10):
        recorder.count(f"shop:f{number}", "default", EndState.DONE)
    batch = recorder.take(1)

    assert {each.call: each.total for each in batch.counts}[OTHER] == 10
    assert total(batch) == MAX_CALLS + 10


def test_a_batch_is_never_too_large_and_counts_all_the_same() -> None:
    histogram = Histogram(dict.fromkeys(range(100), 1_000_000))
    counts = tuple(
        CallCounts(f"module:{'f' * 200}{n}", "q" * 60, {EndState.DONE: n + 1}, histogram) for n in range(MAX_CALLS)
    )
    failures = (msgspec.structs.replace(FAILURE, message="\0" * MAX_MESSAGE),) * MAX_FAILURES
    batch = Batch(1, 0, 1, "worker-1", counts, failures, 7, {f"queue-{n}": n for n in range(10_000)})

    data = encode_batch(batch)
    read = decode_batch(data)

    assert len(data) <= MAX_BATCH
    assert read is not None
    assert total(read) == total(batch)
    assert read.unrecorded + len(read.failures) == 7 + MAX_FAILURES
    assert max(each.total for each in read.counts if each.call != OTHER) == MAX_CALLS  # the most frequent one stays


def test_merging_adds_the_numbers_and_drops_the_records() -> None:
    one = Batch(1, 0, 10, "w1", (CallCounts("a", "q", {EndState.DONE: 1}, Histogram({3: 1})),), (FAILURE,), 1, {"q": 5})
    two = Batch(
        1,
        5,
        20,
        "w2",
        (CallCounts("a", "q", {EndState.DONE: 2, EndState.FAILED: 1}, Histogram({3: 1, 4: 2})),),
    )

    assert merge_batches([two, one]) == Batch(
        1,
        0,
        20,
        None,
        (CallCounts("a", "q", {EndState.DONE: 3, EndState.FAILED: 1}, Histogram({3: 2, 4: 2})),),
        (),
        2,
        {"q": 5},
    )
    with pytest.raises(ValueError, match="no batches"):
        merge_batches([])


@pytest.mark.parametrize(
    "data",
    [
        b'{"herd":1,"begins":0,"ends":1,"counts":[{"call":"a","queue":"q","waiting":[{"1000000000":1}]}]}',
        b'{"herd":1,"begins":0,"ends":1,"counts":[{"call":"a","queue":"q","results":{"done":9223372036854775808}}]}',
        b'{"herd":1,"begins":0,"ends":10000000000000}',
        b'{"herd":1,"begins":-1,"ends":1}',
    ],
)
def test_numbers_that_no_process_writes_are_no_batch(data: bytes) -> None:
    """A quantile, a sum or the name of a merged batch would break on them."""
    assert decode_batch(data) is None


def test_the_longest_time_is_in_a_bucket_that_can_be_read() -> None:
    histogram = Histogram({bucket_of(float("inf")): 1})
    batch = Batch(1, 0, 1, counts=(CallCounts("a", "q", {EndState.DONE: 1}, histogram, histogram),))
    assert decode_batch(encode_batch(batch)) == batch
