"""Submissions whose acceptance is not known yet, and how long each may take."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from herdmaster.api.order import Order
from herdmaster.errors import HerdError, NotSubmitted

Settled = Callable[[HerdError | None], None]
"""Called once, in the loop's thread, with None when the task was accepted. It must not block."""


class Submitting(msgspec.Struct, frozen=True):
    order: Order
    settled: Settled | None


class Unsettled:
    """By name. `give_up(name)` is called for those that take too long. Of the loop's thread alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop, give_up: Callable[[str], None]) -> None:
        self._loop = loop
        self._give_up = give_up
        self._known: dict[str, Submitting] = {}
        self._due: deque[tuple[float, str]] = deque()  # until when each may take, in order
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._known))

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def add(self, submitting: Submitting) -> None:
        self._known[submitting.order.task.name] = submitting

    def limit(self, name: str, seconds: float) -> None:
        """From now on. The seconds never change, so that what comes later is due later."""
        self._due.append((self._loop.time() + seconds, name))
        if self._timer is None:
            self._timer = self._loop.call_at(self._due[0][0], self._give_up_late_ones)

    def pop(self, name: str) -> Submitting | None:
        found = self._known.pop(name, None)
        while self._due and self._due[0][1] not in self._known:
            self._due.popleft()
        return found

    def _give_up_late_ones(self) -> None:
        now = self._loop.time()
        while self._due and self._due[0][0] <= now:
            self._give_up(self._due.popleft()[1])
        self._timer = self._loop.call_at(self._due[0][0], self._give_up_late_ones) if self._due else None


def explain(name: str, error: HerdError, fault: HerdError | None, *, is_over: bool) -> HerdError:
    """Why a task was not accepted, as far as this side knows: the Herd was closed, or there is no session."""
    if type(error) is not NotSubmitted:
        return error
    if is_over:
        return NotSubmitted(f"{name} was not accepted before the Herd was closed")
    return error if fault is None else NotSubmitted(f"{error} ({fault})")
