"""The results of `task.map`: pipelined, in order, with bounded memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Final, Generic, TypeVar, cast

from herdmaster.api.feeding import Feeder, Piece
from herdmaster.api.future import Future
from herdmaster.api.in_loop import refuse_in_loop
from herdmaster.api.progress_bar import ProgressBar
from herdmaster.errors import ConfigurationError

R = TypeVar("R")

DEFAULT_WINDOW: Final = 1000
_CHUNKS_AHEAD: Final = 8


class Failed:
    """An item's error, in its place."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


class Results(Generic[R]):
    """Iterate it once, with `for` or with `async for`. Nothing is submitted before that."""

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
        self._count = 0  # of the items in them

    def __iter__(self) -> Iterator[R]:
        refuse_in_loop("`for` over the results of map", "async for")
        feeder = self._take_feeder()
        try:
            while self._fill(feeder):
                future = future_of(self._under_way[0])
                if future is not None:
                    future.failure(self._timeout)  # waits; what the task raised is raised below
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
                raise future.still_pending(self._timeout) from None
            raise

    def _fill(self, feeder: Feeder) -> bool:
        """Submits until the window is full; False when there is nothing more to wait for."""
        while not self._under_way or self._count + self._chunksize <= self._window:
            piece = feeder.next_piece()
            if piece is None:
                break
            self._under_way.append(piece)
            self._count += piece.count
        return bool(self._under_way)

    def _take_values(self) -> Iterator[object]:
        """Of the piece that is first, which has ended."""
        for value in values_of(self._under_way[0]):
            self._bar.advance()
            yield value
        self._count -= self._under_way.popleft().count

    def _given(self, value: object) -> R:
        """What an item is given as. The claim that it is an R is that of the function's hints."""
        if not isinstance(value, Failed):
            return cast("R", value)
        if self._return_exceptions:
            return cast("R", value.error)
        raise value.error

    def _let_go(self) -> None:
        # Tasks cannot be taken back, but their outcomes can be collected.
        self._bar.close()
        for piece in self._under_way:
            future = future_of(piece)
            if future is not None:
                future.keep()
        self._under_way.clear()


def future_of(piece: Piece) -> Future[object] | None:
    return piece.future if piece.chunk is None else cast("Future[object]", piece.chunk)


def values_of(piece: Piece) -> Iterator[object]:
    """What each item of an ended piece gave, or Failed."""
    future = future_of(piece)
    error = piece.error if future is None else future.failure()
    if error is not None:
        assert isinstance(error, Exception)
        for _ in range(piece.count):
            yield Failed(error)
    elif piece.chunk is not None:
        results = piece.chunk.result()
        for position in range(piece.count):
            try:
                value = results.read(position)
            except Exception as failure:  # noqa: BLE001 - what the item's code raised
                yield Failed(failure)
            else:
                yield value
    elif future is not None:
        yield future.result()
