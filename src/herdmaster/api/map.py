"""`task.map`: takes items from a source, submits them one by one or in chunks, and gives the results in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Final, Generic, Protocol, TypeVar, cast

import msgspec

from herdmaster.api.callee import Callee
from herdmaster.api.errors import HerdClosed
from herdmaster.api.event_loops import refuse_in_loop
from herdmaster.api.future import Future, failure_of, still_pending
from herdmaster.api.internals import keep
from herdmaster.api.options import TaskOptions, refuse_children
from herdmaster.api.progress_bar import ProgressBar
from herdmaster.api.results import ChunkResults
from herdmaster.core.chunk import ITEM_ROOM, MAX_ITEMS
from herdmaster.errors import ConfigurationError, HerdError

Arguments = tuple[object, ...]


class Submitter(Protocol):
    """The part of `HerdCore` that `Feeder` uses. Errors of a submission become the future's."""

    def begin_task(
        self, callee: Callee, args: Arguments, kwargs: dict[str, object], options: TaskOptions, /
    ) -> Future[object]: ...

    def begin_chunk(
        self, callee: Callee, items: list[msgspec.Raw], options: TaskOptions, /
    ) -> Future[ChunkResults]: ...


class Piece:
    """The next items of the source: a task under way for one item, or for a chunk of `count` items, or an error."""

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
    """Submits the items of a source as they are asked for. `chunksize` items go into one task, fewer if they would be
    too many bytes."""

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
        refuse_children(options, "map")
        self.chunksize: Final = chunksize
        self._herd = herd
        self._callee = callee
        self._options = options
        self._items = items
        self._carried: list[msgspec.Raw] = []  # an item for which the last chunk had no room
        self._next: deque[Piece] = deque()
        self._ended = False

    def next_piece(self) -> Piece | None:
        """Submit the next piece; None at the end of the source. The source also ends when it raises an error."""
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
        except Exception as error:  # noqa: BLE001 - a function given as `key=` may raise anything
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
        """Take no further items, because no more can be submitted."""
        self._ended = True
        self._carried.clear()
        return Piece(error=error)


R = TypeVar("R")

DEFAULT_WINDOW: Final = 1000
_CHUNKS_AHEAD: Final = 8


class Failed:
    """The error of an item, in its place among the results."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


class Results(Generic[R]):
    """The results of `task.map`. Iterate them once, with `for` or `async for`; nothing is submitted before that."""

    def __init__(
        self,
        feeder: Feeder,
        *,
        window: int | None = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
        bar: ProgressBar | None = None,
    ) -> None:
        """At most `window` items are under way, by default 1000 or eight chunks. Raises ConfigurationError."""
        chunksize = feeder.chunksize
        if window is None:
            window = max(DEFAULT_WINDOW, _CHUNKS_AHEAD * chunksize)
        if window < 1:
            raise ConfigurationError(f"a window of {window}: it takes at least 1 task under way to get on")
        if window < chunksize:
            raise ConfigurationError(f"a window of {window} items has no room for a chunk of {chunksize}")
        self._feeder: Feeder | None = feeder
        self._chunksize = chunksize
        self._window = window
        self._timeout = timeout
        self._return_exceptions = return_exceptions
        self._bar = bar or ProgressBar(None, is_shown=False)
        self._under_way: deque[Piece] = deque()
        self._count = 0  # of items under way

    def __iter__(self) -> Iterator[R]:
        refuse_in_loop("`for` over the results of map", "async for")
        feeder = self._take_feeder()
        try:
            while self._fill(feeder):
                future = future_of(self._under_way[0])
                if future is not None:
                    failure_of(future, self._timeout)  # waits; what the task raised is raised below
                for value in self._take_values():
                    yield self._given(value)
        finally:
            self._let_go()

    async def __aiter__(self) -> AsyncIterator[R]:
        feeder = self._take_feeder()
        try:
            while self._fill(feeder):
                future = future_of(self._under_way[0])
                if future is not None:
                    await self._wait(future)
                for value in self._take_values():
                    yield self._given(value)
        finally:
            self._let_go()

    def _take_feeder(self) -> Feeder:
        feeder, self._feeder = self._feeder, None
        if feeder is None:
            raise RuntimeError("these results have been iterated already: call `map` again for new ones")
        self._bar.start()
        return feeder

    async def _wait(self, future: Future[object]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await future
        except Exception as error:
            if future.done():
                return  # what the task raised is raised in its place
            if isinstance(error, TimeoutError) and self._timeout is not None:
                raise still_pending(future.name, self._timeout) from None
            raise

    def _fill(self, feeder: Feeder) -> bool:
        """Submit until the window is full. Return False if there is nothing left to wait for."""
        while not self._under_way or self._count + self._chunksize <= self._window:
            piece = feeder.next_piece()
            if piece is None:
                break
            self._under_way.append(piece)
            self._count += piece.count
        return bool(self._under_way)

    def _take_values(self) -> Iterator[object]:
        """Yield the values of the first piece, which has ended, and remove it."""
        for value in values_of(self._under_way[0]):
            self._bar.advance()
            yield value
        self._count -= self._under_way.popleft().count

    def _given(self, value: object) -> R:
        """Return the result of an item, or raise its error. The hints of the function claim that the result is an R."""
        if not isinstance(value, Failed):
            return cast("R", value)
        if self._return_exceptions:
            return cast("R", value.error)
        raise value.error

    def _let_go(self) -> None:
        # Submitted tasks go on, and their outcomes must still be collected.
        self._bar.close()
        for piece in self._under_way:
            future = future_of(piece)
            if future is not None:
                keep(future)
        self._under_way.clear()


def future_of(piece: Piece) -> Future[object] | None:
    """Return the future of the task of a piece, if it has one."""
    return piece.future if piece.chunk is None else cast("Future[object]", piece.chunk)


def values_of(piece: Piece) -> Iterator[object]:
    """Yield the result of each item of a piece that has ended, Failed for an item that failed."""
    future = future_of(piece)
    error = piece.error if future is None else failure_of(future)
    if error is not None:
        assert isinstance(error, Exception)
        for _ in range(piece.count):
            yield Failed(error)
    elif piece.chunk is not None:
        results = piece.chunk.result()
        for position in range(piece.count):
            try:
                value = results.read(position)
            except Exception as failure:  # noqa: BLE001 - the item's code may raise anything
                yield Failed(failure)
            else:
                yield value
    elif future is not None:
        yield future.result()
