"""One piece of work on its way through a pool."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Job(Generic[T]):
    """One piece of work. Exactly one side gets it: a slot of the pool that claims it, or a caller that withdraws it."""

    __slots__ = ("_token", "item")

    def __init__(self, item: T) -> None:
        self.item = item
        self._token = [None]

    def claim(self) -> bool:
        """True for the first caller only, from whatever thread."""
        try:
            self._token.pop()
        except IndexError:
            return False
        return True
