"""Takes items from a source and submits them, one by one or in chunks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

from herdmaster.api.callee import Callee
from herdmaster.api.closing import HerdClosed
from herdmaster.api.future import Future
from herdmaster.api.options import TaskOptions
from herdmaster.api.reading import ChunkResults
from herdmaster.core.chunk import ITEM_ROOM, MAX_ITEMS
from herdmaster.errors import ConfigurationError, HerdError

Arguments = tuple[object, ...]


class Submitter(Protocol):
    """What a Herd is here. Errors of a submission become the future's."""

    def begin_task(
        self, callee: Callee, args: Arguments, kwargs: dict[str, object], options: TaskOptions, /
    ) -> Future[object]: ...

    def begin_chunk(
        self, callee: Callee, items: list[msgspec.Raw], options: TaskOptions, /
    ) -> Future[ChunkResults]: ...


class Piece:
    """What became of the next items of the source: a task under way for one or for `count` of them, or an error in the
    place of one."""

    __slots__ = ("chunk", "count", "error", "future")

    def __init__(
        self,
        future: Future[object] | None = None,
        chunk: Future[ChunkResults] | None = None,
        count: int = 1,
        error: Exception | None = None,
    ) -> None:
        self.future = future
        self.chunk = chunk
        self.count = count
        self.error = error


class Feeder:
    """Reads no further than it was asked for. `chunksize` items go into one task, fewer where they would be too many
    bytes."""

    def __init__(
        self, herd: Submitter, callee: Callee, options: TaskOptions, items: Iterator[Arguments], chunksize: int
    ) -> None:
        """Raises ConfigurationError."""
        if not 1 <= chunksize <= MAX_ITEMS:
            raise ConfigurationError(f"chunksize={chunksize}: from 1 to {MAX_ITEMS} items make a chunk")
        if chunksize > 1 and options.key is not None:
            raise ConfigurationError("key= is for tasks of one item: leave it or `chunksize` out")
        if options.ignore_result:
            raise ConfigurationError("map gives results, and ignore_result=True keeps none: use submit_many")
        self.chunksize: Final = chunksize
        self._herd = herd
        self._callee = callee
        self._options = options
        self._items = items
        self._carried: list[msgspec.Raw] = []  # it found no room in the chunk before
        self._next: deque[Piece] = deque()
        self._ended = False

    def next_piece(self) -> Piece | None:
        """Submits; None at the end of the source. After an error of the source there is nothing more."""
        if not self._next:
            if self.chunksize == 1:
                self._feed_one()
            else:
                self._feed_chunk()
        return self._next.popleft() if self._next else None

    def _take(self) -> Arguments | None:
        if self._ended:
            return None
        try:
            return next(self._items)
        except StopIteration:
            self._ended = True
        except Exception as error:  # noqa: BLE001 - the source is the caller's code
            self._ended = True
            self._next.append(Piece(error=error))
        return None

    def _feed_one(self) -> None:
        args = self._take()
        if args is not None:
            self._next.append(self._alone(args))

    def _alone(self, args: Arguments) -> Piece:
        try:
            return Piece(self._herd.begin_task(self._callee, args, {}, self._options))
        except HerdClosed as error:
            return self._end(error)
        except Exception as error:  # noqa: BLE001 - it may be that of a function given as `key=`
            return Piece(error=error)

    def _feed_chunk(self) -> None:
        chunk, self._carried = self._carried, []
        size = sum(map(len, chunk))
        after: Piece | None = None
        while len(chunk) < self.chunksize and after is None:
            args = self._take()
            if args is None:
                break
            try:
                item = self._callee.write_item(args)
            except HerdError as error:
                after = Piece(error=error)
                break
            length = len(memoryview(item)) + 1
            if length > ITEM_ROOM:
                after = self._alone(args)
            elif size + length > ITEM_ROOM:
                self._carried = [item]
                break
            else:
                chunk.append(item)
                size += length
        if chunk:
            self._next.appendleft(self._together(chunk))
        if after is not None:
            self._next.append(after)

    def _together(self, chunk: list[msgspec.Raw]) -> Piece:
        try:
            return Piece(chunk=self._herd.begin_chunk(self._callee, chunk, self._options), count=len(chunk))
        except HerdClosed as error:
            return self._end(error)
        except HerdError as error:
            return Piece(error=error, count=len(chunk))

    def _end(self, error: HerdClosed) -> Piece:
        """Nothing more can be submitted, so nothing more is taken."""
        self._ended = True
        self._carried.clear()
        return Piece(error=error)
