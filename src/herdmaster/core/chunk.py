"""Chunks: many calls of one function in one task.

`Call.args` of a chunk is a list of argument lists, one for each item, and its result a list of `ItemResult`, in the
same order. To the worker that runs it, it is as many calls of the same function; an item that fails, fails alone.

In a flow a chunk has many items of an `each`. `Call.args` are a list of their elements, and then the arguments that all
items share; the result is the list of their results. If an item fails, the chunk fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from herdmaster.core.failure import MAX_MESSAGE, ErrorInfo, cut_text
from herdmaster.core.inputs import Input, StepResult
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

_SHOWN: Final = 60
"""Characters of an element in an error."""
_BREVITIES: Final = ((256, 512), (64, 0))
"""Bytes of an error's message and traceback where there is no room for more."""
_encoder = msgspec.json.Encoder()
_items = msgspec.json.Decoder(list[msgspec.Raw])
_results = msgspec.json.Decoder(list[ItemResult])
_NO_KWARGS: Final = msgspec.Raw(b"{}")


def join_items(items: Iterable[msgspec.Raw]) -> msgspec.Raw:
    """`Call.args` of a chunk, from the `Call.args` that each item would have alone."""
    return _list(items)


def split_chunk(call: Call) -> list[Call]:
    """A call for each item, as it would be alone. Raises BadPayload for what is no list of lists."""
    if call.flow is not None:
        return _split_step(call, call.flow.step)
    try:
        items = _items.decode(call.args)
    except UNREADABLE as error:
        raise BadPayload(f"the items of the chunk cannot be read: {error}") from None
    if any(memoryview(item)[0] != ord("[") for item in items):
        raise BadPayload("each item of a chunk has to be a list of arguments")
    return [msgspec.structs.replace(call, args=item, kwargs=_NO_KWARGS, chunk=False) for item in items]


def step_args(elements: Iterable[bytes], shared: Sequence[msgspec.Raw]) -> msgspec.Raw:
    """`Call.args` of a chunk of a flow. `shared` are the arguments after the element; with a codec, the text in which
    it wrote all arguments, with None as the element, and elements are written with it one by one."""
    return _list((b"[" + b",".join(elements) + b"]", *shared))


def _split_step(call: Call, step: str) -> list[Call]:
    try:
        elements, *shared = _items.decode(call.args)
        items = _items.decode(elements)
    except (ValueError, *UNREADABLE) as error:
        raise BadPayload(f"the items of the chunk cannot be read: {error}") from None
    if call.codec is None:
        return [msgspec.structs.replace(call, args=_list((item, *shared)), chunk=False) for item in items]
    whole = msgspec.structs.replace(call, args=_list(shared), chunk=False)
    inputs = (Input(("args", 0), step, (StepResult(bytes(item), call.codec),)) for item in items)
    return [msgspec.structs.replace(whole, inputs=(each, *call.inputs)) for each in inputs]


def join_done(results: Iterable[msgspec.Raw]) -> msgspec.Raw:
    """`Outcome.result` of a chunk of a flow, whose items are all done."""
    return _list(results)


def failure_of_chunk(call: Call, first: int, failed: Sequence[tuple[int, ErrorInfo]], count: int) -> ErrorInfo:
    """Return the error of a chunk of a flow with `count` items: that of the first item that failed, which element that
    was, and how many failed. `first` is the position of the chunk's first element; `failed` are the positions of items
    in the chunk, and their errors."""
    index, error = failed[0]
    value = _shown_element(call, index)
    note = f" (element {first + index}{value}; {len(failed)} of the {count} items of the chunk failed)"
    room = MAX_MESSAGE - len(note.encode())
    return msgspec.structs.replace(error, message=cut_text(error.message, room) + note)


def _shown_element(call: Call, index: int) -> str:
    """Return the beginning of an element's JSON; nothing for what a codec has written."""
    if call.codec is not None:
        return ""
    element = bytes(_items.decode(_items.decode(call.args)[0])[index]).decode("utf-8", "replace")
    return f": {element if len(element) <= _SHOWN else f'{element[:_SHOWN]}...'}"


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


def _list(items: Iterable[bytes | msgspec.Raw]) -> msgspec.Raw:
    return msgspec.Raw(b"[" + b",".join(map(bytes, items)) + b"]")


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
