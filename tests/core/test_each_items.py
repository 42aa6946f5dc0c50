"""The items of an `each`: how many there are, how many go into a step, and their results."""

from __future__ import annotations

import pytest

from herdmaster.core.each_items import EachItems, chunk_size, decode_items, split_chunk_result
from herdmaster.errors import BadOutcome


@pytest.mark.parametrize(("count", "chunk"), [(10_000, 0), (10_001, 2), (1_000_000, 100)])
def test_very_many_items_are_made_in_chunks_unless_the_flow_says_otherwise(count: int, chunk: int) -> None:
    assert chunk_size(None, count) == chunk
    assert chunk_size(1, count) == 0
    assert chunk_size(7, count) == 7


@pytest.mark.parametrize("result", [b"-1", b"[5,1001]", b"[1000001,2]", b"[1]", b'"5"', b"[5,-1]"])
def test_a_result_that_is_no_number_of_items_is_refused(result: bytes) -> None:
    with pytest.raises(BadOutcome, match="the result of step 4 is no number of items"):
        decode_items("4", result)


def test_the_number_of_items_and_the_size_of_chunks_come_back() -> None:
    for items in (EachItems(0), EachItems(3), EachItems(5, 2), EachItems(0, 7)):
        assert decode_items("4", items.encode()) == items
        assert (len(items.ids("4")), sum(items.sizes())) == (items.steps, items.count)


def test_the_result_of_a_chunk_has_one_for_each_item() -> None:
    assert [bytes(each) for each in split_chunk_result("4.0", b'[1,[2],"x"]', 3)] == [b"1", b"[2]", b'"x"']
    with pytest.raises(BadOutcome, match=r"the chunk 4.0 has 2 items, and 3 results"):
        split_chunk_result("4.0", b"[1,2,3]", 2)
    with pytest.raises(BadOutcome, match=r"the results of the chunk 4.0 cannot be read"):
        split_chunk_result("4.0", b"{", 2)
