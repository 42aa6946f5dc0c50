"""What the model of schedules is made of, and ZooKeeper in it, which judges each move by what is promised."""

from __future__ import annotations

import enum
from functools import cache
from typing import Final, NamedTuple

import msgspec

from herdmaster.core import layout
from herdmaster.core.operations import CheckNode, CreateNode, DeleteNode, Move, Operation, SetNode
from herdmaster.core.payload import Call, decode_call, encode_arguments, encode_call
from herdmaster.core.schedules import Missed, Overlap, Schedule, decode_schedule
from herdmaster.core.table import Failure
from herdmaster.core.timetable import Every

NAME: Final = "s"
BASE: Final = 1_764_000_000_000
UNIT: Final = 1000
DUES: Final = (1, 2)
"""Times of the schedule, in units."""
ULID: Final = "01arz3ndektsv4rrffq69g5fav"

TWICE: Final = "no time has two tasks"
EARLY: Final = "no task is made before its time"
STALE: Final = "no task is what the schedule said before an edit"
ONE_TICK: Final = "a schedule has one tick, and there is no other"
OVERLAP: Final = "no task is made while the last one has not ended"
RUN_ONCE: Final = "a schedule runs once when an operator asks once"


class Rule(enum.Enum):
    """A rule of schedules. Its value says what is done where it is switched off."""

    VERSION_CHECK = "a tick does not check the version of the schedule"
    GUARD = "a move is carried out although its tick is gone"
    ONE_TRANSACTION = "the task is made in one request, and the tick moves in another"
    ID_IN_TICK = "a schedule that is made anew has the id of the one before"
    LAST_TIME = "the next time is planned without a look at the last one"
    FORGET_REFUSED = "a master keeps what it read although its move was refused"
    SERVERS_CLOCK = "a master goes by a clock of its own, which is fast"
    RUN_IS_EDIT = "a request to run makes its task without an edit of the schedule"
    WHOLE_PICTURE = "a master decides before it knows which tasks have not ended"


class Setup(NamedTuple):
    """One run. `acts` are what the operator does, in this order, at any time."""

    acts: tuple[str, ...] = ()
    faults: int = 1
    fenced: bool = True
    overlap: Overlap = Overlap.ALLOW
    clock_goes_back: bool = False
    off: Rule | None = None

    def keeps(self, rule: Rule) -> bool:
        return self.off is not rule

    @property
    def expects_all(self) -> bool:
        """Whether each time has a task in the end."""
        return set(self.acts) <= {"edit", "run", "pause", "catch up"}


class Node(NamedTuple):
    path: str
    data: bytes
    version: int
    ctime: int


class Zk(NamedTuple):
    """What ZooKeeper has. `tasks` are those that have not ended: name and time. `made`: every schedule's id and time
    that had a task."""

    nodes: tuple[Node, ...] = ()
    tasks: tuple[tuple[str, int], ...] = ()
    made: tuple[tuple[str, int], ...] = ()

    def node(self, path: str) -> Node | None:
        return next((each for each in self.nodes if each.path == path), None)

    def children(self, folder: str) -> tuple[str, ...]:
        return tuple(each.path.removeprefix(f"{folder}/") for each in self.nodes if each.path.startswith(f"{folder}/"))


class Link(enum.Enum):
    OUT = "has no session, or is a backup"
    UP = "is connected"
    AWAY = "has lost its connection, and its session lives"


class Known(NamedTuple):
    """What a master has read of a schedule and its tick."""

    version: int
    schedule: bytes
    name: str
    tick: bytes
    created: int


class Mind(NamedTuple):
    """A master. `picture`: the ticks that it sees; `listed`: it knows the tasks. `rest` is sent after `request`."""

    link: Link = Link.OUT
    picture: tuple[str, ...] = ()
    listed: bool = False
    known: Known | None = None
    request: Move | None = None
    rest: Move | None = None


class Operator(NamedTuple):
    """`number` counts what is done. `request`: what was sent; `lost`: its reply is lost."""

    number: int = 0
    request: Move | None = None
    lost: bool = False


@cache
def schedule_of(edition: int, ident: int, overlap: Overlap) -> Schedule:
    payload = msgspec.Raw(encode_call(Call(1, "m:f", *encode_arguments((edition,), {}))))
    return Schedule(
        id=f"{ident:08x}",
        timetable=Every(UNIT, BASE),
        payload=payload,
        missed=Missed.ALL,
        overlap=overlap,
        ends_ms=BASE + DUES[-1] * UNIT,
    )


# --- ZooKeeper -------------------------------------------------------------------------------------------------------


class Refused(NamedTuple):
    place: int
    failure: Failure


class Server:
    """Carries out moves, and looks at what is promised."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def carry_out(self, move: Move, zk: Zk, time: int) -> tuple[Zk, str | None] | Refused:
        """Return what ZooKeeper has then, and the promise that is broken."""
        now, broken = zk, None
        for index, operation in enumerate(move.operations):
            done = self._apply(operation, now, time)
            if isinstance(done, Failure):
                if self._setup.keeps(Rule.GUARD) or not isinstance(operation, DeleteNode):
                    return Refused(index, done)
                continue
            if isinstance(operation, CreateNode) and operation.path.startswith(layout.TASKS):
                broken = broken or self._judge(operation, now, time)
            now = done
        return now, broken or _ticks_broken(now)

    def _apply(self, operation: Operation, zk: Zk, time: int) -> Zk | Failure:
        if operation.path.startswith(layout.TASKS):
            assert isinstance(operation, CreateNode)
            return _with_task(operation, zk)
        found = zk.node(operation.path)
        if isinstance(operation, CreateNode):
            if found is not None:
                return Failure.NODE_EXISTS
            return with_node(zk, Node(operation.path, operation.data, 0, BASE + time * UNIT))
        if found is None:
            return Failure.NO_NODE
        is_checked = self._setup.keeps(Rule.VERSION_CHECK) or not isinstance(operation, CheckNode)
        if is_checked and operation.version not in (-1, found.version):
            return Failure.BAD_VERSION
        if isinstance(operation, SetNode):
            return with_node(without_node(zk, found), found._replace(data=operation.data, version=found.version + 1))
        return without_node(zk, found) if isinstance(operation, DeleteNode) else zk

    def _judge(self, operation: CreateNode, zk: Zk, time: int) -> str | None:
        call = decode_call(operation.data)
        scheduled = call.scheduled
        assert scheduled is not None
        found = zk.node(layout.schedule_path(NAME))
        current = None if found is None else decode_schedule(found.data)
        if scheduled.due == 0:
            return RUN_ONCE if any(due == 0 for _, due in zk.made) else None
        if current is None or bytes(current.call.args) != bytes(call.args):
            return STALE
        if (current.id, scheduled.due) in zk.made:
            return TWICE
        if scheduled.due > BASE + time * UNIT and not self._setup.clock_goes_back:
            return EARLY
        if self._setup.overlap is not Overlap.ALLOW and any(due for _, due in zk.tasks):
            return OVERLAP
        return None


def _with_task(operation: CreateNode, zk: Zk) -> Zk | Failure:
    name = layout.name_of(operation.path)
    if any(name == each for each, _ in zk.tasks):
        return Failure.NODE_EXISTS
    scheduled = decode_call(operation.data).scheduled
    assert scheduled is not None
    found = zk.node(layout.schedule_path(NAME))
    ident = "" if found is None else decode_schedule(found.data).id
    made = tuple(sorted({*zk.made, (ident, scheduled.due)}))
    return zk._replace(tasks=tuple(sorted((*zk.tasks, (name, scheduled.due)))), made=made)


def with_node(zk: Zk, node: Node) -> Zk:
    return zk._replace(nodes=tuple(sorted((*zk.nodes, node))))


def without_node(zk: Zk, node: Node) -> Zk:
    return zk._replace(nodes=tuple(each for each in zk.nodes if each != node))


def _ticks_broken(zk: Zk) -> str | None:
    schedules = len(zk.children(layout.SCHEDULES))
    return None if len(zk.children(layout.TICKS)) == schedules else ONE_TICK
