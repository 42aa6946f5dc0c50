"""Chunks: many calls in one task, and each of them by itself."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.chunk import ITEM_ROOM, MAX_ITEMS, join_items, join_results, split_chunk, split_results
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.outcome import Outcome, OutcomeState, decode_outcome, encode_outcome
from herdmaster.core.payload import MAX_PAYLOAD, Call, decode_arguments, decode_call, encode_arguments, encode_call
from herdmaster.core.values import from_json
from herdmaster.errors import BadOutcome, BadPayload

TASK = "task-01h00000000000000000000000.default"
NONE = msgspec.Raw(b"{}")

arguments = st.lists(st.none() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])), max_size=3)


def chunk(items: list[list[object]]) -> Call:
    args = join_items(encode_arguments(item, {})[0] for item in items)
    return decode_call(encode_call(Call(1, "shop:f", args, NONE, chunk=True, codec=None)))


def outcome_of(results: list[msgspec.Raw | ErrorInfo]) -> Outcome:
    """As it comes to the client."""
    data = encode_outcome(TASK, Outcome(OutcomeState.DONE, join_results(results)))
    return decode_outcome(TASK, data)


@given(st.lists(arguments, max_size=5))
def test_a_chunk_is_a_call_for_each_item(items: list[list[object]]) -> None:
    calls = split_chunk(chunk(items))

    assert [decode_arguments(call) for call in calls] == [(item, {}) for item in items]
    assert not any(call.chunk for call in calls)
    assert {call.call for call in calls} <= {"shop:f"}


@pytest.mark.parametrize("args", [b"[1]", b"[[1],{}]", b'["[]"]', b"[null]"])
def test_a_chunk_of_anything_but_lists_is_refused(args: bytes) -> None:
    call = msgspec.structs.replace(chunk([]), args=msgspec.Raw(args))

    with pytest.raises(BadPayload, match="each item of a chunk has to be a list"):
        split_chunk(call)


def test_a_chunk_that_is_no_json_is_refused() -> None:
    with pytest.raises(BadPayload, match="cannot be read"):
        split_chunk(msgspec.structs.replace(chunk([]), args=msgspec.Raw(b"[[1],")))


def test_results_and_errors_come_back_in_order() -> None:
    error = ErrorInfo("KeyError", "'a'", "Traceback", ("a",))
    outcome = outcome_of([msgspec.Raw(b"5"), error, msgspec.Raw(b"null")])

    assert outcome.result is not None
    first, second, third = split_results(outcome.result, 3)
    assert from_json(first.result) == 5
    assert first.error is None
    assert second.error == error
    assert from_json(third.result) is None


@pytest.mark.parametrize("result", [b"5", b"[5]", b"[", b'[{"error":5}]'])
def test_what_is_no_list_of_results_is_refused(result: bytes) -> None:
    with pytest.raises(BadOutcome, match="cannot be read"):
        split_results(msgspec.Raw(result), 1)


def test_another_number_of_results_is_refused() -> None:
    with pytest.raises(BadOutcome, match="the chunk has 3 items, its outcome 2"):
        split_results(join_results([msgspec.Raw(b"1")] * 2), 3)


def test_as_much_as_fits_in_items_fits_in_a_payload() -> None:
    room = ITEM_ROOM
    args = join_items([msgspec.Raw(b"[" + b"1" * (room - 4) + b"]")])

    assert len(encode_call(Call(1, "m" * 1000 + ":f", args, NONE, chunk=True))) <= MAX_PAYLOAD


def test_the_largest_results_make_room_for_the_others() -> None:
    small = msgspec.Raw(b'"' + b"s" * 100 + b'"')
    large = msgspec.Raw(b'"' + b"l" * 300_000 + b'"')
    larger = msgspec.Raw(b'"' + b"m" * 400_000 + b'"')
    outcome = outcome_of([small, larger, small, large])

    assert outcome.result is not None
    found = split_results(outcome.result, 4)
    assert [each.error is None for each in found] == [True, False, True, True]
    error = found[1].error
    assert error is not None
    assert error.type == "ResultTooLarge"
    assert "choose a smaller `chunksize`" in error.message


def test_a_thousand_long_errors_fit_an_outcome() -> None:
    error = ErrorInfo("shop.errors.Broken", "m" * 8000, "t" * 32000, ("a" * 4000,))
    outcome = outcome_of([error] * MAX_ITEMS)

    assert outcome.result is not None
    found = split_results(outcome.result, MAX_ITEMS)
    assert {each.error.type for each in found if each.error is not None} == {"shop.errors.Broken"}
    assert all(each.error is not None and each.error.message for each in found)


def test_few_long_errors_are_kept_as_they_are() -> None:
    error = ErrorInfo("shop.errors.Broken", "m" * 8000, "t" * 32000, ("a" * 4000,))
    outcome = outcome_of([error, msgspec.Raw(b"1"), error])

    assert outcome.result is not None
    assert split_results(outcome.result, 3)[2].error == error


@given(st.lists(st.integers(0, 200_000), max_size=30))
def test_any_results_fit_an_outcome_in_order(sizes: list[int]) -> None:
    results: list[msgspec.Raw | ErrorInfo] = [msgspec.Raw(b'"' + b"x" * size + b'"') for size in sizes]
    outcome = outcome_of(results)

    assert outcome.result is not None
    for size, found in zip(sizes, split_results(outcome.result, len(sizes)), strict=True):
        assert found.error is not None or from_json(found.result) == "x" * size
