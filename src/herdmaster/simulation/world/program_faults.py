"""The faults of one program: of its process, its clock, its connections and its session."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.plan import Kind
from herdmaster.simulation.world.loop import VirtualLoop
from herdmaster.simulation.world.network import Network, Wire
from herdmaster.simulation.world.pauses import FaultWindow, Pauses
from herdmaster.simulation.world.process import Process
from herdmaster.simulation.world.program_state import ProgramState
from herdmaster.simulation.world.supervisor import Supervisor

_FULL_SECONDS: Final = 6.0
_LOOK_SECONDS: Final = 0.005


class Sessions(Protocol):
    """Whose sessions there are."""

    @property
    def primary_program(self) -> str | None:
        """The program whose session owns `/master`."""
        ...

    def sessions_of(self, process: str) -> list[int]:
        """Return the open sessions of a process."""
        ...


class ProgramFaults:
    """Applies faults to programs. `expire` ends a session of a process early; `addresses` are those of the servers."""

    def __init__(
        self,
        supervisor: Supervisor,
        network: Network,
        addresses: tuple[str, ...],
        sessions: Sessions,
        loop: VirtualLoop,
        window: FaultWindow,
        pauses: Pauses,
        *,
        expire: Callable[[Process, int], None],
    ) -> None:
        self._supervisor = supervisor
        self._network = network
        self._addresses = addresses
        self._sessions = sessions
        self._loop = loop
        self._window = window
        self._pauses = pauses
        self._expire = expire
        self._duplicates = 0

    def apply(self, fault: faults.ProgramFault, name: str) -> bool:
        """Apply a fault to a program. Return False if the program is not running."""
        state = self._supervisor.states[name]
        if not state.is_running or state.process is None:
            return False
        process = state.process
        match fault:
            case faults.Crash() | faults.Leave() | faults.StartDuplicate():
                self._apply_to_life(fault, state)
            case faults.Pause() | faults.Sleep() | faults.PauseFull() | faults.LeaveUnseen():
                self._apply_to_execution(fault, state, process)
            case faults.JumpClock(milliseconds=milliseconds):
                process.skew_ms += milliseconds
            case faults.Expire():
                for session_id in self._sessions.sessions_of(process.name):
                    self._expire(process, session_id)
            case faults.Partition(seconds=seconds, everywhere=everywhere):
                self._partition(process, seconds, everywhere=everywhere)
            case _:
                wires = list(process.wires)
                if wires:
                    self._apply_to_wire(fault, wires[-1])
        return True

    # --- start and stop ----------------------------------------------------------------------------------------------

    def _apply_to_life(self, fault: faults.Crash | faults.Leave | faults.StartDuplicate, state: ProgramState) -> None:
        if isinstance(fault, faults.StartDuplicate) and (state.program.kind is Kind.CLIENT or "+" in state.name):
            return  # two clients would submit the same jobs
        self._window.extend(fault.seconds)
        match fault:
            case faults.Crash(seconds=seconds, power=power):
                self._supervisor.kill(state, power=power, restart_seconds=seconds)
            case faults.Leave(seconds=seconds):
                self._supervisor.stop(state, seconds)
            case faults.StartDuplicate(seconds=seconds):
                self._duplicates += 1
                duplicate = self._supervisor.duplicate(state, f"{state.name}+{self._duplicates}")
                self._loop.call_world(self._loop.now + seconds, self._supervisor.stop, duplicate, None)

    # --- pauses ------------------------------------------------------------------------------------------------------

    def _apply_to_execution(self, fault: faults.ProgramFault, state: ProgramState, process: Process) -> None:
        match fault:
            case faults.Pause(seconds=seconds, io_first=io_first):
                self._pauses.pause(process, seconds, io_first=io_first)
            case faults.Sleep(seconds=seconds, io_first=io_first):
                self._pauses.pause(process, seconds, io_first=io_first, sleeps=True)
            case faults.PauseFull(seconds=seconds, io_first=io_first):
                self._when_full(process, partial(self._pauses.pause, process, seconds, io_first=io_first))
            case faults.LeaveUnseen(seconds=seconds):
                self._when_full(process, partial(self._stop_unseen, state, seconds))

    def _when_full(self, process: Process, action: Callable[[], None], patience: float = _FULL_SECONDS) -> None:
        """Call `action` as soon as a task waits for a thread of the process, if that happens soon enough."""
        if self._window.is_closed or not process.alive:
            return
        if any(pool.is_full for pool in process.pools):
            action()
        elif patience > 0:
            again = (process, action, patience - _LOOK_SECONDS)
            self._loop.call_world(self._loop.now + _LOOK_SECONDS, self._when_full, *again)

    def _stop_unseen(self, worker: ProgramState, seconds: float) -> None:
        """Stop a worker while the primary is partitioned."""
        primary = self._supervisor.states.get(self._sessions.primary_program or "")
        if primary is None or primary.process is None:
            return
        self._partition(primary.process, seconds, everywhere=True)
        self._supervisor.stop(worker, seconds)

    # --- connections -------------------------------------------------------------------------------------------------

    def _partition(self, process: Process, seconds: float, *, everywhere: bool) -> None:
        self._window.extend(seconds)
        for address in self._addresses[: None if everywhere else 1]:
            self._network.partition(process, address, self._loop.now + seconds)

    def _apply_to_wire(self, fault: faults.ProgramFault, wire: Wire) -> None:
        match fault:
            case faults.Cut():
                wire.cut()
            case faults.CutInMessage(up=up):
                wire.cut_in(wire.up if up else wire.down)
            case faults.Silence(up=up, down=down):
                wire.silence(up=up or not down, down=down)
            case faults.Stall(seconds=seconds, up=up):
                self._window.extend(seconds)
                (wire.up if up else wire.down).hold(self._loop.now + seconds)
