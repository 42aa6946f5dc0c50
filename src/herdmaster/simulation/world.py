"""One seed's world: builds it, lets it run, and says what went wrong.

A run has three parts. Until the horizon tasks are submitted and faults happen. Then faults stop, what has died comes
back, reference roles leave, and within a bounded time everything must settle. At last all are told to stop, and nothing
may be left: no task, no inbox, no session, no asyncio task or timer.
"""

from __future__ import annotations

import gc
import logging
import random
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.outcome import Outcome
from herdmaster.errors import HerdError, OutcomeGone
from herdmaster.simulation.casting import Casting
from herdmaster.simulation.deeds import Actor
from herdmaster.simulation.ledger import Ledger
from herdmaster.simulation.loop import Handle, VirtualLoop
from herdmaster.simulation.mishaps import Mishaps
from herdmaster.simulation.network import Network, Wire
from herdmaster.simulation.operator import LITTER
from herdmaster.simulation.plan import Code, Job, Kind, Plan
from herdmaster.simulation.process import Process
from herdmaster.simulation.server import Entry, SimulatedServer
from herdmaster.simulation.slots import Slot, Submission
from herdmaster.simulation.story import Eavesdropper, Story
from herdmaster.simulation.task_code import Execution, TaskCode
from herdmaster.zookeeper.errors import NoServerReachable

START: Final = 0.0
_LOOK_SECONDS: Final = 0.25
_RESTART_SECONDS: Final = 0.5
_HANG_SECONDS: Final = 3.0
_LEAVE_SECONDS: Final = 120.0
_IDLE_SECONDS: Final = 8.0


class Result(msgspec.Struct):
    """What came of a seed. `failure` is None where everything held; `seconds` are the world's."""

    seed: int
    failure: str | None
    story: Story
    transactions: int
    callbacks: int
    seconds: float
    executions: int


class World:
    """Runs a plan once."""

    def __init__(self, plan: Plan, *, listen: bool = False) -> None:
        """`listen`: what the roles log becomes part of the story."""
        self.plan = plan
        self.failure: str | None = None
        self._listen = listen
        # What it leaves out of asyncio's interface raises: nothing here uses it.
        self.loop = VirtualLoop(START, self.fail)  # type: ignore[abstract]  # the methods are abstract to typeshed only
        self.story = Story(lambda: self.loop.now, lambda: self.loop.current.name)
        self.jobs: dict[int, Job] = {job.index: job for job in plan.jobs}
        self._job_of: dict[str, Job] = {}
        self.ledger = Ledger(plan.namespace, self.fail, self._is_silent)
        self.server = SimulatedServer(self.loop, plan.disk, random.Random(f"{plan.seed}/server"), self)
        self.network = Network(self.loop, self.server, plan.latency, plan.seed)
        self.loop.connector = self.network
        self.slots: dict[str, Slot] = {part.slot: Slot(part) for part in plan.parts}
        self.executions: list[Execution] = []
        self.code = TaskCode(
            self.jobs,
            inbox_holds=lambda path: self.server.state.tree.find(plan.namespace + path) is not None,
            excused=self._is_excused,
            started=self._started,
            kill=self._kill_by_task,
            hang=self._hang,
            complain=self.fail,
        )
        self.casting = Casting(self)
        self.mishaps = Mishaps(self)
        self._processes: list[Process] = []
        self._cut_short: dict[str, None] = {}  # processes whose session was ended before its time
        self._deadline = 0.0

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self) -> Result:
        collecting = gc.isenabled()
        gc.disable()  # what it finalises, and when, depends on what else runs in this interpreter
        try:
            with Eavesdropper(self.story, self.fail, listen=self._listen):
                self._begin()
                self.loop.run_forever()
        finally:
            self._tear_down()
            if collecting:
                gc.enable()
        return Result(
            self.plan.seed,
            self.failure,
            self.story,
            self.server.count,
            self.loop.steps,
            self.loop.now,
            len(self.executions),
        )

    def fail(self, text: str) -> None:
        """The first failure ends the run."""
        if self.failure is None:
            self.failure = text
            self.story.add("FAILURE", "%s", text)
            self.loop.stop()

    def at(self, when: float, action: object, *args: object) -> None:
        """The world itself does something then."""
        assert callable(action)
        self.loop.call_for(self.loop.world, when, action, *args)

    def _begin(self) -> None:
        for slot in self.slots.values():
            self.at(slot.part.starts, self.start, slot)
        self.mishaps.schedule(self.plan.faults)
        self.at(self.plan.horizon, self._stop_faults)

    # --- processes ---------------------------------------------------------------------------------------------------

    def start(self, slot: Slot) -> None:
        """A new life for a part, unless it runs."""
        if slot.is_running or not slot.wanted:
            return
        slot.life += 1
        slot.hung_since = None
        slot.role = None
        process = Process(self.loop, slot.name, slot.life, self.plan.seed, skew_ms=slot.part.skew_ms)
        slot.process = process
        self._processes.append(process)
        self.story.add(process.name, "starts")
        process.start(lambda: self.casting.play(slot, process), lambda error: self._ended(slot, process, error))

    def kill(self, slot: Slot, *, power: bool, restart_seconds: float) -> None:
        process = slot.process
        if process is not None and slot.is_running:
            self.story.add(process.name, "loses power" if power else "is killed")
            process.kill(power=power)
            self.at(self.loop.now + restart_seconds, self.start, slot)

    def leave(self, slot: Slot, restart_seconds: float | None) -> None:
        """Tells it to stop."""
        process, role = slot.process, slot.role
        slot.wanted = slot.wanted and restart_seconds is not None
        if process is None or not slot.is_running:
            return
        slot.restart_seconds = restart_seconds
        if role is None:  # it has not come as far as to listen to that
            self.kill(slot, power=False, restart_seconds=restart_seconds or 0.0)
            return
        self.story.add(process.name, "is told to stop")
        self.loop.run_as(process, lambda: self.loop.call_soon(role.stop))

    def _ended(self, slot: Slot, process: Process, error: BaseException | None) -> None:
        self.story.add(process.name, "has ended%s", "" if error is None else f": {error}")
        if error is not None and not isinstance(error, NoServerReachable):
            self.fail(f"{process.name} raised {type(error).__name__}: {error}")
        for wire in list(process.wires):
            wire.close_from_client()
        self._judge_leftovers(process)
        process.alive = False
        if slot.wanted:
            pause = _RESTART_SECONDS if error is not None or slot.restart_seconds is None else slot.restart_seconds
            slot.restart_seconds = None
            self.at(self.loop.now + pause, self.start, slot)

    def _judge_leftovers(self, process: Process) -> None:
        tasks = [task for task in process.tasks if not task.done()]
        if tasks:
            self.fail(f"{process.name} has ended and leaves an asyncio task: {tasks[0].get_coro()}")
        self.at(self.loop.now, self._judge_timers, process, self.loop.pending_of(process))

    def _judge_timers(self, process: Process, handles: list[Handle]) -> None:
        code = [handle for handle in handles if self.casting.is_leak(handle)]
        if code:
            self.fail(f"{process.name} has ended and leaves a timer: {code[0]!r}")

    # --- what task code does to its process
    # ----------------------------------------------------------------------------

    def _started(self, execution: Execution, code: str) -> None:
        self.executions.append(execution)
        self.ledger.history(execution.task).executions += 1
        self.story.add(execution.process, "starts %s as %s (it will %s)", execution.task, execution.worker, code)

    def _kill_by_task(self, process: Process) -> None:
        self.kill(self.slots[process.slot], power=False, restart_seconds=_RESTART_SECONDS)

    def _hang(self, process: Process) -> None:
        self.slots[process.slot].hung_since = self.loop.now

    def _is_excused(self, process: Process, task: str) -> bool:
        return (
            process.name in self._cut_short
            or self.ledger.history(task).excused
            or any(self.ledger.actors[session_id].name == process.name for session_id in self.ledger.ousted)
        )

    def cut_short(self, process: Process) -> None:
        """Its session is ended before its time, which no fence of its own can know."""
        self._cut_short[process.name] = None

    # --- what the server tells (`Witness`)
    # -----------------------------------------------------------------------------

    def attached(self, session_id: int, wire: Wire) -> None:
        process = wire.process
        part = self.slots[process.slot].part
        self.ledger.actors[session_id] = Actor(process.name, process.slot, part.kind, part.reference)
        self.story.add(process.name, "has session %x", session_id)

    def applied(self, wire: Wire, count: int) -> None:
        self.mishaps.transaction_applied(wire.process, count)

    def recorded(self, entry: Entry) -> None:
        deed = self.ledger.record(entry)
        actor = self.ledger.actors.get(entry.session_id)
        self.story.add_deed("server" if actor is None else actor.name, deed)

    # --- what clients tell (`Office`)
    # ----------------------------------------------------------------------------------

    def _is_silent(self, task: str) -> bool:
        job = self._job_of.get(task)
        return job is not None and job.silent and not job.garbage

    def announce(self, name: str, job: Job) -> None:
        self._job_of[name] = job
        self.code.names[job.index] = name
        self.story.add(self.loop.current.name, "submits job %d as %s", job.index, name)

    def complain(self, text: str) -> None:
        self.fail(f"{self.loop.current.name} {text}")

    def was_accepted(self, submission: Submission) -> None:
        self.story.add(self.loop.current.name, "is told that %s was accepted", submission.name)
        if not self.ledger.history(submission.name).accepted:
            self.complain(f"was told that {submission.name} was accepted, and it was not")

    def was_refused(self, submission: Submission) -> None:
        self.story.add(self.loop.current.name, "is told that %s was not accepted", submission.name)
        if self.ledger.history(submission.name).accepted:
            self.complain(f"was told that {submission.name} was not accepted, and it was")

    def was_lost_sight_of(self, submission: Submission) -> None:
        self.story.add(self.loop.current.name, "is told that nobody knows of %s", submission.name)

    def has_ended(self, submission: Submission, outcome: Outcome | None, error: HerdError | None) -> None:
        state = error if outcome is None else outcome.state.value
        self.story.add(self.loop.current.name, "is told that %s has ended: %s", submission.name, str(state))
        history = self.ledger.history(submission.name)
        if error is not None and not history.excused:
            self.complain(f"was told of {submission.name}: {type(error).__name__}: {error}")
        elif outcome is not None and not history.outcomes:
            self.complain(f"was told that {submission.name} has ended, and it has not")
        if isinstance(error, OutcomeGone) and self.ledger.where(submission.name):
            self.complain(f"was told that {submission.name} is nowhere, and it is somewhere")
        job = submission.job
        must_fail = job.code is Code.FAIL and not job.garbage and not history.excused
        if must_fail and outcome is not None and outcome.state.value != "failed":
            self.complain(f"was told that {submission.name} is {outcome.state.value}, and its code always fails")

    # --- the end
    # -------------------------------------------------------------------------------------------------------

    def _stop_faults(self) -> None:
        self.mishaps.stop()
        if self.mishaps.calm_at > self.loop.now:
            self.at(self.mishaps.calm_at, self._stop_faults)
            return
        self.story.add("world", "faults have stopped")
        self.network.heal()
        for slot in self.slots.values():
            if slot.part.reference:
                self.leave(slot, None)
        self._deadline = self.loop.now + self._patience()
        self.at(self.loop.now + _LOOK_SECONDS, self._look)

    def _patience(self) -> float:
        """Seconds in which everything has to settle: sessions end, a primary is elected, tasks run; and each task that
        takes its worker with it does so several times."""
        plan = self.plan
        poisons = sum(1 for job in plan.jobs if job.code in (Code.HANG, Code.KILL) and job.times)
        work = sum(job.seconds for job in plan.jobs)
        return (
            90.0 + 4 * plan.session_timeout + work + poisons * (plan.max_deliveries + 2) * (plan.session_timeout + 6.0)
        )

    def _look(self) -> None:
        """Whether all has settled; until then tasks that never end take their workers with them."""
        for slot in self.slots.values():
            if slot.hung_since is not None and self.loop.now - slot.hung_since > _HANG_SECONDS:
                slot.hung_since = None
                self.kill(slot, power=False, restart_seconds=_RESTART_SECONDS)
        waiting = self.ledger.unsettled() + self.casting.unsettled() + self._sessions_of_the_dead()
        if not waiting:
            self.story.add("world", "all has settled")
            self.at(self.loop.now + _IDLE_SECONDS, self._judge_idleness, self.server.asked)
        elif self.loop.now > self._deadline:
            self.fail(f"not settled {self._patience():.0f} s after the faults stopped: {'; '.join(waiting[:5])}")
        else:
            self.at(self.loop.now + _LOOK_SECONDS, self._look)

    def _sessions_of_the_dead(self) -> list[str]:
        living = {
            process.name for slot in self.slots.values() if (process := slot.process) is not None and process.alive
        }
        owners = [self.ledger.actors[session_id].name for session_id in self.ledger.open_sessions]
        return [f"a session of {name} has not ended" for name in owners if name not in living]

    def _judge_idleness(self, asked_before: int) -> None:
        """Nobody polls, and nobody tries again and again what cannot succeed."""
        asked = self.server.asked - asked_before
        masters = sum(1 for slot in self.slots.values() if slot.part.kind is Kind.MASTER and slot.is_running)
        kept = sum(1 for path in self.ledger.nodes if path.startswith(("/status/", "/clients/", "/dead/")))
        limit = 10 + 3 * masters + kept  # a round of the caretaker
        if asked > limit:
            self.fail(f"{asked} requests in {_IDLE_SECONDS:.0f} s in which nothing was to be done")
        self._dismiss(Kind.CLIENT)

    def _dismiss(self, kind: Kind) -> None:
        """Tells all of a kind to stop, then waits for them."""
        for slot in self.slots.values():
            if slot.part.kind is kind:
                self.leave(slot, None)
        self._deadline = self.loop.now + _LEAVE_SECONDS
        self._wait_dismissed(kind)

    def _wait_dismissed(self, kind: Kind) -> None:
        left = [
            f"{slot.name} does not stop" for slot in self.slots.values() if slot.part.kind is kind and slot.is_running
        ]
        if kind is Kind.WORKER:  # the inbox of one that left without a connection is the primary's to clear
            left += self._members_left("workers", "assign")
        if left and self.loop.now < self._deadline:
            self.at(self.loop.now + _LOOK_SECONDS, self._wait_dismissed, kind)
        elif left:
            self.fail(left[0])
        elif kind is Kind.CLIENT and self.plan.sweeps:
            self.at(self.loop.now + 2.5 * self.plan.outcome_ttl, self._dismiss, Kind.WORKER)
        elif kind is Kind.MASTER:
            # Sessions of processes that were killed end by themselves.
            self.at(self.loop.now + 2 * self.plan.session_timeout + 2.0, self._finish)
        else:
            self._dismiss(Kind.WORKER if kind is Kind.CLIENT else Kind.MASTER)

    def _finish(self) -> None:
        left = self._members_left("workers", "masters", "assign")
        if self.plan.sweeps:
            left += self._members_left("status", "clients", "dead")
        left += [path for path in self.ledger.nodes if path == layout.MASTER or "/alive-" in path]
        if left:
            self.fail(left[0])
        for submission in [each for slot in self.slots.values() for each in slot.submissions.values()]:
            if submission.refused and self.ledger.history(submission.name).accepted:
                self.fail(f"{submission.name} was accepted, after its client was told that it was not")
        if self.ledger.open_sessions:
            self.fail(f"{len(self.ledger.open_sessions)} sessions are left")
        never = [task for task in self.ledger.unsettled() if not task.startswith(layout.ASSIGN)]
        if never:
            self.fail(f"after all had left: {never[0]}")
        self.loop.stop()

    def _members_left(self, *folders: str) -> list[str]:
        found = []
        for path, node in self.ledger.nodes.items():
            match path.split("/"):
                case ["", folder, name] if folder in folders and node.data != LITTER:
                    found.append(f"{name} is left in /{folder}")
        return found

    def _tear_down(self) -> None:
        """Closes what dead processes left suspended, quietly: none of it may run any more."""
        self.loop.close()
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        for process in (*self._processes, self.loop.world):
            process.alive = False
            for task in process.tasks:
                self.casting.discard(task)
            process.tasks.clear()
        logging.disable(level)
