"""The supervisor: starts, kills, stops and restarts the programs of the world."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import msgspec

from herdmaster.simulation.checks.trace import Trace
from herdmaster.simulation.plan.plan import Program
from herdmaster.simulation.world.leftovers import find_left_task, find_left_timer
from herdmaster.simulation.world.loop import Handle, VirtualLoop
from herdmaster.simulation.world.process import Process
from herdmaster.simulation.world.program_state import ProgramState
from herdmaster.zookeeper.errors import NoServerReachable

RESTART_SECONDS: Final = 0.5


class Launcher(Protocol):
    """Runs the code of programs."""

    async def run(self, state: ProgramState, process: Process) -> None:
        """Run a program in a process until it ends."""


class Supervisor:
    """Has the state of all programs. `on_start` is called with each new process; `fail` with what a process does
    wrong when it ends."""

    def __init__(
        self,
        loop: VirtualLoop,
        trace: Trace,
        states: dict[str, ProgramState],
        seed: object,
        *,
        launcher: Launcher,
        on_start: Callable[[Process], None],
        fail: Callable[[str], None],
    ) -> None:
        self.states = states
        self.processes: list[Process] = []
        self._loop = loop
        self._trace = trace
        self._seed = seed
        self._launcher = launcher
        self._on_start = on_start
        self._fail = fail

    def add(self, program: Program) -> ProgramState:
        """Add a program, which is not started yet."""
        state = self.states[program.name] = ProgramState(program)
        return state

    def duplicate(self, state: ProgramState, name: str) -> ProgramState:
        """Add and start the same program under another name."""
        copy = self.add(msgspec.structs.replace(state.program, name=name))
        self.start(copy)
        return copy

    def start(self, state: ProgramState) -> None:
        """Start a new process of a program, unless one runs or none is wanted."""
        if state.is_running or not state.wanted:
            return
        state.life += 1
        state.hung_since = None
        state.role = state.given_up = None
        process = Process(self._loop, state.name, state.life, self._seed, skew_ms=state.program.skew_ms)
        state.process = process
        self.processes.append(process)
        self._trace.add(process.name, "starts")
        self._on_start(process)
        process.start(partial(self._launcher.run, state, process), partial(self._ended, state, process))

    def kill(self, state: ProgramState, *, power: bool, restart_seconds: float) -> None:
        """Kill the process of a program, and start the program again later."""
        process = state.process
        if process is not None and state.is_running:
            self._trace.add(process.name, "loses power" if power else "is killed")
            process.kill(power=power)
            self._start_in(restart_seconds, state)

    def stop(self, state: ProgramState, restart_seconds: float | None) -> None:
        """Tell a program to stop. With None it does not start again."""
        process, role = state.process, state.role
        state.wanted = state.wanted and restart_seconds is not None
        if process is None or not state.is_running:
            return
        state.restart_seconds = restart_seconds
        if role is None:  # the process does not handle signals yet
            self.kill(state, power=False, restart_seconds=restart_seconds or 0.0)
            return
        self._trace.add(process.name, "is told to stop")
        self._loop.run_as(process, lambda: self._loop.call_soon(role.stop))

    def _ended(self, state: ProgramState, process: Process, error: BaseException | None) -> None:
        self._trace.add(process.name, "has ended%s", "" if error is None else f": {error}")
        if error is not None and not isinstance(error, NoServerReachable):
            self._fail(f"{process.name} raised {type(error).__name__}: {error}")
        for wire in list(process.wires):
            wire.close_from_client()
        fault = find_left_task(process)
        if fault is not None:
            self._fail(fault)
        self._loop.call_world(self._loop.now, self._check_timers, process, self._loop.pending_of(process))
        process.alive = False
        if state.wanted:
            pause = RESTART_SECONDS if error is not None or state.restart_seconds is None else state.restart_seconds
            state.restart_seconds = None
            self._start_in(pause, state)

    def _check_timers(self, process: Process, handles: list[Handle]) -> None:
        """Check handles that were pending at the end, once callbacks that were due have run or cancelled them."""
        fault = find_left_timer(process, handles)
        if fault is not None:
            self._fail(fault)

    def _start_in(self, seconds: float, state: ProgramState) -> None:
        self._loop.call_world(self._loop.now + seconds, self.start, state)
