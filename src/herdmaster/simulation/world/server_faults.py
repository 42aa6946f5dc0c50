"""The faults of the server."""

from __future__ import annotations

from herdmaster.simulation.checks.trace import Trace
from herdmaster.simulation.plan import faults
from herdmaster.simulation.world.loop import VirtualLoop
from herdmaster.simulation.world.pauses import FaultWindow, Pauses
from herdmaster.simulation.world.server import SimulatedServer


class ServerFaults:
    """Restarts and pauses the server."""

    def __init__(
        self, server: SimulatedServer, loop: VirtualLoop, trace: Trace, window: FaultWindow, pauses: Pauses
    ) -> None:
        self._server = server
        self._loop = loop
        self._trace = trace
        self._window = window
        self._pauses = pauses

    def apply(self, fault: faults.RestartServer | faults.PauseServer) -> None:
        if isinstance(fault, faults.PauseServer):
            self._pauses.pause(self._server.process, fault.seconds, io_first=True)
        elif self._server.is_listening:
            self._window.extend(fault.seconds)
            self._server.crash()
            self._loop.call_world(self._loop.now + fault.seconds, self._start, fault.clock_ms)

    def _start(self, clock_ms: int) -> None:
        self._trace.add("server", "is back")
        self._server.skew_ms += clock_ms
        self._server.start()
