"""The results of `task.map`: pipelined, in order, with bounded memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, Generic, TypeVar

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
        self._items = items
        self._window = window
        self._timeout = timeout
        self._under_way: deque[Future[R]] = deque()

    def __iter__(self) -> Iterator[R]:
        try:
            while self._fill():
                yield self._under_way[0].result(self._timeout)
                del self._under_way[0]
        finally:
            self._let_go()

    async def __aiter__(self) -> AsyncIterator[R]:
        try:
            while self._fill():
                async with asyncio.timeout(self._timeout):
                    result = await self._under_way[0]
                yield result
                del self._under_way[0]
        finally:
            self._let_go()

    def _fill(self) -> bool:
        """Submits until the window is full; False when there is nothing more to wait for."""
        while len(self._under_way) < self._window:
            try:
                self._under_way.append(self._begin(next(self._items)))
            except StopIteration:
                break
        return bool(self._under_way)

    def _let_go(self) -> None:
        # Tasks cannot be taken back, but their outcomes can be: a callback keeps each future until it has its own.
        for future in self._under_way:
            if not future.done():
                future.add_done_callback(_ignore)
        self._under_way.clear()


def _ignore(_future: object) -> None:
    """Keeps a future alive by being its callback."""
