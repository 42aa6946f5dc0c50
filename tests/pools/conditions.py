"""What the tests of all pools share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from herdmaster.pools.limits import Ended

T = TypeVar("T")
R = TypeVar("R")


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


class Deliveries(Generic[T, R]):
    """Keeps what a pool delivers, and when each batch came."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[T, R | Ended]]] = []

    def __call__(self, ended: list[tuple[T, R | Ended]]) -> None:
        self.batches.append(ended)

    @property
    def all(self) -> list[tuple[T, R | Ended]]:
        return [pair for batch in self.batches for pair in batch]

    @property
    def results(self) -> dict[T, R | Ended]:
        return dict(self.all)
