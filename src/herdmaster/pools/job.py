"""One item on its way through a pool."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Job(Generic[T]):
    """One item of a pool. Exactly one side claims it: a slot of the pool, or a caller that withdraws it."""

    __slots__ = ("_token", "item")

    def __init__(self, item: T) -> None:
        self.item = item
        self._token = [None]

    def claim(self) -> bool:
        """Return True to the first caller only, on whatever thread."""
        try:
            self._token.pop()
        except IndexError:
            return False
        return True
