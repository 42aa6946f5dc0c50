"""Planted bugs of chunks in flows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import msgspec

from herdmaster.core.chunk import failure_of_chunk, join_done
from herdmaster.core.expansion import Expansion, Made, StepArgs, args_by_codec, plain_args
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


def lists_not_made_flat() -> Any:
    """An `each` over lists in a list goes over the lists."""

    def make(template: Any, over: Any, chunk: Any = 1, **_rest: Any) -> StepArgs:
        return plain_args(template, over, chunk)

    return patch.object(steps, "plain_args", make)


def elements_by_codec_in_another_order() -> Any:
    """With a codec, the elements of a list come in another order."""

    def reverse(*args: Any, **rest: Any) -> StepArgs:
        found = args_by_codec(*args, **rest)
        return found._replace(items=found.items[::-1])

    return patch.object(steps, "args_by_codec", reverse)


BUGS: dict[str, Callable[[], Any]] = {
    bug.__name__: bug
    for bug in (
        results_of_chunks_in_another_order,
        failing_elements_are_left_out,
        positions_count_from_the_chunk,
        chunks_made_again,
        lists_not_made_flat,
        elements_by_codec_in_another_order,
    )
}
