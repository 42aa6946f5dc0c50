"""Makes the faults of a plan happen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from herdmaster.simulation.checks.keys import claim_of
from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.faults import Fault
from herdmaster.simulation.plan.plan import Kind
from herdmaster.simulation.world.loop import Owner
from herdmaster.simulation.world.network import Wire
from herdmaster.simulation.world.operator import CancelTask, GovernQueue, ReleaseKey, ReplayDead
from herdmaster.simulation.world.process import Process
from herdmaster.simulation.world.program_state import Slot

if TYPE_CHECKING:
    from herdmaster.simulation.world.world import World

_FULL_SECONDS: Final = 6.0
_LOOK_SECONDS: Final = 0.005


class Mishaps:
    """`calm_at` is when the last of them is over, `befallen` how many of each kind there were."""

    def __init__(self, world: World) -> None:
        self.calm_at = 0.0
        self.befallen: dict[str, int] = {}
        self._world = world
        self._by_transaction: dict[int, list[Fault]] = {}
        self._by_step: dict[str, list[faults.OfPart]] = {}
        self._stopped = False
        self._duplicates = 0

    def schedule(self, planned: Iterable[Fault]) -> None:
        for fault in planned:
            if fault.when.step and isinstance(fault, faults.OfPart):
                self._by_step.setdefault(fault.slot, []).append(fault)
            elif fault.when.transaction:
                self._by_transaction.setdefault(fault.when.transaction, []).append(fault)
            else:
                self._world.at(fault.when.at + fault.when.later, self._befall, fault, "")

    def started(self, process: Process) -> None:
        """Each of a part's lives meets the next of its faults that wait for a step."""
        waiting = self._by_step.get(process.slot)
        if waiting:
            fault = waiting.pop(0)
            process.trap = fault.when.step
            process.trapped = partial(self._befall, fault, "")

    def transaction_applied(self, process: Process, count: int) -> None:
        for fault in self._by_transaction.pop(count, ()):
            loop = self._world.loop
            if fault.when.later:
                self._world.at(loop.now + fault.when.later, self._befall, fault, process.slot)
            else:  # not in the middle of the server's own code, but soon after it
                loop.run_as(loop.world, partial(loop.call_soon, self._befall, fault, process.slot))

    def stop(self) -> None:
        self._stopped = True
        self._by_transaction.clear()

    def _befall(self, fault: Fault, slot_name: str) -> None:
        if self._stopped:
            return
        world = self._world
        world.story.add("fault", "%s", f"{fault}{f' (of {slot_name})' if slot_name else ''}")
        if isinstance(fault, faults.OfPart):
            slot = world.slots[fault.slot or slot_name]  # the second where it is whose transaction it was
            if not slot.is_running or slot.process is None:
                return
            self._befall_part(fault, slot, slot.process)
        elif isinstance(fault, faults.RestartServer):
            self._restart_server(fault.seconds)
        elif isinstance(fault, faults.PauseServer):
            self._pause(world.server.process, fault.seconds, io_first=True, sleeps=False)
        else:
            self._send_operator(fault)
        kind = type(fault).__name__
        self.befallen[kind] = self.befallen.get(kind, 0) + 1

    def _send_operator(self, fault: Fault) -> None:
        world = self._world
        if isinstance(fault, faults.Meddle):
            world.casting.call_operator(fault.what)
        elif isinstance(fault, faults.Cancel):
            names = world.code.names.get(fault.job)
            if names:
                world.casting.call_operator(CancelTask(names[0]))
        elif isinstance(fault, faults.Release):
            claim = next((claim_of(job) for job in world.plan.jobs if job.index == fault.job), None)
            if claim is not None:
                world.casting.call_operator(ReleaseKey(claim.hash))
        elif isinstance(fault, faults.Replay):
            world.casting.call_operator(ReplayDead())
        elif isinstance(fault, faults.Govern):
            self._calm(fault.seconds)
            world.casting.call_operator(GovernQueue(fault.queue, fault.limit, fault.seconds))

    def _befall_part(self, fault: faults.OfPart, slot: Slot, process: Process) -> None:
        world = self._world
        match fault:
            case faults.Crash(seconds=seconds, power=power):
                self._calm(seconds)
                world.kill(slot, power=power, restart_seconds=seconds)
            case faults.Leave(seconds=seconds):
                self._calm(seconds)
                world.leave(slot, seconds)
            case faults.Pause(seconds=seconds, io_first=io_first):
                self._pause(process, seconds, io_first=io_first, sleeps=False)
            case faults.Sleep(seconds=seconds, io_first=io_first):
                self._pause(process, seconds, io_first=io_first, sleeps=True)
            case faults.JumpClock(milliseconds=milliseconds):
                process.skew_ms += milliseconds
            case faults.PauseFull(seconds=seconds, io_first=io_first):
                pause = partial(self._pause, process, seconds, io_first=io_first, sleeps=False)
                self._when_full(process, pause, _FULL_SECONDS)
            case faults.LeaveUnseen(seconds=seconds):
                self._when_full(process, partial(self._leave_unseen, slot, seconds), _FULL_SECONDS)
            case faults.StartDuplicate(seconds=seconds):
                self._start_duplicate(slot, seconds)
            case faults.Expire():
                self._expire(process)
            case faults.Partition(seconds=seconds, everywhere=everywhere):
                self._partition(process, seconds, everywhere=everywhere)
            case _:
                wires = list(process.wires)
                if wires:
                    self._befall_wire(fault, wires[-1])

    def _befall_wire(self, fault: faults.OfPart, wire: Wire) -> None:
        match fault:
            case faults.Cut():
                wire.cut()
            case faults.CutInMessage(up=up):
                wire.cut_in(wire.up if up else wire.down)
            case faults.Silence(up=up, down=down):
                wire.silence(up=up or not down, down=down)
            case faults.Stall(seconds=seconds, up=up):
                self._calm(seconds)
                (wire.up if up else wire.down).hold(self._world.loop.now + seconds)

    def _calm(self, seconds: float) -> None:
        """Something goes on for so long."""
        self.calm_at = max(self.calm_at, self._world.loop.now + seconds)

    def _partition(self, process: Process, seconds: float, *, everywhere: bool) -> None:
        self._calm(seconds)
        for address in self._world.plan.addresses[: None if everywhere else 1]:
            self._world.network.partition(process, address, self._world.loop.now + seconds)

    def _when_full(self, process: Process, action: Callable[[], None], patience: float) -> None:
        """Does it once a task waits for a thread of that process; looks for so many seconds."""
        if self._stopped or not process.alive:
            return
        if any(pool.is_full for pool in process.pools):
            action()
        elif patience > 0:
            again = (process, action, patience - _LOOK_SECONDS)
            self._world.at(self._world.loop.now + _LOOK_SECONDS, self._when_full, *again)

    def _leave_unseen(self, worker: Slot, seconds: float) -> None:
        world = self._world
        primary = world.slots.get(world.ledger.primary_slot or "")
        if primary is None or primary.process is None:
            return
        self._partition(primary.process, seconds, everywhere=True)
        world.leave(worker, seconds)

    def _pause(self, owner: Owner, seconds: float, *, io_first: bool, sleeps: bool) -> None:
        if owner.paused:
            return
        self._calm(seconds)
        owner.paused = True
        self._world.at(self._world.loop.now + seconds, self._go_on, owner, seconds if sleeps else 0.0, io_first)

    def _go_on(self, owner: Owner, lag: float, io_first: bool) -> None:
        self._world.story.add(owner.name, "goes on")
        owner.lag += lag
        self._world.loop.thaw(owner, io_first=io_first)

    def _restart_server(self, seconds: float) -> None:
        server = self._world.server
        if server.is_listening:
            self._calm(seconds)
            server.crash()
            self._world.at(self._world.loop.now + seconds, self._start_server)

    def _start_server(self) -> None:
        self._world.story.add("server", "is back")
        self._world.server.start()

    def _expire(self, process: Process) -> None:
        world = self._world
        for session_id in list(world.ledger.open_sessions):
            if world.ledger.actors[session_id].name == process.name:
                world.cut_short(process)
                world.server.expire(session_id)

    def _start_duplicate(self, slot: Slot, seconds: float) -> None:
        if slot.part.kind is Kind.CLIENT or "+" in slot.name:
            return
        self._calm(seconds)
        self._duplicates += 1
        duplicate = self._world.casting.duplicate(slot, f"{slot.name}+{self._duplicates}")
        self._world.start(duplicate)
        self._world.at(self._world.loop.now + seconds, self._dismiss, duplicate)

    def _dismiss(self, slot: Slot) -> None:
        self._world.leave(slot, None)
