"""A model of schedules: masters that make tasks of ticks, an operator who edits, a clock, and what ZooKeeper has.

The moves, the decisions and the verdicts are those of the product. Masters see ticks as late as they please. A master
is fenced by its session as a primary, or it is not, as a master that stands in: then two of them may act at once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

import msgspec

from herdmaster.core import layout, schedule_moves
from herdmaster.core.layout import NEVER, TickName, parse_tick_name
from herdmaster.core.operations import CreateNode, Move
from herdmaster.core.schedule_decisions import Fire, NextTick, SkipTo, decide
from herdmaster.core.schedules import (
    Overlap,
    Schedule,
    Tick,
    decode_schedule,
    decode_tick,
    encode_schedule,
    name_of_tick,
    scheduled_task,
)
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.transitions import verdict
from herdmaster.inspection.schedules import StoredSchedule
from herdmaster.operations.schedules import creation, following_tick, removal, replacement
from tests.model.engine import Model, Process, Step
from tests.model.schedule_server import (
    BASE,
    DUES,
    NAME,
    ULID,
    UNIT,
    Known,
    Link,
    Mind,
    Node,
    Operator,
    Refused,
    Rule,
    Server,
    Setup,
    Zk,
    schedule_of,
    with_node,
)

# --- masters ---------------------------------------------------------------------------------------------------------


class Masters:
    """One of two masters, A or B."""

    def __init__(self, setup: Setup, letter: str) -> None:
        self._setup = setup
        self._me = f"master {letter}"
        self._other = f"master {'B' if letter == 'A' else 'A'}"
        self._title = f"Master {letter}"
        self._server = Server(setup)

    def process(self) -> Process:
        return Process(("time", "zk", self._me, self._other, "faults"), self._steps)

    def _steps(self, time: int, zk: Zk, me: Mind, other: Mind, faults: int) -> Iterator[Step]:
        if me.link is Link.OUT:
            if not (self._setup.fenced and other.link is not Link.OUT):
                yield self._step("begins to act", Mind(Link.UP, zk.children(layout.TICKS)))
            return
        if me.request is not None:
            yield from self._arrive(time, zk, me, faults)
        if me.link is Link.AWAY:
            yield self._step("is back, and lists everything anew", Mind(Link.UP, zk.children(layout.TICKS)))
            yield self._step("loses its session", Mind())
            return
        if faults:
            yield self._step("loses its connection", me._replace(link=Link.AWAY), fault=True)
        if me.picture != zk.children(layout.TICKS):
            yield self._step("hears of the ticks", me._replace(picture=zk.children(layout.TICKS)))
        if not me.listed:
            yield self._step("knows which tasks have not ended", me._replace(listed=True))
        if me.request is None:
            yield from self._decide(time, zk, me)

    def _decide(self, time: int, zk: Zk, me: Mind) -> Iterator[Step]:
        now = BASE + (time if self._setup.keeps(Rule.SERVERS_CLOCK) else time + 1) * UNIT
        for name in me.picture:
            tick = parse_tick_name(name)
            assert tick is not None
            if tick.due_ms > now or tick.due_ms == NEVER:
                continue
            known = me.known if me.known is not None and me.known.name == name else _read(zk, name)
            if known is None:
                continue  # it hears of that
            move = self._move(tick, known, zk, me, now)
            if move is not None:
                request, rest = self._parts(move)
                story = f"decides: {move.transition} of {_told(tick)}"
                yield self._step(story, me._replace(known=known, request=request, rest=rest))

    def _move(self, name: TickName, known: Known, zk: Zk, me: Mind, now: int) -> Move | None:
        schedule, tick = decode_schedule(known.schedule), decode_tick(known.tick)
        if schedule.overlap is not Overlap.ALLOW and not me.listed and self._setup.keeps(Rule.WHOLE_PICTURE):
            return None
        is_busy = me.listed and any(task == tick.task for task, _ in zk.tasks)
        if not self._setup.keeps(Rule.LAST_TIME) and tick.due_ms is None:
            tick = msgspec.structs.replace(tick, last_ms=None)
        match decide(NAME, schedule, tick, now_ms=now, created_ms=known.created, is_busy=is_busy):
            case Fire(tasks, _, following):
                return schedule_moves.tick(name, known.version, tasks, following)
            case SkipTo(following):
                return schedule_moves.skip_tick(name, known.version, following)
        return None

    def _parts(self, move: Move) -> tuple[Move, Move | None]:
        if self._setup.keeps(Rule.ONE_TRANSACTION) or move.transition is not TransitionName.TICK:
            return move, None
        check, _, *creations, _ = move.operations
        first = Move(move.transition, move.task, (check, *creations), 0)
        others = tuple(each for each in move.operations if each not in creations)
        return first, Move(move.transition, move.task, others, 1)

    def _arrive(self, time: int, zk: Zk, me: Mind, faults: int) -> Iterator[Step]:
        assert me.request is not None
        told = f"ZooKeeper carries out: {me.request.transition}"
        result = self._server.carry_out(me.request, zk, time)
        away = Mind(Link.AWAY)
        if isinstance(result, Refused):
            meant = verdict(me.request, result.place, result.failure)
            forgets = self._setup.keeps(Rule.FORGET_REFUSED) and meant in (Verdict.DECIDE_AGAIN, Verdict.RACE_LOST)
            after = me._replace(known=None if forgets else me.known, request=None, rest=None)
            yield self._step(f"is refused: {meant}", after if me.link is Link.UP else away)
            return
        now, broken = result
        changes = {"zk": now}
        if me.link is Link.AWAY:
            yield self._step(f"is away, and {told}", away, changes, broken=broken)
            return
        yield self._step(told, me._replace(known=None, request=me.rest, rest=None), changes, broken=broken)
        if faults:
            yield self._step(f"is not told that {told}", away, changes, broken=broken, fault=True)

    def _step(
        self, story: str, mind: Mind, changes: dict[str, Zk] | None = None, *, broken: str | None = None,
        fault: bool = False,
    ) -> Step:  # fmt: skip
        counts = {"faults": -1} if fault else {}
        return Step(f"{self._title}: {story}", {self._me: mind, **(changes or {})}, counts, not fault, broken)


def _read(zk: Zk, name: str) -> Known | None:
    schedule, tick = zk.node(layout.schedule_path(NAME)), zk.node(f"{layout.TICKS}/{name}")
    if schedule is None or tick is None:
        return None
    return Known(schedule.version, schedule.data, name, tick.data, tick.ctime)


def _told(tick: TickName) -> str:
    if tick.due_ms == 0:
        return "an unplanned tick"
    return "a tick that is never due" if tick.due_ms == NEVER else f"the tick of time {(tick.due_ms - BASE) // UNIT}"


# --- the operator ----------------------------------------------------------------------------------------------------


class Operators:
    """An operator who does what the setup says, once each, and repeats what is refused or unanswered."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._server = Server(setup)

    def process(self) -> Process:
        return Process(("time", "zk", "operator", "faults"), self._steps)

    def _steps(self, time: int, zk: Zk, me: Operator, faults: int) -> Iterator[Step]:
        if me.number >= len(self._setup.acts):
            return
        act = self._setup.acts[me.number]
        if me.request is not None:
            yield from self._arrive(time, zk, me, faults)
            return
        move = self._move(act, me.number, _stored(zk))
        if move is None:
            yield Step(f"The operator finds done: {act}", {"operator": Operator(me.number + 1)})
        else:
            yield Step(f"The operator asks: {act}", {"operator": me._replace(request=move)})

    def _arrive(self, time: int, zk: Zk, me: Operator, faults: int) -> Iterator[Step]:
        assert me.request is not None
        result = self._server.carry_out(me.request, zk, time)
        again = Operator(me.number, lost=True)
        if isinstance(result, Refused):
            yield Step("The operator is refused", {"operator": again})
        else:
            now, broken = result
            told = f"ZooKeeper carries out for the operator: {me.request.transition}"
            yield Step(told, {"zk": now, "operator": Operator(me.number + 1)}, broken=broken)
            if faults:
                yield Step(
                    f"{told}, and the reply is lost", {"zk": now, "operator": again}, {"faults": -1}, False, broken
                )
        if faults:
            yield Step("The request of the operator is lost", {"operator": again}, {"faults": -1}, False)

    def _move(self, act: str, number: int, stored: StoredSchedule | None) -> Move | None:
        """Return what is to be done; None if it is done."""
        ident = number if self._setup.keeps(Rule.ID_IN_TICK) else 0
        if stored is None:
            return creation(NAME, schedule_of(number + 1, ident, self._setup.overlap)) if act == "add" else None
        schedule, tick = stored.schedule, stored.tick
        assert schedule is not None
        assert tick is not None
        match act:
            case "edit":
                changed = msgspec.structs.replace(schedule, payload=schedule_of(number + 1, 0, Overlap.ALLOW).payload)
            case "retime":
                changed = msgspec.structs.replace(schedule, starts_ms=BASE)
            case "pause":
                changed = msgspec.structs.replace(schedule, paused=True)
            case "catch up":
                changed = msgspec.structs.replace(schedule, paused=False)
            case "remove":
                return removal(stored) if schedule.call.args == schedule_of(0, 0, Overlap.ALLOW).call.args else None
            case "run":
                return self._run(stored, schedule, tick)
            case _:
                return None
        return None if changed == schedule else replacement(stored, changed, catch_up=True)

    def _run(self, stored: StoredSchedule, schedule: Schedule, tick: Tick) -> Move | None:
        if ULID in tick.by_hand:
            return None
        task = scheduled_task(NAME, schedule, 0, None, BASE, ulid=ULID)
        following = following_tick(stored, schedule)
        following = NextTick(following.name, msgspec.structs.replace(following.tick, by_hand=(ULID,)))
        edit = schedule_moves.edit_schedule(
            NAME, stored.version, encode_schedule(schedule), stored.tick_name, following
        )
        move = schedule_moves.run_now(edit, [task])
        if self._setup.keeps(Rule.RUN_IS_EDIT):
            return move
        return Move(move.transition, move.task, move.operations[1:], 0)


def _stored(zk: Zk) -> StoredSchedule | None:
    schedule = zk.node(layout.schedule_path(NAME))
    if schedule is None:
        return None
    (name,) = zk.children(layout.TICKS)
    tick = zk.node(f"{layout.TICKS}/{name}")
    assert tick is not None
    return StoredSchedule(
        NAME,
        schedule.version,
        decode_schedule(schedule.data),
        parse_tick_name(name),
        decode_tick(tick.data),
        tick.ctime,
    )


# --- the whole -------------------------------------------------------------------------------------------------------


def build(setup: Setup) -> Model:
    schedule = schedule_of(0, 0, setup.overlap)
    first = name_of_tick(NAME, schedule, Tick())
    zk = Zk()
    for operation in creation(NAME, schedule).operations:
        assert isinstance(operation, CreateNode)
        zk = with_node(zk, Node(operation.path, operation.data, 0, BASE))
    assert zk.children(layout.TICKS) == (layout.tick_name(first),)
    initial: dict[str, Hashable] = {
        "time": 0,
        "zk": zk,
        "master A": Mind(),
        "master B": Mind(),
        "operator": Operator(),
        "back": False,
    }
    processes = [
        Masters(setup, "A").process(),
        Masters(setup, "B").process(),
        Operators(setup).process(),
        Process(("time", "back"), _clock(setup)),
        Process(("zk",), _workers),
    ]
    settled: dict[str, Callable[..., bool]] = {
        "time": lambda time: time == DUES[-1],
        "zk": lambda zk: _is_settled(setup, zk),
        "master A": lambda mind: mind.request is None and mind.link is not Link.AWAY,
        "operator": lambda operator: operator.number == len(setup.acts),
    }
    return Model(initial, {"faults": setup.faults}, processes, (), settled, bits=16)


def _clock(setup: Setup) -> Callable[[int, bool], Iterator[Step]]:
    def steps(time: int, back: bool) -> Iterator[Step]:
        if time < DUES[-1]:
            yield Step(f"It is time {time + 1}", {"time": time + 1})
        if setup.clock_goes_back and time and not back:
            yield Step("The servers' clock goes back by one", {"time": time - 1, "back": True}, progress=False)

    return steps


def _workers(zk: Zk) -> Iterator[Step]:
    for name, due in zk.tasks:
        left = tuple(each for each in zk.tasks if each[0] != name)
        yield Step(f"The task of time {(due - BASE) // UNIT if due else 'now'} ends", {"zk": zk._replace(tasks=left)})


def _is_settled(setup: Setup, zk: Zk) -> bool:
    if zk.tasks or not all(name.startswith(str(NEVER)) for name in zk.children(layout.TICKS)):
        return False
    dues = {due for _, due in zk.made}
    return not setup.expects_all or dues >= {BASE + due * UNIT for due in DUES}
