"""The transactions of flows in the model. A path stands without its first slash; F is the flow, W a worker's letter.

Data is text: of a task `STEP RUN PROGRESS`, of the header its state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

from herdmaster.core.operations import CheckNode, CreateNode, DeleteNode, Move, Operation, SetNode
from tests.model.flow_graph import Graph, step_of
from tests.model.flow_server import Rule, Setup, Zk


class Payload(NamedTuple):
    step: str
    run: int = 0
    progress: int = 0

    def encode(self) -> bytes:
        return f"{self.step} {self.run} {self.progress}".encode()


def decode(data: str) -> Payload:
    step, run, progress = data.split()
    return Payload(step, int(run), int(progress))


class Held(NamedTuple):
    """A task in a place."""

    place: str
    task: str
    payload: Payload


def held(zk: Zk, place: str) -> Held:
    return Held(place, place.rpartition("/")[2], decode(zk.data(place) or ""))


def move(transition: str, task: str, *operations: Operation) -> Move:
    return Move(cast("Any", transition), task, operations, 0)


def create(path: str, data: bytes = b"") -> Operation:
    return CreateNode(path, data)


def task_of(payload: Payload, life: int) -> str:
    return f"t{payload.step}r{payload.run}" + (f"l{life}" if life > 1 else "")


def task(payload: Payload, life: int) -> tuple[Operation, Operation]:
    """Return what makes the task of a step."""
    name = task_of(payload, life)
    return create(f"tasks/{name}", payload.encode()), create(f"F/running/{name}", payload.step.encode())


# --- the client ------------------------------------------------------------------------------------------------------


def waiting(graph: Graph, *, roots: bool) -> Iterator[Operation]:
    for each in graph.definitions:
        if not each.parents and not roots:
            continue
        entry = graph.entry(each.step)
        yield create(f"F/steps/{entry}", Payload(each.step).encode())
        if ":" not in entry:
            yield from (create(f"F/steps/{entry}/{parent}") for parent in each.parents)


def submissions(setup: Setup, life: int) -> list[Move]:
    """Return the batches of a submission."""
    folders = [create(f"F/{name}") for name in ("steps", "results", "failed")]
    if setup.batches == 1:
        roots = [each for each in setup.graph.definitions if not each.parents]
        tasks = [operation for each in roots for operation in task(Payload(each.step), life)]
        head = (create("F", b"running"), *folders, *waiting(setup.graph, roots=False))
        return [move("submit flow", "F", *head, create("F/running"), *tasks)]
    steps = list(waiting(setup.graph, roots=True))
    half = len(steps) // 2
    version = 0 if setup.keeps(Rule.BUILT_AT_VERSION) else -1
    last = (SetNode("F", b"running", version), *steps[half:], create("F/running"))
    first = (create("F", b"building"), *folders, *steps[:half])
    return [move("submit flow", "F", *first), move("submit flow", "F", *last)]


# --- workers ---------------------------------------------------------------------------------------------------------


def ending(setup: Setup, zk: Zk, transition: str, ended: Held, *rest: Operation) -> Move:
    """Return what ends a step: running/T goes last, after everything else is told."""
    path = f"F/running/{ended.task}"
    is_left_out = not setup.keeps(Rule.RUNNING_GUARD) and zk.data(path) is None
    running = () if is_left_out else (DeleteNode(path),)
    ordered = (*rest, *running) if setup.keeps(Rule.RUNNING_LAST) else (*running, *rest)
    return move(transition, ended.task, DeleteNode(ended.place), *ordered)


def complete(setup: Setup, zk: Zk, ended: Held, left_out: Iterable[str]) -> Move:
    step = ended.payload.step
    edges = [f"F/steps/{join}/{step}" for join in setup.graph.joins(step)]
    deletions = [DeleteNode(path) for path in edges if path not in left_out]
    added = [create(f"F/steps/{step}+0", Payload(f"{step}+0").encode())] if setup.graph.of(step).adds else []
    return ending(setup, zk, "complete step", ended, *deletions, *added, create(f"F/results/{step}"))


def fail(setup: Setup, zk: Zk, ended: Held) -> Move:
    return ending(setup, zk, "fail step", ended, _failed(ended))


def cancel_step(setup: Setup, zk: Zk, ended: Held) -> Move:
    return ending(setup, zk, "cancel step", ended, DeleteNode(f"cancel/{ended.task}"), _failed(ended))


def _failed(ended: Held) -> Operation:
    return create(f"F/failed/{ended.payload.step}", ended.payload.encode())


def expand(setup: Setup, zk: Zk, at: Held, left_out: Iterable[str]) -> Move:
    """Return what makes the next item; `zk` is what the worker read of running/E."""
    running, payload = f"F/running/{at.task}", at.payload
    item = Payload(f"{payload.step}.{payload.progress}")
    following = payload._replace(progress=payload.progress + 1)
    edges = [f"F/steps/{join}/{item.step}" for join in setup.graph.joins(payload.step)]
    guard = [SetNode(running, f"{payload.step} {following.progress}".encode(), zk.version(running))]
    return move(
        "expand step",
        at.task,
        SetNode(at.place, following.encode()),
        *(guard if setup.keeps(Rule.EXPAND_SETS_RUNNING) else ()),
        *task(item, zk.life),
        *(create(path) for path in edges if path not in left_out),
    )


# --- the primary -----------------------------------------------------------------------------------------------------


def start(setup: Setup, entry: str, edges: Iterable[str], version: int, life: int) -> Move:
    made = task(Payload(step_of(entry)), life)
    parent, colon, _ = entry.rpartition(":")
    paths = (*(f"F/steps/{entry}/{edge}" for edge in edges), f"F/steps/{entry}")
    taken = tuple(DeleteNode(path) for path in paths)
    ordered = (*made, *taken) if setup.keeps(Rule.START_RUNNING_FIRST) else (*taken, *made)
    if colon:
        return move("start follower", entry, CheckNode("F"), CheckNode(f"F/results/{parent}"), *ordered)
    check = CheckNode("F", version if entry[-1] in "!?" and setup.keeps(Rule.MARKED_AT_VERSION) else -1)
    return move("start step", entry, check, *ordered)


def drop_edges(entry: str, edges: Iterable[str]) -> Move:
    return move("drop edge", entry, CheckNode("F"), *(DeleteNode(f"F/steps/{entry}/{parent}") for parent in edges))


def end(state: str, version: int) -> Move:
    header = SetNode("F", state.encode(), version)
    return move("end flow", "F", header, DeleteNode("F/running"), create("status", state.encode()))


# --- operators -------------------------------------------------------------------------------------------------------


def again(zk: Zk, step: str) -> tuple[Operation, ...]:
    data = zk.data(f"F/failed/{step}")
    assert data is not None
    payload = decode(data)
    made = task(payload._replace(run=payload.run + 1), zk.life)
    return DeleteNode(f"F/failed/{step}"), *made


def retry(setup: Setup, zk: Zk, step: str) -> Move:
    header: Operation = SetNode("F", b"running") if setup.keeps(Rule.RETRY_SETS_HEADER) else CheckNode("F")
    return move("retry step", step, header, *again(zk, step))


def reopen(setup: Setup, zk: Zk) -> Move:
    old = ["F/cancel"] if setup.keeps(Rule.REOPEN_TAKES_CANCEL) else []
    deletions = [DeleteNode(path) for path in (*old, "status") if zk.data(path) is not None]
    head = SetNode("F", b"running", zk.version("F"))
    steps = [operation for step in zk.children("F/failed") for operation in again(zk, step)]
    return move("reopen flow", "F", head, *deletions, create("F/running"), *steps)


def cancel() -> Move:
    return move("cancel flow", "F", CheckNode("F/running"), create("F/cancel"))


def mark_removed(zk: Zk) -> Move:
    return move("remove flow", "F", SetNode("F", b"removed", zk.version("F")))


def delete_leaf(setup: Setup, zk: Zk) -> Move | None:
    """Return what deletes the next znode of a tree, the header last."""
    names = sorted(zk.names, key=lambda path: (-path.count("/"), path))
    if not names:
        return None
    check = [CheckNode("F", zk.version("F"))] if setup.keeps(Rule.LEAVES_AT_VERSION) else []
    has_outcome = names[0] == "F" and zk.data("status") is not None and setup.keeps(Rule.OUTCOME_WITH_HEADER)
    outcome = [DeleteNode("status")] if has_outcome else []
    return move("delete a leaf", names[0], *check, *outcome, DeleteNode(names[0]))
