"""Make the faults of a plan happen at their times."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from herdmaster.simulation.checks.trace import Trace
from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.faults import Fault
from herdmaster.simulation.world.loop import VirtualLoop
from herdmaster.simulation.world.network import Endpoint
from herdmaster.simulation.world.operators import Operators
from herdmaster.simulation.world.pauses import FaultWindow
from herdmaster.simulation.world.program_faults import ProgramFaults
from herdmaster.simulation.world.server_faults import ServerFaults


class FaultInjection:
    """Triggers each fault at its time, after its transaction or before its step. `counts` has the number of faults
    by kind."""

    def __init__(
        self,
        loop: VirtualLoop,
        trace: Trace,
        window: FaultWindow,
        *,
        programs: ProgramFaults,
        server: ServerFaults,
        operators: Operators,
    ) -> None:
        self.counts: dict[str, int] = {}
        self._loop = loop
        self._trace = trace
        self._window = window
        self._programs = programs
        self._server = server
        self._operators = operators
        self._by_transaction: dict[int, list[Fault]] = {}
        self._by_step: dict[str, list[faults.ProgramFault]] = {}

    def schedule(self, planned: Iterable[Fault]) -> None:
        """Take the faults of the plan."""
        for fault in planned:
            when = fault.when
            if when.step and isinstance(fault, faults.ProgramFault):
                self._by_step.setdefault(fault.program, []).append(fault)
            elif when.transaction:
                self._by_transaction.setdefault(when.transaction, []).append(fault)
            else:
                self._loop.call_world(when.at + when.later, self._trigger, fault, "")

    def process_started(self, process: Endpoint) -> None:
        """Set the trap for the next step fault of a program: each of its processes gets one."""
        waiting = self._by_step.get(process.host)
        if waiting:
            fault = waiting.pop(0)
            process.trap = fault.when.step
            process.trapped = partial(self._trigger, fault, "")

    def transaction_applied(self, process: Endpoint, count: int) -> None:
        """Trigger the faults of a transaction, which the process has asked for."""
        loop = self._loop
        for fault in self._by_transaction.pop(count, ()):
            if fault.when.later:
                loop.call_world(loop.now + fault.when.later, self._trigger, fault, process.host)
            else:  # soon, but not in the middle of the server's code
                loop.run_as(loop.world, partial(loop.call_soon, self._trigger, fault, process.host))

    def stop(self) -> None:
        """Let no more faults happen."""
        self._window.is_closed = True
        self._by_transaction.clear()

    def _trigger(self, fault: Fault, requester: str) -> None:
        """Apply a fault. `requester` is the program that asked for the transaction, if the fault waited for one."""
        if self._window.is_closed:
            return
        self._trace.add("fault", "%s", f"{fault}{f' (of {requester})' if requester else ''}")
        if isinstance(fault, faults.ProgramFault):
            if not self._programs.apply(fault, fault.program or requester):
                return
        elif isinstance(fault, faults.RestartServer | faults.PauseServer):
            self._server.apply(fault)
        else:
            self._operators.apply(fault)
        kind = type(fault).__name__
        self.counts[kind] = self.counts.get(kind, 0) + 1
