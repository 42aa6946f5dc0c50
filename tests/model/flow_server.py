"""What the model of flows is made of, and ZooKeeper in it, which judges each transaction by what is promised."""

from __future__ import annotations

import enum
from functools import cache
from typing import Final, NamedTuple

from herdmaster.core.operations import CreateNode, DeleteNode, Move, Operation, SetNode
from herdmaster.core.table import Failure
from tests.model.flow_graph import Graph, children, has_all, step_of, view

ONE_PLACE: Final = "a step is in one place: it waits, runs, is done, or has failed"
NEEDED: Final = "a step starts only when all that it needs is there"
ONCE: Final = "a step starts once, and once more for each retry"
AT_REST: Final = "a flow ends only at rest, with what became of its steps"
OLD_REQUEST: Final = "a flow that runs again is not ended by a request from before"
WHOLE: Final = "a flow runs with all its steps, or not at all"
HAD_TASK: Final = "a step is lost only if its task is nowhere"
OWN_OUTCOME: Final = "a flow has its own outcome, not that of an earlier one of its name"

ENDED: Final = frozenset({"done", "failed", "cancelled"})


LETTERS: Final = ("1", "2")
"""Of the workers."""


class Rule(enum.Enum):
    """A rule of flows. Its value says what is done where it is switched off."""

    RUNNING_LAST = "the end of a step deletes running/T before it creates what became of the step"
    EDGE_GONE = "a missing edge is taken for the end of the step"
    START_RUNNING_FIRST = "the start of a step deletes steps/S before it creates running/T"
    RUNNING_GUARD = "a step ends without a look at running/T"
    RETRY_SETS_HEADER = "a retry leaves the header as it is"
    END_NOT_EMPTY = "the end of a flow deletes running/ whatever is in it"
    REOPEN_TAKES_CANCEL = "a flow that is opened again keeps the request to cancel it"
    EXPAND_SETS_RUNNING = "chunks of items are made without a look at the progress of other copies"
    EDGES_WITH_START = "the edges of a marked step are deleted before it starts"
    MARKED_AT_VERSION = "a marked step starts whatever was retried meanwhile"
    REMOVED_FIRST = "a tree is deleted without a word in its header"
    LEAVES_AT_VERSION = "a tree is deleted without a look at the version of its header"
    BUILT_AT_VERSION = "the last batch starts the flow whatever its header says"
    LOSE_STEP = "a step whose task is nowhere counts as running for ever"
    LOST_BEHIND_READ = "a step is taken for lost by an old picture of the tasks"
    LOSE_KEEPS_RUN = "a lost step fails without the number of its run"
    OUTCOME_WITH_HEADER = "the header is deleted without the outcome of the flow"


class Setup(NamedTuple):
    """One run. `acts` and `others` are what two operators do, each in its order, at any time. `failing`: steps that
    fail in their first run; those of `may_fail` may. `copies`: how many copies of tasks a reference master makes.
    `deletions`: how many tasks are deleted by hand."""

    graph: Graph
    acts: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    may_fail: tuple[str, ...] = ()
    stop: bool = False
    faults: int = 1
    fenced: bool = True
    workers: int = 1
    copies: int = 0
    deletions: int = 0
    batches: int = 1
    lives: int = 1
    off: Rule | None = None

    def keeps(self, rule: Rule) -> bool:
        return self.off is not rule


class Zk(NamedTuple):
    """What ZooKeeper has: path, data and version of each znode. `started`: every task that was made for a step.
    `life` counts the flows that had the name."""

    nodes: tuple[tuple[str, str, int], ...] = ()
    started: tuple[str, ...] = ()
    life: int = 1

    def data(self, path: str) -> str | None:
        return next((data for each, data, _ in self.nodes if each == path), None)

    def version(self, path: str) -> int:
        return next((version for each, _, version in self.nodes if each == path), -1)

    def children(self, folder: str) -> tuple[str, ...]:
        return children((each for each, _, _ in self.nodes), folder)

    @property
    def names(self) -> frozenset[str]:
        """Return the paths of the flow."""
        return frozenset(path for path, _, _ in self.nodes if path.startswith("F"))


class Refused(NamedTuple):
    path: str
    failure: Failure


class Done(NamedTuple):
    """What was carried out. `events` are told to masters one by one, in this order."""

    zk: Zk
    events: tuple[str, ...]
    broken: str | None


@cache
def carry_out(setup: Setup, zk: Zk, move: Move) -> Done | Refused:
    nodes = {path: (data, version) for path, data, version in zk.nodes}
    events: list[str] = []
    for operation in move.operations:
        failure = _apply(setup, nodes, operation, events)
        if failure is not None:
            return Refused(operation.path, failure)
    started = {operation.path for operation in move.operations if _starts(operation)}
    now = Zk(
        tuple(sorted((path, *node) for path, node in nodes.items())),
        tuple(sorted({*zk.started, *started})),
        zk.life + (move.transition == "submit flow" and zk.data("F") is None and bool(zk.started)),
    )
    broken = ONCE if started & set(zk.started) else _judge(setup, zk, now, move)
    return Done(now, tuple(events), broken)


def _starts(operation: Operation) -> bool:
    return isinstance(operation, CreateNode) and operation.path.startswith("F/running/")


def _apply(setup: Setup, nodes: dict[str, tuple[str, int]], operation: Operation, events: list[str]) -> Failure | None:
    path, found = operation.path, nodes.get(operation.path)
    if isinstance(operation, CreateNode):
        if found is not None:
            return Failure.NODE_EXISTS
        folder = path.rpartition("/")[0]
        if folder.startswith("F") and folder not in nodes:
            return Failure.NO_NODE
        nodes[path] = (operation.data.decode(), 0)
        events.append(f"+{path}")
        return None
    if found is None:
        return Failure.NO_NODE
    if operation.version not in (-1, found[1]):
        return Failure.BAD_VERSION
    if isinstance(operation, SetNode):
        nodes[path] = (operation.data.decode(), found[1] + 1)
    elif isinstance(operation, DeleteNode):
        below = [each for each in nodes if each.startswith(f"{path}/")]
        if below and (path != "F/running" or setup.keeps(Rule.END_NOT_EMPTY)):
            return Failure.NOT_EMPTY
        for each in (*below, path):
            del nodes[each]
            events.append(f"-{each}")
    return None


def places_of(zk: Zk) -> list[str]:
    """Return where tasks stand, outside of the flow."""
    return [path for path, _, _ in zk.nodes if path.startswith(("tasks/", "assign/"))]


# --- what is promised ------------------------------------------------------------------------------------------------


def _judge(setup: Setup, before: Zk, after: Zk, move: Move) -> str | None:
    was, now = before.data("F"), after.data("F")
    if was is None and now is not None and after.data("status") is not None:
        return OWN_OUTCOME
    if now == "running" and (was != "running" or move.transition == "delete a leaf"):
        if was in ENDED and after.data("F/cancel") is not None:
            return OLD_REQUEST
        if not all(_places(after, each.step) for each in setup.graph.definitions):
            return WHOLE
    if now in ENDED and was == "running":
        return _judge_end(setup, before, now)
    if move.transition == "delete a leaf" or now not in {"running", *ENDED}:
        return None
    if any(len(_places(after, step)) != 1 for step in _steps(setup, before)):
        return ONE_PLACE
    if move.transition == "lose step" and any(path.endswith(f"/{move.task}") for path in places_of(before)):
        return HAD_TASK
    if move.transition.startswith("start"):
        is_needed = has_all(setup.graph, move.task, view(before.names, stop=setup.stop))
        return None if is_needed else NEEDED
    return None


def _steps(setup: Setup, zk: Zk) -> set[str]:
    """Return the steps of the flow with their items, and what was added."""
    steps = {each.step for each in setup.graph.definitions} if zk.data("F") is not None else set()
    steps.update(zk.children("F/results"), zk.children("F/failed"), map(step_of, zk.children("F/steps")))
    return steps | {_step_in(data) for path, data, _ in zk.nodes if path.startswith("F/running/")}


def _places(zk: Zk, step: str) -> list[str]:
    found = [path for path in (f"F/results/{step}", f"F/failed/{step}") if zk.data(path) is not None]
    found += [name for name in zk.children("F/steps") if step_of(name) == step]
    return found + [path for path, data, _ in zk.nodes if path.startswith("F/running/") and _step_in(data) == step]


def _step_in(data: str) -> str:
    """Return the step in the data of running/T: its mark and its progress follow it."""
    return data.partition(" ")[0].rstrip("!?")


def _judge_end(setup: Setup, before: Zk, state: str) -> str | None:
    seen = view(before.names, stop=setup.stop)
    if seen.running or (state == "cancelled") > seen.is_cancelled:
        return AT_REST
    if state == "cancelled":
        return None
    if (state == "failed") is not bool(seen.failed):
        return AT_REST
    waiting = [entry for entry in seen.entries if not (seen.is_stopped and entry[-1] not in "!?")]
    forgotten = any(has_all(setup.graph, entry, seen) for entry in waiting)
    return AT_REST if forgotten and not seen.is_cancelled else None
