"""Who plays which part: makes the roles of a process, as its program would."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from herdmaster.roles.client.client import ClientSettings
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.primary.overdue import Patience
from herdmaster.roles.primary.sweeper import Ages
from herdmaster.roles.shared.system import System
from herdmaster.roles.worker.worker import Worker, WorkerSettings
from herdmaster.simulation.plan.faults import Meddling
from herdmaster.simulation.plan.plan import CALL, RARE, Flaw, Kind, Part
from herdmaster.simulation.world.client_program import ClientProgram
from herdmaster.simulation.world.loop import Handle
from herdmaster.simulation.world.operator import Errand, GovernQueue, Operator
from herdmaster.simulation.world.pool import PoolOfProcess, SimulatedPool
from herdmaster.simulation.world.process import Process
from herdmaster.simulation.world.program_state import Slot
from herdmaster.simulation.world.reference import (
    CMaster,
    ReferenceClient,
    ReferenceMaster,
    ReferenceRole,
    ReferenceWorker,
)

if TYPE_CHECKING:
    from herdmaster.simulation.world.world import World

_ORPHAN_SECONDS = 15.0
"""Above the longest session timeout of a plan."""
_TAKEOVER_SECONDS = 2.0
_MANY = 100


class Casting:
    def __init__(self, world: World) -> None:
        self._world = world
        self._hosts = ",".join(world.plan.addresses) + world.plan.namespace
        self._operators = 0

    async def play(self, slot: Slot, process: Process) -> None:
        """The main program of a process."""
        system = process.system(PoolOfProcess(process, self._world.code))
        if slot.part.kind is Kind.OPERATOR and slot.errand is not None:
            await Operator(self._hosts, system, process, self._world.registry).do(slot.errand)
            slot.wanted = False
        elif slot.part.reference:
            reference = self._reference_role(slot, process, system)
            slot.role = reference
            await reference.run()
        else:
            role = self._role(slot, process, system)
            slot.role, slot.given_up = role, role.predecessors
            await role.run()

    def _role(self, slot: Slot, process: Process, system: System) -> Master | Worker | ClientProgram:
        match slot.part.kind:
            case Kind.MASTER:
                return self._master(system)
            case Kind.WORKER:
                return self._worker(slot.part, process, system)
        plan = self._world.plan
        settings = ClientSettings(session_timeout=plan.session_timeout, outcome_ttl=plan.outcome_ttl)
        jobs = [job for job in plan.jobs if job.client == slot.name]
        return ClientProgram(slot, process, self._hosts, settings, system, jobs, self._world.registry)

    def _master(self, system: System) -> Master:
        plan = self._world.plan
        return Master(
            self._hosts,
            MasterSettings(
                session_timeout=plan.session_timeout,
                max_deliveries=plan.max_deliveries,
                orphan_inbox_seconds=_ORPHAN_SECONDS,
                patience=self._patience(),
                ages=Ages(outcome=plan.outcome_ttl, dead=plan.outcome_ttl, journal=plan.outcome_ttl),
            ),
            system,
        )

    def _worker(self, part: Part, process: Process, system: System) -> Worker:
        code, plan = self._world.code, self._world.plan
        worker: Worker
        worker = Worker(
            self._hosts,
            dict.fromkeys((CALL,) if part.lacks else (CALL, RARE), code.call(process, lambda: worker.name)),
            WorkerSettings(session_timeout=plan.session_timeout, slots=part.slots, queues=part.queues),
            code.handle_raw(process, lambda: worker.name),
            system,
        )
        return worker

    def _patience(self) -> Patience:
        """Above what a takeover takes, and what a request may be under way."""
        seconds = 2 * self._world.plan.session_timeout + _TAKEOVER_SECONDS
        return Patience(task=seconds, inbox=seconds)

    def _reference_role(self, slot: Slot, process: Process, system: System) -> ReferenceRole:
        plan = self._world.plan
        repeats_wrongly = slot.part.flaw is Flaw.JAVA
        match slot.part.kind:
            case Kind.MASTER:
                kind = CMaster if slot.part.flaw is Flaw.C else ReferenceMaster
                return kind(self._hosts, plan.session_timeout, system, repeats_wrongly=repeats_wrongly)
            case Kind.WORKER:
                return ReferenceWorker(
                    self._hosts,
                    plan.session_timeout,
                    system,
                    process,
                    self._world.code,
                    repeats_wrongly=repeats_wrongly,
                )
            case _:
                jobs = [job for job in plan.jobs if job.client == slot.name]
                return ReferenceClient(self._hosts, plan.session_timeout, system, process, jobs, slot.submitted_jobs)

    def duplicate(self, slot: Slot, name: str) -> Slot:
        """The same program, started a second time."""
        twin = Slot(msgspec.structs.replace(slot.part, slot=name))
        self._world.slots[name] = twin
        return twin

    def call_operator(self, what: Errand) -> None:
        """An operator does something by hand, over and over only if it is to be undone."""
        if what is Meddling.LITTER and self._world.plan.has_reference:
            return  # a reference master would give tasks to a worker called nobody
        self._operators += 1
        slot = Slot(Part(slot=f"operator-{self._operators}", kind=Kind.OPERATOR, starts=0.0))
        self._world.slots[slot.name] = slot
        slot.errand = what
        self._world.start(slot)
        slot.wanted = isinstance(what, GovernQueue)

    def unsettled(self) -> list[str]:
        """Clients that have not submitted everything, or are still waiting."""
        found = []
        for slot in self._world.slots.values():
            if slot.part.kind is not Kind.CLIENT or slot.part.reference:
                continue
            if not slot.is_running:
                found.append(f"{slot.name} is not running")
            elif isinstance(slot.role, ClientProgram) and not slot.role.is_settled:
                found.append(f"{slot.name} is waiting")
        return found

    @staticmethod
    def is_leak(handle: Handle) -> bool:
        """Task code runs on in a thread whatever becomes of its worker, and the network brings what it brings."""
        return not handle.is_io and not isinstance(getattr(handle.callback, "__self__", None), SimulatedPool)

    @staticmethod
    def discard(task: asyncio.Task[object]) -> None:
        """Ends a task that will never run again, however it resists."""
        if task.done():
            return
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - the only way to let it go quietly
        coroutine = task.get_coro()
        for _ in range(_MANY):
            try:
                coroutine.close()
            except BaseException:  # noqa: BLE001, S112 - what its clean-up does is of no interest any more
                continue
            return
