"""Marks on tasks: something is under way about them, or they are postponed."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

MarkT = TypeVar("MarkT")


class Marks(Generic[MarkT]):
    """The keys that nothing is to be decided about now. A key is the name of a task or, in the dispatcher, of a worker.

    A key has at most one mark: what is under way about it, or the time until which it is postponed.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, MarkT] = {}
        self._postponed: set[str] = set()
        self._times: list[tuple[float, str]] = []  # a heap: until when each key is postponed

    def __contains__(self, key: str) -> bool:
        return key in self._under_way or key in self._postponed

    @property
    def under_way(self) -> int:
        """The number of keys that something is under way about."""
        return len(self._under_way)

    def get(self, key: str) -> MarkT | None:
        """Return what is under way about the key."""
        return self._under_way.get(key)

    def begin(self, key: str, mark: MarkT) -> None:
        self._under_way[key] = mark

    def end(self, key: str) -> MarkT | None:
        """Return what was under way."""
        return self._under_way.pop(key, None)

    def postpone(self, key: str, until: float) -> MarkT | None:
        """End what is under way and return it; keep the key marked until then."""
        self._postponed.add(key)
        heapq.heappush(self._times, (until, key))
        return self._under_way.pop(key, None)

    def clear(self, key: str) -> None:
        """Let go of a key whose time has not come yet."""
        self._postponed.discard(key)

    def release(self, now: float) -> Iterator[str]:
        """Yield the keys whose time has come, each after its mark was taken away."""
        while self._times and self._times[0][0] <= now:
            _, key = heapq.heappop(self._times)
            self._postponed.discard(key)
            yield key

    def next_release(self) -> float | None:
        """Return when the first of the postponed keys is released."""
        return self._times[0][0] if self._times else None
