"""The only place where the server reads time and randomness. Tests give it their own."""

from __future__ import annotations

import time
from typing import NamedTuple, Protocol


class Instant(NamedTuple):
    """A moment on both clocks, in milliseconds: `monotonic` for expiry, `unix` for what znodes show."""

    monotonic: int
    unix: int


class Clock(Protocol):
    def now(self) -> Instant: ...


class SystemClock:
    def now(self) -> Instant:
        return Instant(time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)


class MovableClock:
    """Another clock, moved forward by hand."""

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


def first_zxid(unix_ms: int) -> int:
    """Where a server without a past begins to count: above every zxid that another one issued before, for clients
    refuse to go back in time. The seconds stand in the high 32 bits, as an epoch does; the milliseconds, at the top of
    the low ones, tell two starts within a second apart."""
    seconds, milliseconds = divmod(unix_ms, 1000)
    return (seconds & 0x7FFFFFFF) << 32 | milliseconds << 22
