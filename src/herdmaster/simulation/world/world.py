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
from herdmaster.simulation.checks.answers import Registry
from herdmaster.simulation.checks.effects import Actor
from herdmaster.simulation.checks.isolation import Bystanders
from herdmaster.simulation.checks.ledger import Ledger, is_cancelled, read_outcome
from herdmaster.simulation.checks.trace import Eavesdropper, Story
from herdmaster.simulation.plan.plan import Job, Plan
from herdmaster.simulation.world.fault_injection import Mishaps
from herdmaster.simulation.world.loop import Handle, VirtualLoop
from herdmaster.simulation.world.network import Network, Wire
from herdmaster.simulation.world.process import Process
from herdmaster.simulation.world.program_state import Slot
from herdmaster.simulation.world.programs import Casting
from herdmaster.simulation.world.server import Entry, SimulatedServer
from herdmaster.simulation.world.settling import Ending
from herdmaster.simulation.world.task_code import Execution, TaskCode
from herdmaster.zookeeper.errors import NoServerReachable
from herdmaster.zookeeper.wire.records import CloseSession, Record, Request

START: Final = 0.0
_RESTART_SECONDS: Final = 0.5


class Result(msgspec.Struct):
    """What came of a seed. `failure` is None where everything held; `seconds` are the world's; `faults` are counted by
    their kind."""

    seed: int
    failure: str | None
    story: Story
    transactions: int
    callbacks: int
    seconds: float
    executions: int
    faults: dict[str, int]


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
        self.ledger = Ledger(plan.namespace, plan.session_timeout + 2.0, plan.slowness, self.fail, self._replayed)
        self.ledger.runs.only_tasks_kill = not plan.faults and not plan.has_reference
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
        self.registry = Registry(self.loop, self.server.unix_ms, self.ledger, self.code, self.story, self.fail)
        self.casting = Casting(self)
        self.mishaps = Mishaps(self)
        self._processes: list[Process] = []
        self._cut_short: dict[str, None] = {}  # processes whose session was ended before its time
        self._bystanders = Bystanders(plan.max_deliveries, self.ledger.history, self.fail)
        self._closers: dict[Wire, None] = {}  # connections that attached to a session that was given up
        self._ending = Ending(self)

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
            self.mishaps.befallen,
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
        self.at(self.plan.horizon, self._ending.begin)

    # --- processes ---------------------------------------------------------------------------------------------------

    def start(self, slot: Slot) -> None:
        """A new life for a part, unless it runs."""
        if slot.is_running or not slot.wanted:
            return
        slot.life += 1
        slot.hung_since = None
        slot.role = slot.given_up = None
        process = Process(self.loop, slot.name, slot.life, self.plan.seed, skew_ms=slot.part.skew_ms)
        slot.process = process
        self._processes.append(process)
        self.story.add(process.name, "starts")
        self.mishaps.started(process)
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
        self._judge_unheard(process)
        tasks = [task for task in process.tasks if not task.done()]
        if tasks:
            self.fail(f"{process.name} has ended and leaves an asyncio task: {tasks[0].get_coro()}")
        self.at(self.loop.now, self._judge_timers, process, self.loop.pending_of(process))

    def _judge_unheard(self, process: Process) -> None:
        """An asyncio task that died, and whose exception was not asked for. asyncio logs one when it is collected; here
        the collector sleeps."""
        for task in process.tasks:
            if task.done() and not task.cancelled() and task._log_traceback:  # noqa: SLF001 - to ask publicly counts as having heard
                self.fail(f"{process.name}: an asyncio task died unheard: {task.exception()!r}")
                return

    def _judge_timers(self, process: Process, handles: list[Handle]) -> None:
        code = [handle for handle in handles if self.casting.is_leak(handle)]
        if code:
            self.fail(f"{process.name} has ended and leaves a timer: {code[0]!r}")

    # --- what task code does to its process --------------------------------------------------------------------------

    def _started(self, execution: Execution, code: str) -> None:
        self.executions.append(execution)
        fault = self.ledger.runs.started(execution.task, execution.worker)
        if fault is not None and not self._is_reference(execution.process):
            self.fail(f"{execution.process} {fault}")
        self.story.add(execution.process, "starts %s as %s (it will %s)", execution.task, execution.worker, code)

    def _is_reference(self, process: str) -> bool:
        return self.slots[process.partition("#")[0]].part.reference

    def _kill_by_task(self, process: Process, task: str) -> None:
        self._bystanders.note(task, (name for pool in process.pools for name in pool.running_tasks))
        self.kill(self.slots[process.slot], power=False, restart_seconds=_RESTART_SECONDS)

    def _hang(self, process: Process) -> None:
        self.slots[process.slot].hung_since = self.loop.now

    def _is_excused(self, process: Process, task: str) -> bool:
        return (
            self._is_reference(process.name)  # nothing fences it
            or process.name in self._cut_short
            or self.ledger.history(task).excused
            or self._is_cancelled(task)  # which it may not have heard yet
            or any(self.ledger.actors[session_id].name == process.name for session_id in self.ledger.ousted)
        )

    def _is_cancelled(self, task: str) -> bool:
        """As applied, which may be ahead of the disk and of the ledger."""
        status = self.server.state.tree.find(self.plan.namespace + layout.status_path(task))
        return self.ledger.history(task).cancelled or (
            status is not None and is_cancelled(read_outcome(task, status.data or b""))
        )

    def cut_short(self, process: Process) -> None:
        """Its session is ended before its time, which no fence of its own can know."""
        self._cut_short[process.name] = None

    # --- what the server tells (`Witness`) ---------------------------------------------------------------------------

    def attached(self, session_id: int, wire: Wire) -> None:
        process = wire.process
        part = self.slots[process.slot].part
        given_up = self.slots[process.slot].given_up
        if given_up is not None and given_up.holds(session_id):
            self._closers[wire] = None
            owner = self.ledger.actors[session_id]
            if owner.name != process.name:
                self.fail(f"{process.name} attached to session {session_id:x} of {owner.name}")
        self.ledger.actors[session_id] = Actor(process.name, process.slot, part.kind, part.reference)
        self.story.add(process.name, "has session %x", session_id)

    def asked(self, session_id: int, wire: Wire, request: Request[Record]) -> None:
        """A session that was given up is attached to for its end alone: what it had asked for has failed already."""
        if wire in self._closers and not isinstance(request, CloseSession):
            self.fail(f"{wire.process.name} gave session {session_id:x} up, and asks for {request} in it")

    def applied(self, wire: Wire, count: int) -> None:
        self.mishaps.transaction_applied(wire.process, count)

    def recorded(self, entry: Entry) -> None:
        deed = self.ledger.record(entry)
        actor = self.ledger.actors.get(entry.session_id)
        self.story.add_deed("server" if actor is None else actor.name, deed)

    def _replayed(self, task: str, new_task: str, has_key: bool) -> None:
        job = self.ledger.terms.jobs.get(task)
        if job is not None:
            fresh = msgspec.structs.replace(job, key=job.key if has_key else None, expires=None)
            self.ledger.terms.jobs[new_task] = fresh
            self.code.names[job.index].append(new_task)

    # --- afterwards --------------------------------------------------------------------------------------------------

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
