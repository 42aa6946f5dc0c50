"""What is to be decided again at a later time, by name."""

from __future__ import annotations

import heapq
from collections.abc import Iterator


class Postponed:
    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._names: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, until: float) -> None:
        self._names.add(name)
        heapq.heappush(self._heap, (until, name))

    def take_due(self, now: float) -> Iterator[str]:
        while self._heap and self._heap[0][0] <= now:
            _, name = heapq.heappop(self._heap)
            self._names.discard(name)
            yield name

    @property
    def next(self) -> float | None:
        """When the first is due."""
        return self._heap[0][0] if self._heap else None
