"""Chunks: many calls of one function in one task.

`Call.args` of a chunk is a list of argument lists, one for each item, and its result a list of `ItemResult`, in the
same order. To the worker that runs it, it is as many calls of the same function; an item that fails, fails alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from herdmaster.core.failure import ErrorInfo, cut_text
from herdmaster.core.inputs import inputs_of_item
from herdmaster.core.outcome import MAX_OUTCOME, ItemResult
from herdmaster.core.payload import MAX_PAYLOAD, Call
from herdmaster.core.values import UNREADABLE
from herdmaster.errors import BadOutcome, BadPayload, ResultTooLarge

ITEM_ROOM: Final = MAX_PAYLOAD // 2
"""Bytes of items in one chunk: results of about the size of the items then fit an outcome."""
RESULT_ROOM: Final = MAX_OUTCOME - 8 * 1024
"""Bytes of results in one outcome."""
MAX_ITEMS: Final = 1000
"""In one chunk: so many errors fit one outcome."""

_BREVITIES: Final = ((256, 512), (64, 0))
"""Bytes of an error's message and traceback where there is no room for more."""
_encoder = msgspec.json.Encoder()
_items = msgspec.json.Decoder(list[msgspec.Raw])
_results = msgspec.json.Decoder(list[ItemResult])
_NO_KWARGS: Final = msgspec.Raw(b"{}")


def join_items(items: Iterable[msgspec.Raw]) -> msgspec.Raw:
    """`Call.args` of a chunk, from the `Call.args` that each item would have alone."""
    return _list(map(bytes, items))


def split_chunk(call: Call) -> list[Call]:
    """A call for each item, as it would be alone. Raises BadPayload for what is no list of lists."""
    try:
        items = _items.decode(call.args)
    except UNREADABLE as error:
        raise BadPayload(f"the items of the chunk cannot be read: {error}") from None
    if any(memoryview(item)[0] != ord("[") for item in items):
        raise BadPayload("each item of a chunk has to be a list of arguments")
    calls = [msgspec.structs.replace(call, args=item, kwargs=_NO_KWARGS, chunk=False) for item in items]
    if not call.inputs:
        return calls
    return [
        msgspec.structs.replace(each, inputs=inputs_of_item(call.inputs, index)) for index, each in enumerate(calls)
    ]


def join_results(results: Sequence[msgspec.Raw | ErrorInfo]) -> msgspec.Raw:
    """`Outcome.result` of a chunk: JSON for an item that is done, else its error.

    Of up to `MAX_ITEMS` items it always fits an outcome. Where they are too many bytes, messages and tracebacks are cut
    first; then the items with the largest results fail with ResultTooLarge.
    """
    written = [_write(each) for each in results]
    for message, traceback in _BREVITIES:
        if _size(written) <= RESULT_ROOM:
            return _list(written)
        for index, each in enumerate(results):
            if isinstance(each, ErrorInfo):
                brief = ErrorInfo(each.type, cut_text(each.message, message), cut_text(each.traceback, traceback))
                written[index] = _write(brief)
    _drop_largest(results, written)
    return _list(written)


def split_results(result: msgspec.Raw, count: int) -> list[ItemResult]:
    """What became of each of so many items. Raises BadOutcome."""
    try:
        found = _results.decode(result)
    except UNREADABLE as error:
        raise BadOutcome(f"the results of the chunk cannot be read: {error}") from None
    if len(found) != count:
        raise BadOutcome(f"the chunk has {count} items, its outcome {len(found)}")
    return found


def _list(items: Iterable[bytes]) -> msgspec.Raw:
    return msgspec.Raw(b"[" + b",".join(items) + b"]")


def _size(written: Sequence[bytes]) -> int:
    return sum(map(len, written)) + len(written) + 2


def _write(result: msgspec.Raw | ErrorInfo) -> bytes:
    if isinstance(result, ErrorInfo):
        return _encoder.encode(ItemResult(error=result))
    return b'{"result":' + bytes(result) + b"}"


def _drop_largest(results: Sequence[msgspec.Raw | ErrorInfo], written: list[bytes]) -> None:
    size = _size(written)
    refused = _write(
        ErrorInfo(
            ResultTooLarge.__name__,
            f"the results of the chunk have {size} bytes, at most {RESULT_ROOM} are allowed, and this was among the "
            "largest: choose a smaller `chunksize`, or store results elsewhere and return their addresses",
            args=(size, RESULT_ROOM),
        )
    )
    for index in sorted(range(len(written)), key=lambda index: len(written[index]), reverse=True):
        if size <= RESULT_ROOM:
            return
        if not isinstance(results[index], ErrorInfo) and len(written[index]) > len(refused):
            size += len(refused) - len(written[index])
            written[index] = refused
