"""How one run of a task's code ended, on its way between two processes of one version."""

from __future__ import annotations

import msgspec
import pytest

from herdmaster.core.failure import ErrorInfo
from herdmaster.core.retry import Raised
from herdmaster.core.run import ChunkRan, Ending, Expired, ItemRun, Lacking, Returned, Run, decode_run, encode_run

RAISED = Raised(ErrorInfo("ValueError", "no"), ("ValueError",), asked=True, after=2.5)


@pytest.mark.parametrize(
    "ending",
    [
        Returned(),
        Returned(msgspec.Raw(b"[1]")),
        RAISED,
        ChunkRan((ItemRun(msgspec.Raw(b"1")), ItemRun(raised=RAISED))),
        Expired(),
        Lacking("there is no m:f", is_function=False),
    ],
    ids=lambda ending: type(ending).__name__,
)
def test_an_ending_arrives_as_it_was_sent(ending: Ending) -> None:
    run = Run(ending, 1_000, 2_000)

    assert decode_run(encode_run(run)) == run


def test_an_item_that_raised_has_no_result_and_one_without_a_value_returned_null() -> None:
    assert bytes(ItemRun(raised=RAISED).result) == b""
    assert bytes(Returned().result) == b"null"
