"""The clock of the server: nothing else in it reads the time. Tests give it another one."""

from __future__ import annotations

import time
from typing import Protocol

from herdmaster.zookeeper.server.instant import Instant, first_zxid

__all__ = ["Clock", "Instant", "MovableClock", "SystemClock", "first_zxid"]


class Clock(Protocol):
    def now(self) -> Instant: ...


class SystemClock:
    def now(self) -> Instant:
        return Instant(time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)


class MovableClock:
    """A clock that can be moved forward by hand."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = 0

    def now(self) -> Instant:
        monotonic, unix = self._clock.now()
        return Instant(monotonic + self._offset, unix + self._offset)

    def advance(self, milliseconds: int) -> None:
        if milliseconds < 0:
            raise ValueError("time moves forward only: give a number of milliseconds that is not negative")
        self._offset += milliseconds
