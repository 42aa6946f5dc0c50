"""The transactions of flows: those of the product, but for the paths and the data.

A path stands without its first slash, F is the flow, and a worker is a letter. Data is text: of a task `STEP RUN
PROGRESS`, of the header its state. Where a rule is switched off, its part of the transaction is left out or moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, cast

import msgspec

from herdmaster.core import flow_moves
from herdmaster.core.flow_moves import RetriedStep
from herdmaster.core.flows import FlowStep
from herdmaster.core.operations import CheckNode, CreateNode, DeleteNode, Move, Operation, SetNode
from tests.model.flow_graph import Graph, step_of
from tests.model.flow_server import Rule, Setup, Zk

FLOW: Final = "flow-01arz3ndektsv4rrffq69g5fav"


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


def translated(product: Move) -> Move:
    """Return a move of the product with the paths of the model."""
    operations = [msgspec.structs.replace(each, path=_path(each.path)) for each in product.operations]
    return move(str(product.transition), product.task.removeprefix(f"{FLOW}/"), *operations)


def _path(path: str) -> str:
    if path == f"/status/{FLOW}":
        return "status"
    return path.replace(f"/flows/{FLOW}", "F").removeprefix("/")


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


def complete(setup: Setup, zk: Zk, ended: Held, left_out: Iterable[str]) -> Move:
    step = ended.payload.step
    joins = [join for join in setup.graph.joins(step) if f"F/steps/{join}/{step}" not in left_out]
    added = [create(f"F/steps/{step}+0", Payload(f"{step}+0").encode())] if setup.graph.of(step).adds else []
    described = _described(ended, joins)
    return _ending(setup, zk, flow_moves.complete_step(_worker_of(ended), ended.task, described, b"", added))


def fail(setup: Setup, zk: Zk, ended: Held) -> Move:
    data = ended.payload.encode()
    return _ending(setup, zk, flow_moves.fail_step(_worker_of(ended), ended.task, _described(ended), data))


def cancel_step(setup: Setup, zk: Zk, ended: Held) -> Move:
    described, data = _described(ended), ended.payload.encode()
    if ended.place.startswith("tasks/"):
        return _ending(setup, zk, flow_moves.cancel_step_waiting(ended.task, described, data))
    return _ending(setup, zk, flow_moves.cancel_step_assigned(_worker_of(ended), ended.task, described, data))


def lose(setup: Setup, zk: Zk, name: str) -> Move:
    """Return what ends a step whose task is nowhere. Its run is known by the name of the task."""
    step = (zk.data(f"F/running/{name}") or "").partition(" ")[0].rstrip("!?")
    run = int(name.partition("r")[2].partition("l")[0]) if setup.keeps(Rule.LOSE_KEEPS_RUN) else 0
    payload = Payload(step, run)
    return _ending(setup, zk, flow_moves.lose_step(name, FlowStep(FLOW, step, "", name), payload.encode()))


def _described(held: Held, joins: Iterable[str] = ()) -> FlowStep:
    return FlowStep(FLOW, held.payload.step, "", held.task, tuple(joins))


def _worker_of(held: Held) -> str:
    return held.place.split("/")[1]


def _ending(setup: Setup, zk: Zk, product: Move) -> Move:
    """Return the move that ends a step, without the rule that is switched off."""
    found = translated(product)
    running = f"F/running/{found.task}"
    operations = list(found.operations)
    if not setup.keeps(Rule.RUNNING_LAST):
        operations.insert(1, operations.pop())
    if not setup.keeps(Rule.RUNNING_GUARD) and zk.data(running) is None:
        operations = [each for each in operations if each.path != running]
    return move(found.transition, found.task, *operations)


def expand(setup: Setup, zk: Zk, at: Held, left_out: Iterable[str]) -> Move:
    """Return what makes the next item; `zk` is what the worker read of running/E."""
    running, payload = f"F/running/{at.task}", at.payload
    item = Payload(f"{payload.step}.{payload.progress}")
    following = payload._replace(progress=payload.progress + 1)
    edges = [f"F/steps/{join}/{item.step}" for join in setup.graph.joins(payload.step)]
    product = flow_moves.expand_step(
        _worker_of(at),
        at.task,
        _described(at),
        following.encode(),
        running=f"{payload.step} {following.progress}".encode(),
        version=zk.version(running),
        creations=[*task(item, zk.life), *(create(path) for path in edges if path not in left_out)],
    )
    found = translated(product)
    kept = setup.keeps(Rule.EXPAND_SETS_RUNNING)
    return found if kept else move("expand step", at.task, *(each for each in found.operations if each.path != running))


# --- the primary -----------------------------------------------------------------------------------------------------


def start(setup: Setup, entry: str, edges: Sequence[str], version: int, life: int) -> Move:
    payload = Payload(step_of(entry))
    name, data = task_of(payload, life), payload.encode()
    parent, colon, step = entry.rpartition(":")
    if colon:
        product = flow_moves.start_follower(FLOW, parent, step, name, data)
    else:
        known = version if edges and setup.keeps(Rule.MARKED_AT_VERSION) else -1
        product = flow_moves.start_step(FLOW, entry, name, data, edges=edges, version=known)
    found = translated(product)
    ordered = found.operations
    if not setup.keeps(Rule.START_RUNNING_FIRST):
        creations = [each for each in ordered if isinstance(each, CreateNode)]
        ordered = (*(each for each in ordered if not isinstance(each, CreateNode)), *creations)
    return move(found.transition, entry, *ordered)


def drop_edges(entry: str, edges: Sequence[str]) -> Move:
    return translated(flow_moves.drop_edges(FLOW, entry, edges))


def end(state: str, version: int) -> Move:
    return translated(flow_moves.end_flow(FLOW, version, state.encode(), state.encode()))


# --- operators -------------------------------------------------------------------------------------------------------


def again(setup: Setup, zk: Zk, steps: Iterable[str]) -> list[RetriedStep]:
    payloads = [decode(zk.data(f"F/failed/{step}") or "") for step in steps]
    following = [payload._replace(run=payload.run + 1) for payload in payloads]
    marks = [setup.graph.of(each.step).mark for each in following]
    pairs = zip(following, marks, strict=True)
    return [RetriedStep(each.step, task_of(each, zk.life), each.encode(), mark) for each, mark in pairs]


def retry(setup: Setup, zk: Zk, step: str) -> Move:
    found = translated(flow_moves.retry_step(FLOW, zk.version("F"), b"running", again(setup, zk, [step])))
    _, *others = found.operations
    return found if setup.keeps(Rule.RETRY_SETS_HEADER) else move("retry step", step, CheckNode("F"), *others)


def reopen(setup: Setup, zk: Zk) -> Move:
    steps, has_status = again(setup, zk, zk.children("F/failed")), zk.data("status") is not None
    has_cancel = zk.data("F/cancel") is not None and setup.keeps(Rule.REOPEN_TAKES_CANCEL)
    version = zk.version("F")
    product = flow_moves.reopen_flow(FLOW, version, b"running", steps, has_status=has_status, has_cancel=has_cancel)
    return translated(product)


def cancel() -> Move:
    return translated(flow_moves.cancel_flow(FLOW))


def mark_removed(zk: Zk) -> Move:
    return translated(flow_moves.remove_flow(FLOW, zk.version("F"), b"removed"))


def delete_leaf(setup: Setup, zk: Zk) -> Move | None:
    """Return what deletes the next znode of a tree, the header last."""
    names = sorted(zk.names, key=lambda path: (-path.count("/"), path))
    if not names:
        return None
    check = [CheckNode("F", zk.version("F"))] if setup.keeps(Rule.LEAVES_AT_VERSION) else []
    has_outcome = names[0] == "F" and zk.data("status") is not None and setup.keeps(Rule.OUTCOME_WITH_HEADER)
    outcome = [DeleteNode("status")] if has_outcome else []
    return move("delete a leaf", names[0], *check, *outcome, DeleteNode(names[0]))
