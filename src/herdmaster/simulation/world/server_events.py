"""What the server reports: applied to the ledger and the trace, and checked where a session is concerned."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from herdmaster.simulation.checks.effects import Actor, Entry
from herdmaster.simulation.checks.ledger import Ledger
from herdmaster.simulation.checks.links import LinkCheck
from herdmaster.simulation.checks.trace import Trace
from herdmaster.simulation.world.network import Endpoint, Wire
from herdmaster.simulation.world.program_state import ProgramState
from herdmaster.zookeeper.wire.records import Auth, CloseSession, Record, Request


class ServerEvents:
    """The observer of the server. `applied` is called with the process behind each transaction and their number."""

    def __init__(
        self,
        states: Mapping[str, ProgramState],
        ledger: Ledger,
        trace: Trace,
        *,
        applied: Callable[[Endpoint, int], None],
        fail: Callable[[str], None],
    ) -> None:
        self._states = states
        self._ledger = ledger
        self._trace = trace
        self._applied = applied
        self._fail = fail
        self.links = LinkCheck(fail)
        self._closers: dict[Wire, None] = {}  # connections that were attached to a session that was given up

    def attached(self, session_id: int, wire: Wire) -> None:
        self.links.attached(session_id, wire)
        process = wire.process
        state = self._states[process.host]
        if state.given_up is not None and state.given_up.holds(session_id):
            self._closers[wire] = None
            owner = self._ledger.actors[session_id]
            if owner.name != process.name:
                self._fail(f"{process.name} attached to session {session_id:x} of {owner.name}")
        actor = Actor(process.name, process.host, state.program.kind, state.program.reference)
        self._ledger.actors[session_id] = actor
        self._ledger.history_counts.attached(process.name)
        self._trace.add(process.name, "has session %x", session_id)

    def asked(self, session_id: int, wire: Wire, request: Request[Record]) -> None:
        """Check that a session that was given up is only closed, with credentials if it needs them: its earlier
        requests have been reported as failed."""
        self.links.asked(session_id, wire, request)
        if wire in self._closers and not isinstance(request, (Auth, CloseSession)):
            self._fail(f"{wire.process.name} gave session {session_id:x} up, and asks for {request} in it")

    def applied(self, wire: Wire, count: int) -> None:
        self._applied(wire.process, count)

    def recorded(self, entry: Entry) -> None:
        effects = self._ledger.record(entry)
        actor = self._ledger.actors.get(entry.session_id)
        self._trace.add_effects("server" if actor is None else actor.name, effects)
