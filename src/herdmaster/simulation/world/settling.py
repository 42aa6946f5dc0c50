"""The end of a world: faults stop, everything settles, the system is idle, and at last all leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from herdmaster.core import layout
from herdmaster.simulation.plan.plan import Code, Kind
from herdmaster.simulation.world.operator import LITTER

if TYPE_CHECKING:
    from herdmaster.simulation.world.world import World

_LOOK_SECONDS: Final = 0.25
_RESTART_SECONDS: Final = 0.5
_HANG_SECONDS: Final = 3.0
_LEAVE_SECONDS: Final = 120.0
_IDLE_SECONDS: Final = 8.0
_IDLE_WINDOWS: Final = 6
_LONGEST_LIFE: Final = 6.0
"""In times to live. A round of the sweep for keys takes at most one: the outcome goes, its key is found without
a task in two rounds, and the hold that was made to free the key is found without a key in two more."""


class Ending:
    """Each step schedules the next. What does not hold ends the run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._deadline = 0.0

    def begin(self) -> None:
        """Faults stop, as soon as those that go on for a while are over."""
        world = self._world
        world.mishaps.stop()
        if world.mishaps.calm_at > world.loop.now:
            world.at(world.mishaps.calm_at, self.begin)
            return
        world.story.add("world", "faults have stopped")
        world.network.heal()
        world.at(world.loop.now + world.plan.lingers, self._dismiss_references)

    def _dismiss_references(self) -> None:
        world = self._world
        for slot in world.slots.values():
            if slot.part.reference:
                world.leave(slot, None)
        self._deadline = world.loop.now + self._patience()
        world.at(world.loop.now + _LOOK_SECONDS, self._look)

    # --- settling ----------------------------------------------------------------------------------------------------

    def _patience(self) -> float:
        """Seconds in which everything has to settle: sessions end, a primary is elected, tasks run; and each task that
        takes its worker with it does so several times."""
        plan = self._world.plan
        poisons = sum(1 for job in plan.jobs if job.code in (Code.HANG, Code.KILL) and job.times)
        work = sum(job.seconds * job.attempts + (job.delay or 0.0) for job in plan.jobs)
        return (
            90.0 + 4 * plan.session_timeout + work + poisons * (plan.max_deliveries + 2) * (plan.session_timeout + 6.0)
        )

    def _look(self) -> None:
        """Whether all has settled; until then tasks that never end take their workers with them."""
        world = self._world
        for slot in world.slots.values():
            if slot.hung_since is not None and world.loop.now - slot.hung_since > _HANG_SECONDS:
                slot.hung_since = None
                world.kill(slot, power=False, restart_seconds=_RESTART_SECONDS)
        waiting = world.ledger.unsettled() + world.casting.unsettled() + self._sessions_of_the_dead()
        if not waiting:
            world.story.add("world", "all has settled")
            self._watch_idleness(_IDLE_WINDOWS)
        elif world.loop.now > self._deadline:
            world.fail(f"not settled {self._patience():.0f} s after the faults stopped: {'; '.join(waiting[:5])}")
        else:
            world.at(world.loop.now + _LOOK_SECONDS, self._look)

    def _sessions_of_the_dead(self) -> list[str]:
        world = self._world
        living = {
            process.name for slot in world.slots.values() if (process := slot.process) is not None and process.alive
        }
        owners = [world.ledger.actors[session_id].name for session_id in world.ledger.open_sessions]
        return [f"a session of {name} has not ended" for name in owners if name not in living]

    # --- idleness ----------------------------------------------------------------------------------------------------

    def _watch_idleness(self, windows: int) -> None:
        world = self._world
        world.at(
            world.loop.now + _IDLE_SECONDS, self._judge_idleness, world.server.asked, self._count_kept(), windows - 1
        )

    def _count_kept(self) -> int:
        """What has a time to live: each is read, and when that is over, read again and taken away."""
        return sum(
            1 for path in self._world.ledger.nodes if path.startswith(("/status/", "/clients/", "/dead/", "/waiters/"))
        )

    def _judge_idleness(self, asked_before: int, kept: int, windows: int) -> None:
        """No role polls, and none tries again and again what cannot succeed. Roles that have just started, or lost
        their primary, are busy for a while even where no task is left; so of a few windows one has to be quiet."""
        world = self._world
        asked = world.server.asked - asked_before
        masters = sum(1 for slot in world.slots.values() if slot.part.kind is Kind.MASTER and slot.is_running)
        limit = 10 + 3 * masters + 3 * kept  # a round of the sweeper
        if asked <= limit:
            self._dismiss(Kind.CLIENT)
        elif windows:
            self._watch_idleness(windows)
        else:
            world.fail(f"{asked} requests in {_IDLE_SECONDS:.0f} s in which nothing was to be done")

    # --- leaving -----------------------------------------------------------------------------------------------------

    def _dismiss(self, kind: Kind) -> None:
        """Tells all of a kind to stop, then waits for them."""
        world = self._world
        for slot in world.slots.values():
            if slot.part.kind is kind:
                world.leave(slot, None)
        self._deadline = world.loop.now + _LEAVE_SECONDS
        self._wait_dismissed(kind)

    def _wait_dismissed(self, kind: Kind) -> None:
        world, now = self._world, self._world.loop.now
        slots = [slot for slot in world.slots.values() if slot.part.kind is kind and slot.is_running]
        left = [f"{slot.name} does not stop" for slot in slots]
        if kind is Kind.WORKER:  # the inbox of one that left without a connection is the primary's to clear
            left += self._members_left("workers", "assign")
        if left and now < self._deadline:
            world.at(now + _LOOK_SECONDS, self._wait_dismissed, kind)
        elif left:
            world.fail(left[0])
        elif kind is Kind.CLIENT and world.plan.sweeps:
            world.at(now + _LONGEST_LIFE * world.plan.outcome_ttl, self._dismiss, Kind.WORKER)
        elif kind is Kind.MASTER:
            # Sessions of processes that were killed end by themselves.
            world.at(now + 2 * world.plan.session_timeout + 2.0, self._finish)
        else:
            self._dismiss(Kind.WORKER if kind is Kind.CLIENT else Kind.MASTER)

    def _finish(self) -> None:
        world, ledger = self._world, self._world.ledger
        left = self._members_left("workers", "masters", "assign")
        if world.plan.sweeps:
            left += self._members_left("status", "clients", "dead", "keys", "waiters")
        left += [path for path in ledger.nodes if path == layout.MASTER or "/alive-" in path]
        if left:
            world.fail(left[0])
        for submission in [each for slot in world.slots.values() for each in slot.submissions.values()]:
            if submission.refused and ledger.history(submission.name).accepted:
                world.fail(f"{submission.name} was accepted, after its client was told that it was not")
        if ledger.open_sessions:
            world.fail(f"{len(ledger.open_sessions)} sessions are left")
        never = [task for task in ledger.unsettled() if not task.startswith(layout.ASSIGN)]
        if never:
            world.fail(f"after all had left: {never[0]}")
        world.loop.stop()

    def _members_left(self, *folders: str) -> list[str]:
        found = []
        for path, node in self._world.ledger.nodes.items():
            match path.split("/"):
                case ["", folder, name] if folder in folders and node.data != LITTER:
                    found.append(f"{name} is left in /{folder}")
        return found
