"""Planted bugs of chunks in flows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import msgspec

from herdmaster.core.chunk import failure_of_chunk, join_done
from herdmaster.core.expansion import Expansion, Made
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.payload import Call
from herdmaster.core.run import ItemRun
from herdmaster.roles.worker import next_move, steps
from herdmaster.roles.worker.next_move import NextMoves


def results_of_chunks_in_another_order() -> Any:
    """The results of the items of a chunk come in another order."""
    return patch.object(next_move, "join_done", lambda results: join_done(reversed(list(results))))


def failing_elements_are_left_out() -> Any:
    """A chunk is done although items of it have failed: their results are null."""
    after = NextMoves._after_items

    def ignore(self: Any, task: Any, ran: Any, run: Any) -> Any:
        items = tuple(each if each.raised is None else ItemRun(msgspec.Raw(b"null")) for each in ran.items)
        return after(self, task, msgspec.structs.replace(ran, items=items), run)

    return patch.object(NextMoves, "_after_items", ignore)


def positions_count_from_the_chunk() -> Any:
    """The error of a chunk names the position in the chunk, and not that in the list."""

    def fail(call: Call, _first: int, failed: Sequence[tuple[int, ErrorInfo]], count: int) -> ErrorInfo:
        return failure_of_chunk(call, 0, failed, count)

    return patch.object(next_move, "failure_of_chunk", fail)


def chunks_made_again() -> Any:
    """Another worker that goes on with an `each` begins with its first chunk."""

    def make(*args: Any, **rest: Any) -> Expansion:
        return Expansion(*args, **{**rest, "made": Made()})

    return patch.object(steps, "Expansion", make)


BUGS: dict[str, Callable[[], Any]] = {
    bug.__name__: bug
    for bug in (
        results_of_chunks_in_another_order,
        failing_elements_are_left_out,
        positions_count_from_the_chunk,
        chunks_made_again,
    )
}
