"""The results of `task.map`: pipelined, in order, with bounded memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, Generic, TypeVar

from herdmaster.api.acceptance import refuse_in_loop
from herdmaster.api.future import Future
from herdmaster.errors import ConfigurationError

R = TypeVar("R")
Begin = Callable[[tuple[object, ...]], Future[R]]

DEFAULT_WINDOW: Final = 1000


class Results(Generic[R]):
    """Iterate it once, with `for` or with `async for`. Nothing is submitted before that."""

    def __init__(
        self, begin: Begin[R], items: Iterator[tuple[object, ...]], *, window: int, timeout: float | None
    ) -> None:
        """Raises ConfigurationError."""
        if window < 1:
            raise ConfigurationError(f"a window of {window}: it takes at least 1 task under way to get on")
        self._begin = begin
        self._items: Iterator[tuple[object, ...]] | None = items
        self._window = window
        self._timeout = timeout
        self._under_way: deque[Future[R]] = deque()
        self._fault: Exception | None = None

    def __iter__(self) -> Iterator[R]:
        refuse_in_loop("`for` over the results of map", "async for")
        items = self._take_items()
        try:
            while self._fill(items):
                yield self._under_way[0].result(self._timeout)
                del self._under_way[0]
        finally:
            self._let_go()

    async def __aiter__(self) -> AsyncIterator[R]:
        items = self._take_items()
        try:
            while self._fill(items):
                yield await self._result(self._under_way[0])
                del self._under_way[0]
        finally:
            self._let_go()

    def _take_items(self) -> Iterator[tuple[object, ...]]:
        items, self._items = self._items, None
        if items is None:
            raise RuntimeError("these results have been iterated already: call `map` again for new ones")
        return items

    async def _result(self, future: Future[R]) -> R:
        if self._timeout is None or future.done():
            return await future
        try:
            async with asyncio.timeout(self._timeout):
                return await future
        except TimeoutError:
            if future.done():
                raise  # the task's own
        raise future.still_pending(self._timeout)

    def _fill(self, items: Iterator[tuple[object, ...]]) -> bool:
        """Submits until the window is full; False when there is nothing more to wait for.

        What is wrong with an item (or with the source) is raised in its place, after the results of those before it.
        """
        while self._fault is None and len(self._under_way) < self._window:
            try:
                self._under_way.append(self._begin(next(items)))
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001 - the source is the caller's code
                self._fault = error
        if not self._under_way and self._fault is not None:
            raise self._fault
        return bool(self._under_way)

    def _let_go(self) -> None:
        # Tasks cannot be taken back, but their outcomes can be collected.
        for future in self._under_way:
            future.keep()
        self._under_way.clear()
