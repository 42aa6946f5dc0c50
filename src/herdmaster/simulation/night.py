"""A night in a simulated world, told as a story: what the schedules did while masters, servers and operators acted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from operator import itemgetter
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from herdmaster.core.schedules import Tick
from herdmaster.core.timetable import next_due
from herdmaster.simulation.plan import faults
from herdmaster.simulation.plan.faults import Fault
from herdmaster.simulation.plan.night import ZONE, night_plan
from herdmaster.simulation.plan.plan import Plan
from herdmaster.simulation.world.process import UNIX_EPOCH_MS
from herdmaster.simulation.world.world import World

_ZONE: Final = ZoneInfo(ZONE)
_made = re.compile(r"logs: schedule (\S+) made (.+)").fullmatch
_skipped = re.compile(r"logs: schedule (\S+): (skipped .+)").fullmatch
_elected = re.compile(r"logs: elected: \S+ is primary").fullmatch


class Line(msgspec.Struct, frozen=True):
    """One line of a story. `at_ms` is in unix milliseconds of the servers' clock."""

    at_ms: int
    text: str

    def __str__(self) -> str:
        return f"{datetime.fromtimestamp(self.at_ms / 1000, _ZONE):%H:%M:%S}  {self.text}"


class Account(msgspec.Struct, frozen=True):
    """What became of a schedule's times: `due` in all, with a task, and without one, by reason. The rest was in a
    pause."""

    name: str
    due: int
    tasks: int
    skipped: dict[str, int]

    def __str__(self) -> str:
        paused = self.due - self.tasks - sum(self.skipped.values())
        parts = [f"{count} skipped ({reason})" for reason, count in sorted(self.skipped.items())]
        parts += [f"{paused} in a pause"] if paused else []
        return f"{self.name:<8} {self.due:>3} times: {', '.join([f'{self.tasks} tasks', *parts])}"


class Night(msgspec.Struct, frozen=True):
    """A night that is over. `failure` is None where every check held."""

    seed: int
    failure: str | None
    lines: tuple[Line, ...]
    accounts: tuple[Account, ...]


def run_night(seed: int) -> Night:
    """Simulate the night of a seed."""
    plan = night_plan(seed)
    world = World(plan, listen=True)
    result = world.run()
    told = [(fault.when.at, text) for fault in plan.faults if (text := _told(fault)) is not None]
    heard = [(at, f"    {text}") for at, actor, said in result.trace.events() if (text := _heard(actor, said))]
    begin_ms = UNIX_EPOCH_MS + world.server_skew_ms
    lines = [Line(begin_ms + round(at * 1000), text) for at, text in sorted([*told, *heard], key=itemgetter(0))]
    return Night(seed, result.failure, tuple(lines), tuple(_accounts(plan, world.last_ticks())))


def _accounts(plan: Plan, ticks: dict[str, Tick]) -> Iterator[Account]:
    for fault in plan.faults:
        if isinstance(fault, faults.StoreSchedule) and fault.name in ticks:
            tick = ticks[fault.name]
            due = sum(1 for _ in _times(fault))
            yield Account(fault.name, due, tick.runs, tick.skips)


def _times(stored: faults.StoreSchedule) -> Iterator[int]:
    at_ms = UNIX_EPOCH_MS + round(stored.when.at * 1000)
    while (due_ms := next_due(stored.timetable, at_ms)) is not None:
        if due_ms > UNIX_EPOCH_MS + round(stored.ends * 1000):
            return
        yield due_ms
        at_ms = due_ms


def _heard(actor: str, text: str) -> str | None:
    """Return what a role has logged, if it belongs to the story."""
    if (found := _made(text)) is not None:
        return f"{found[1]}: {found[2]}"
    if (found := _skipped(text)) is not None:
        return f"{found[1]}: {found[2]}"
    return f"{actor.partition('#')[0]} is primary" if _elected(text) else None


def _told(fault: Fault) -> str | None:
    """Return what happens, in words."""
    match fault:
        case faults.StoreSchedule(name=name):
            return f"schedule {name} is stored"
        case faults.ChangeSchedule(name=name, what=what):
            return f"an operator takes schedule {name} and {what.value}"
        case faults.Crash(program=program, seconds=seconds, power=power):
            return f"{program} {'loses power' if power else 'is killed'}; it starts again after {seconds:.0f} s"
        case faults.Leave(program=program):
            return f"{program} is restarted"
        case faults.Partition(program=program, seconds=seconds):
            return f"{program} reaches no server for {seconds:.0f} s"
        case faults.Pause(program=program, seconds=seconds):
            return f"{program} stands still for {seconds:.0f} s"
        case faults.JumpClock(program=program, milliseconds=milliseconds):
            return f"the clock of {program}'s machine is set {'forward' if milliseconds > 0 else 'back'} by a day"
        case faults.RestartServer(seconds=seconds):
            return f"ZooKeeper is gone for {seconds:.0f} s"
    return None
