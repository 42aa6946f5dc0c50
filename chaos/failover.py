"""How long it takes from the end of a primary to the next assignment, again and again, under load."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Iterator
from functools import partial
from typing import Final

import msgspec

from chaos.history import Assignment, Historian, History
from chaos.stage import Stage

SIGNALS: Final = (signal.SIGKILL, signal.SIGTERM)
_POLL: Final = 0.02
_STEADY_SECONDS: Final = 0.5


class Takeovers(msgspec.Struct, frozen=True):
    """Seconds from the signal to the first assignment by the next primary, by the transactions' times."""

    signal: str
    seconds: tuple[float, ...]

    @property
    def summary(self) -> str:
        low, middle, high = min(self.seconds), statistics.median(self.seconds), max(self.seconds)
        return f"{self.signal:<10}{len(self.seconds):>6}{low:>8.2f} s{middle:>8.2f} s{high:>8.2f} s"


class Failover:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._historian = stage.historian.fork()

    def repeat(self, times: int) -> Iterator[Takeovers]:
        """So many times with each signal. Raises Stuck."""
        for number in SIGNALS:
            yield Takeovers(number.name, tuple(self._once(number) for _ in range(times)))

    def _once(self, number: signal.Signals) -> float:
        stage = self._stage
        stage.cast.wait_whole()
        stage.wait(_STEADY_SECONDS)
        primary = stage.cast.primary()
        self._read_on()
        before = self._historian.fork()
        at = time.time()
        primary.send(number)
        first = stage.cast.wait_for(partial(self._first_assignment, before), "no other master assigns", poll=_POLL)
        seconds = first.at / 1000 - at
        stage.say(f"{number.name} to {primary.name}: the next assignment {seconds:.2f} s later")
        primary.kill()  # after SIGTERM it has ended by itself, or is about to
        primary.start()
        return seconds

    def _read_on(self) -> History:
        return self._historian.tell(self._stage.cast.logs.read(self._historian.last_zxid))

    def _first_assignment(self, before: Historian) -> Assignment | None:
        """The first that was not made by who was primary before."""
        return next((each for each in self._read_on().assignments if not before.is_primary(each.session)), None)
