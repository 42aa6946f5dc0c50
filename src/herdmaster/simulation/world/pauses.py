"""Pause processes, and track until when faults have effects."""

from __future__ import annotations

from herdmaster.simulation.checks.trace import Trace
from herdmaster.simulation.world.loop import Owner, VirtualLoop


class FaultWindow:
    """The time in which faults happen. `quiet_at` is when the last effect that lasts for a while is over."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.quiet_at = 0.0
        self.is_closed = False
        """No more faults happen."""
        self._loop = loop

    def extend(self, seconds: float) -> None:
        """Note an effect that lasts for so long from now on."""
        self.quiet_at = max(self.quiet_at, self._loop.now + seconds)


class Pauses:
    """Pauses processes and lets them continue."""

    def __init__(self, loop: VirtualLoop, trace: Trace, window: FaultWindow) -> None:
        self._loop = loop
        self._trace = trace
        self._window = window

    def pause(self, owner: Owner, seconds: float, *, io_first: bool, sleeps: bool = False) -> None:
        """Pause a process, unless it is paused already. With `sleeps` its machine sleeps, and its timers are late."""
        if owner.paused:
            return
        self._window.extend(seconds)
        owner.paused = True
        lag = seconds if sleeps else 0.0
        self._loop.call_world(self._loop.now + seconds, self._continue, owner, lag, io_first)

    def _continue(self, owner: Owner, lag: float, io_first: bool) -> None:
        self._trace.add(owner.name, "goes on")
        owner.lag += lag
        self._loop.thaw(owner, io_first=io_first)
