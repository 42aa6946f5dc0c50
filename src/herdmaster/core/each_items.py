"""The items of an `each` in its steps: one item in each, or chunks of items. The result of the `each` says which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from herdmaster.core.chunk import ITEM_ROOM
from herdmaster.core.chunk import MAX_ITEMS as MAX_CHUNK
from herdmaster.core.values import UNREADABLE
from herdmaster.errors import BadOutcome

MOST_ITEMS: Final = 1_000_000
"""Of one `each`."""
MOST_ALONE: Final = 10_000
"""Of more items, chunks are made unless the flow says otherwise: about this many."""

_number_decoder: Final = msgspec.json.Decoder(int | tuple[int, int])
_list_decoder: Final = msgspec.json.Decoder(list[msgspec.Raw])


class EachItems(msgspec.Struct, frozen=True):
    """`count` items, `chunk` of them in each step but the last; with 0, each step is an item and no chunk."""

    count: int
    chunk: int = 0

    @property
    def steps(self) -> int:
        """The number of steps."""
        return -(-self.count // (self.chunk or 1))

    def ids(self, each: str) -> list[str]:
        """Return the ids of the steps of this `each`."""
        return [f"{each}.{index}" for index in range(self.steps)]

    def sizes(self) -> list[int]:
        """Return the number of items of each step."""
        size = self.chunk or 1
        return [min(size, self.count - first) for first in range(0, self.count, size)]

    def encode(self) -> msgspec.Raw:
        """Return the result of the `each`."""
        return msgspec.Raw(b"[%d,%d]" % (self.count, self.chunk) if self.chunk else b"%d" % self.count)


def decode_items(step: str, result: bytes | msgspec.Raw) -> EachItems:
    """Return what the result of an `each` says. Raises BadOutcome."""
    try:
        found = _number_decoder.decode(result)
    except UNREADABLE:
        found = -1
    items = EachItems(found) if isinstance(found, int) else EachItems(*found)
    if not 0 <= items.count <= MOST_ITEMS or not 0 <= items.chunk <= MAX_CHUNK:
        raise BadOutcome(f"the result of step {step} is no number of items")
    return items


def split_chunk_result(step: str, result: bytes | msgspec.Raw, size: int) -> list[msgspec.Raw]:
    """Return the results of the items in the result of a chunk that has so many. Raises BadOutcome."""
    try:
        found = _list_decoder.decode(result)
    except UNREADABLE as error:
        raise BadOutcome(f"the results of the chunk {step} cannot be read: {error}") from None
    if len(found) != size:
        raise BadOutcome(f"the chunk {step} has {size} items, and {len(found)} results")
    return found


def chunk_size(wanted: int | None, count: int) -> int:
    """Return how many of `count` items go into a step; 0 where each is a step. `wanted` is what the flow says, None if
    it leaves that open."""
    if wanted is not None:
        return 0 if wanted == 1 else wanted
    return 0 if count <= MOST_ALONE else -(-count // MOST_ALONE)


def fitting_chunk(chunk: int, elements: Sequence[bytes], room: int) -> int:
    """Return the size of chunks whose elements have at most so many bytes: the one given, or half of it as often as it
    takes, at least 1."""
    room = min(room, ITEM_ROOM)
    while chunk > 1 and any(
        sum(map(len, elements[first : first + chunk])) + chunk > room for first in range(0, len(elements), chunk)
    ):
        chunk //= 2
    return chunk
