"""The ticks in `/ticks`, by the times that they are for."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

from herdmaster.core.layout import NEVER, TickName, parse_tick_name
from herdmaster.core.offers import Offers

_MIN_VOIDS: Final = 64


class Ticks(Offers[TickName]):
    """The ticks of all schedules, each with its znode's name as key. The name says when it is due, so nothing has to be
    read before that. Ticks that are never due are only counted."""

    def __init__(self) -> None:
        super().__init__()
        self._ticks: dict[str, TickName] = {}
        self._sleeping = 0  # those in `_ticks` that are never due
        self._heap: list[tuple[int, str]] = []  # every tick on offer, and some that have left or are marked

    def __len__(self) -> int:
        return len(self._ticks)

    def __contains__(self, name: str) -> bool:
        return name in self._ticks

    # --- listings and events -----------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        self.is_current = False

    def complete(self) -> None:
        self.is_current = True

    def replace(self, names: Iterable[str]) -> None:
        """Replace the picture by a listing."""
        known, self._ticks = self._ticks, {}
        self._sleeping = 0
        self._heap = []
        for name in names:
            tick = known.get(name) or parse_tick_name(name)
            if tick is None:
                self._foreign.add(name)
            elif self._enter(name, tick):
                self._heap.append((tick.due_ms, name))
        heapq.heapify(self._heap)

    def add(self, name: str) -> None:
        tick = parse_tick_name(name)
        if tick is None:
            self._foreign.add(name)
        elif name not in self._ticks and self._enter(name, tick):
            heapq.heappush(self._heap, (tick.due_ms, name))

    def remove(self, name: str) -> None:
        tick = self._ticks.pop(name, None)
        if tick is None:
            return
        self._sleeping -= tick.due_ms == NEVER
        self._marks.clear(name)  # a tick that is edited may come back under its name, and is not postponed then
        if len(self._heap) > 2 * len(self._ticks) + _MIN_VOIDS:
            self._heap = [each for each in dict.fromkeys(self._heap) if each[1] in self._ticks]
            heapq.heapify(self._heap)

    def _enter(self, name: str, tick: TickName) -> bool:
        """Return whether the tick is due at some time."""
        self._ticks[name] = tick
        self._sleeping += tick.due_ms == NEVER
        return tick.due_ms != NEVER

    # --- what is due -------------------------------------------------------------------------------------------------

    def take_due(self, now_ms: int, room: int) -> list[tuple[str, TickName]]:
        """Take at most `room` ticks that are due from the offer, the most overdue first. Return them by name."""
        due: list[tuple[str, TickName]] = []
        while self.is_current and len(due) < room:
            first = self._first()
            if first is None or first[0] > now_ms:
                break
            heapq.heappop(self._heap)
            name = first[1]
            self._marks.begin(name, self._ticks[name])
            due.append((name, self._ticks[name]))
        return due

    def next_due_ms(self) -> int | None:
        """Return when the first tick on offer is due."""
        first = self._first() if self.is_current else None
        return None if first is None else first[0]

    @property
    def active(self) -> int:
        """The number of schedules that are due at some time."""
        return len(self._ticks) - self._sleeping

    def _first(self) -> tuple[int, str] | None:
        """Return the first tick on offer. What has left or is marked leaves the heap; `_offer` puts it back."""
        while self._heap and (self._heap[0][1] in self._marks or self._heap[0][1] not in self._ticks):
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None

    def _offer(self, key: str) -> None:
        tick = self._ticks.get(key)
        if tick is not None and tick.due_ms != NEVER and key not in self._marks:
            heapq.heappush(self._heap, (tick.due_ms, key))

    def _is_still_there(self, key: str) -> bool:
        return key in self._ticks
