"""The end of a run: faults stop, everything settles, the system is idle, and all programs leave."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from herdmaster.core import layout
from herdmaster.roles.primary.master import Master
from herdmaster.roles.primary.sweeper import Ages
from herdmaster.roles.worker.worker import Worker
from herdmaster.simulation.checks.ledger import Ledger
from herdmaster.simulation.checks.trace import Trace
from herdmaster.simulation.plan.faults import ChangeFlow, Fault, FlowChange
from herdmaster.simulation.plan.jobs import Code
from herdmaster.simulation.plan.plan import Kind, Plan
from herdmaster.simulation.world.bookkeeping import find_miscount
from herdmaster.simulation.world.client_program import ClientProgram
from herdmaster.simulation.world.herd_program import HerdProgram
from herdmaster.simulation.world.loop import VirtualLoop
from herdmaster.simulation.world.operator import LITTER
from herdmaster.simulation.world.program_state import ProgramState
from herdmaster.simulation.world.supervisor import RESTART_SECONDS, Supervisor

_LOOK_SECONDS: Final = 0.25
_HANG_SECONDS: Final = 3.0
_LEAVE_SECONDS: Final = 120.0
_IDLE_SECONDS: Final = 8.0
_IDLE_WINDOWS: Final = 6
_LONGEST_LOOK: Final = 400.0
"""Until a client that was away looks for an outcome that was swept or removed meanwhile."""
_LOST_SECONDS: Final = 60.0
"""Until a primary has looked twice for a task that was deleted by hand, and workers have been asked for the function of
its next run, which has no payload."""
_RUNS_OF_PARENTS: Final = 4
"""How often the code of a parent may run again, of which each run submits its children anew."""
_LONGEST_LIFE: Final = 6.0
"""The longest time after which everything is swept, in times to live. A round of the sweep for keys takes at most one:
the outcome is deleted, its key is found without a task in two rounds, and the hold that was created to free the key is
found without a key in two more."""


class FaultSource(Protocol):
    """What makes faults happen."""

    def stop(self) -> None:
        """Let no more faults happen."""


class QuietTime(Protocol):
    @property
    def quiet_at(self) -> float:
        """When the last effect of a fault is over."""
        ...


class RequestCount(Protocol):
    @property
    def asked(self) -> int:
        """The number of requests that the server got."""
        ...


class Settling:
    """Runs the steps of the end, each of which schedules the next. `heal` ends all partitions."""

    def __init__(
        self,
        plan: Plan,
        loop: VirtualLoop,
        trace: Trace,
        supervisor: Supervisor,
        ledger: Ledger,
        server: RequestCount,
        faults: FaultSource,
        window: QuietTime,
        *,
        heal: Callable[[], None],
        fail: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._loop = loop
        self._trace = trace
        self._supervisor = supervisor
        self._ledger = ledger
        self._server = server
        self._faults = faults
        self._window = window
        self._heal = heal
        self._fail = fail
        self._deadline = 0.0
        self._doomed: dict[str, float] = {}  # children that have to be cancelled, and since when

    def begin(self) -> None:
        """Stop the faults, and go on once their effects are over."""
        self._faults.stop()
        if self._window.quiet_at > self._loop.now:
            self._loop.call_world(self._window.quiet_at, self.begin)
            return
        self._trace.add("world", "faults have stopped")
        self._heal()
        self._after(self._plan.lingers, self._stop_references)

    def _stop_references(self) -> None:
        self._stop_all(state for state in self._states() if state.program.reference)
        self._deadline = self._loop.now + self._settling_seconds()
        self._after(_LOOK_SECONDS, self._look)

    def _after(self, seconds: float, step: Callable[..., object], *args: object) -> None:
        self._loop.call_world(self._loop.now + seconds, step, *args)

    def _states(self) -> list[ProgramState]:
        return list(self._supervisor.states.values())

    def _stop_all(self, states: Iterable[ProgramState]) -> None:
        for state in states:
            self._supervisor.stop(state, None)

    # --- settling ----------------------------------------------------------------------------------------------------

    def _settling_seconds(self) -> float:
        """Return the time in which everything has to settle: sessions end, a primary is elected, tasks run. Each task
        that kills its worker does so several times."""
        plan = self._plan
        deadly = sum(1 for job in plan.all_jobs if job.code in (Code.HANG, Code.KILL) and job.times)
        late = max(0.0, max((job.at for job in plan.jobs), default=0.0) - self._loop.now)
        unseen = _LONGEST_LOOK if plan.ages.are_short or any(map(_removes, plan.faults)) else 0.0
        unseen += _LOST_SECONDS if plan.loses_steps else 0.0
        late = max(late, max((flow.at for flow in plan.flows), default=0.0) - self._loop.now)
        children = (job for flow in plan.flows if flow.parent is not None for job in flow.jobs)
        late += _RUNS_OF_PARENTS * sum(job.seconds * job.attempts for job in children)
        work = late + unseen + sum(job.seconds * job.attempts + (job.delay or 0.0) for job in plan.all_jobs)
        return (
            90.0 + 4 * plan.session_timeout + work + deadly * (plan.max_deliveries + 2) * (plan.session_timeout + 6.0)
        )

    def _cancelling_seconds(self) -> float:
        """Return the time in which the children of tasks that are cancelled have to end: a primary is elected, and
        carries the requests out, also those for what is below them."""
        return 20.0 + 3 * self._plan.session_timeout + self._plan.slowness

    def _look(self) -> None:
        """Look whether all has settled. Until then, kill workers in which a task has hung for a while."""
        now = self._loop.now
        for state in self._states():
            if state.hung_since is not None and now - state.hung_since > _HANG_SECONDS:
                state.hung_since = None
                self._supervisor.kill(state, power=False, restart_seconds=RESTART_SECONDS)
        self._doomed = {child: self._doomed.get(child, now) for child in self._ledger.children.unended()}
        late = [child for child, since in self._doomed.items() if now - since > self._cancelling_seconds()]
        if late:
            self._fail(f"not cancelled {self._cancelling_seconds():.0f} s after its parent: {late[0]}")
        waiting = self._ledger.unsettled() + self._waiting_clients() + self._sessions_of_the_dead()
        if not waiting:
            self._trace.add("world", "all has settled")
            self._watch_idleness(_IDLE_WINDOWS)
        elif now > self._deadline:
            seconds = self._settling_seconds()
            self._fail(f"not settled {seconds:.0f} s after the faults stopped: {'; '.join(waiting[:5])}")
        else:
            self._after(_LOOK_SECONDS, self._look)

    def _waiting_clients(self) -> list[str]:
        """Return the clients that have not submitted everything, or are still waiting."""
        found = []
        for state in self._states():
            if state.program.kind is not Kind.CLIENT or state.program.reference:
                continue
            if not state.is_running:
                found.append(f"{state.name} is not running")
            elif isinstance(state.role, (ClientProgram, HerdProgram)) and not state.role.is_settled:
                found.append(f"{state.name} is waiting")
        return found

    def _sessions_of_the_dead(self) -> list[str]:
        living = {process.name for state in self._states() if (process := state.process) is not None and process.alive}
        owners = [self._ledger.actors[session_id].name for session_id in self._ledger.open_sessions]
        return [f"a session of {name} has not ended" for name in owners if name not in living]

    # --- idleness ----------------------------------------------------------------------------------------------------

    def _watch_idleness(self, windows: int) -> None:
        self._after(_IDLE_SECONDS, self._check_idleness, self._server.asked, self._count_kept(), windows - 1)

    def _count_kept(self) -> int:
        """Count the znodes with a time to live: each is read, and when its time is over, read again and deleted."""
        folders = ("/status/", "/clients/", "/dead/", "/waiters/")
        return sum(1 for path in self._ledger.nodes if path.startswith(folders))

    def _check_idleness(self, asked_before: int, kept: int, windows: int) -> None:
        """Check that no role polls, or retries for ever what cannot succeed. Roles that have just started, or lost
        their primary, are busy for a while without any task; so only one of a few windows has to be quiet."""
        asked = self._server.asked - asked_before
        masters = sum(1 for state in self._states() if state.program.kind is Kind.MASTER and state.is_running)
        rounds = 1 + int(_IDLE_SECONDS / Ages(journal=self._plan.ages.journal).interval)  # of the sweeper
        limit = rounds * (10 + 3 * masters + 3 * kept)
        if asked <= limit:
            self._check_bookkeeping()
            self._stop_kind(Kind.CLIENT)
        elif windows:
            self._watch_idleness(windows)
        else:
            self._fail(f"{asked} requests in {_IDLE_SECONDS:.0f} s in which nothing was to be done")

    def _check_bookkeeping(self) -> None:
        """Check that the primary has counted right, that workers have written what they count, and that each key has
        its task, now that no message is in flight."""
        unjustified = self._ledger.keys.find_unjustified()
        if unjustified is not None:
            self._fail(unjustified)
        assigned, inboxes = self._ledger.inboxes()
        for state in self._states():
            if state.is_running and isinstance(state.role, Worker) and state.process is not None:
                fault = self._ledger.history_counts.find_missing(state.process.name)
                if fault is not None:
                    self._fail(f"{state.process.name} {fault}")
            if state.is_running and isinstance(state.role, Master):
                fault = find_miscount(state.role, assigned, inboxes)
                if fault is not None:
                    self._fail(f"{state.name} {fault}")

    # --- leaving -----------------------------------------------------------------------------------------------------

    def _stop_kind(self, kind: Kind) -> None:
        """Tell all programs of a kind to stop, then wait for them."""
        self._stop_all(state for state in self._states() if state.program.kind is kind)
        self._deadline = self._loop.now + _LEAVE_SECONDS
        self._wait_stopped(kind)

    def _wait_stopped(self, kind: Kind) -> None:
        running = [state for state in self._states() if state.program.kind is kind and state.is_running]
        left = [f"{state.name} does not stop" for state in running]
        if kind is Kind.WORKER:  # the primary clears the inbox of a worker that left without a connection
            left += self._members_left("workers", "assign")
        if left and self._loop.now < self._deadline:
            self._after(_LOOK_SECONDS, self._wait_stopped, kind)
        elif left:
            self._fail(left[0])
        elif kind is Kind.CLIENT and self._plan.sweeps:
            self._after(_LONGEST_LIFE * self._plan.outcome_ttl, self._stop_kind, Kind.WORKER)
        elif kind is Kind.MASTER:
            # Sessions of processes that were killed have to expire.
            self._after(2 * self._plan.session_timeout + 2.0, self._finish)
        else:
            self._stop_kind(Kind.WORKER if kind is Kind.CLIENT else Kind.MASTER)

    def _finish(self) -> None:
        """Check that nothing is left, and end the run."""
        ledger = self._ledger
        left = self._members_left("workers", "masters", "assign")
        if self._plan.sweeps:
            left += self._members_left("status", "clients", "dead", "keys", "waiters", "flows")
        left += [path for path in ledger.nodes if path == layout.MASTER or "/alive-" in path]
        if left:
            self._fail(left[0])
        for submission in [each for state in self._states() for each in state.submissions.values()]:
            if submission.refused and ledger.history(submission.name).accepted:
                self._fail(f"{submission.name} was accepted, after its client was told that it was not")
        if ledger.open_sessions:
            self._fail(f"{len(ledger.open_sessions)} sessions are left")
        never = [task for task in ledger.unsettled() if not task.startswith(layout.ASSIGN)]
        if never:
            self._fail(f"after all had left: {never[0]}")
        self._loop.stop()

    def _members_left(self, *folders: str) -> list[str]:
        found = []
        for path, node in self._ledger.nodes.items():
            match path.split("/"):
                case ["", folder, name] if folder in folders and node.data != LITTER:
                    found.append(f"{name} is left in /{folder}")
        return found


def _removes(fault: Fault) -> bool:
    return isinstance(fault, ChangeFlow) and fault.what is FlowChange.REMOVE
