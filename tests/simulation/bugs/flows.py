"""Planted bugs of flows."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgspec

from herdmaster.core import flow_creation, flow_graph, flow_moves, flow_rows, layout, members
from herdmaster.core.expansion import Expansion
from herdmaster.core.flow_graph import FlowGraph
from herdmaster.core.flow_picture import Flow
from herdmaster.core.flow_scope import RESULTS
from herdmaster.core.flows import FlowHeader, FlowState
from herdmaster.core.operations import CheckNode, DeleteNode, Move
from herdmaster.core.row import Place, Verb, Verdict
from herdmaster.roles.primary import feed, flow_starts
from herdmaster.roles.primary.flow_ends import FlowEnds
from herdmaster.roles.shared import flow_removal
from herdmaster.roles.worker import step_moves
from herdmaster.roles.worker.references import _Reading
from herdmaster.simulation.plan.drawing import draw_plan
from herdmaster.simulation.plan.faults import ChangeFlow, FlowChange, When
from herdmaster.simulation.plan.flow_plans import PlannedFlow, PlannedStep
from herdmaster.simulation.plan.jobs import Code, Job
from herdmaster.simulation.plan.plan import Kind, Plan
from herdmaster.zookeeper.model import Stat


def marked_steps_wait_for_no_one() -> Any:
    """A marked step starts when one of its parents is over."""
    return patch.object(flow_graph._Over, "has_open", lambda _self, _entry: False)


def ended_with_steps_that_can_start() -> Any:
    """A flow is at rest as soon as nothing of it runs."""

    def rests(self: Any) -> bool:
        graph = self.graph
        return graph is not None and graph.is_known and self.is_read and not graph.running

    return patch.object(Flow, "is_at_rest", property(rests))


def edge_taken_for_the_end() -> Any:
    """A worker takes a missing edge for the end of its step."""
    wrong = {(Verb.DELETE, Place.EDGES): Verdict.STEP_ENDED}
    return patch.dict(flow_rows._MISSING_OF_WORKERS, wrong)


def opened_again_with_its_cancel() -> Any:
    """A flow that was cancelled keeps the request when it is opened again."""
    reopen = flow_moves.reopen_flow
    return patch.object(flow_moves, "reopen_flow", lambda *args, **rest: reopen(*args, **{**rest, "has_cancel": False}))


def completed_and_still_running() -> Any:
    """A step that is done leaves its `running/T`."""
    complete = flow_moves.complete_step

    def keep(*args: Any, **rest: Any) -> Move:
        move = complete(*args, **rest)
        kept = tuple(
            each for each in move.operations if "/running/" not in each.path or not isinstance(each, DeleteNode)
        )
        return Move(move.transition, move.task, kept, move.guard)

    return patch.object(flow_moves, "complete_step", keep)


def followers_forgotten() -> Any:
    """A result does not make ready what follows it."""
    add = FlowGraph.add

    def forget(self: Any, part: str, name: str) -> None:
        if part == RESULTS:
            self.results.add(name)
        else:
            add(self, part, name)

    return patch.object(FlowGraph, "add", forget)


def last_item_not_made() -> Any:
    """An `each` makes one item too few."""
    make = Expansion.__init__

    def fewer(self: Any, flow: Any, task: str, args: Any, **rest: Any) -> None:
        make(self, flow, task, args._replace(items=args.items[:-1]), **rest)

    return patch.object(Expansion, "__init__", fewer)


def items_in_another_order() -> Any:
    """The results of items come in another order."""
    find = _Reading._results
    return patch.object(_Reading, "_results", lambda self, step: reversed(list(find(self, step))))


def added_steps_forgotten() -> Any:
    """The steps that a step adds are not made."""
    return patch.object(step_moves, "create_added", lambda *_args: [])


def missing_parents_not_named() -> Any:
    """A step that starts without a parent is not told so."""
    return patch.object(flow_starts, "_missing", lambda *_args: ())


def removed_without_a_word() -> Any:
    """A flow is deleted without a word in its header."""
    read = flow_removal._removed

    def claim(data: bytes | None) -> Any:
        state, removed = read(data)
        return (state if state is FlowState.RUNNING else FlowState.REMOVED), removed

    return patch.object(flow_removal, "_removed", claim)


def steps_given_to_old_workers() -> Any:
    """A primary takes every worker for one that knows flows."""
    read = members.worker_state

    def knowing(data: bytes | None) -> Any:
        state = read(data)
        return None if state is None else msgspec.structs.replace(state, flows=True)

    return patch.object(feed, "worker_state", knowing)


def large_flow_begun_too_early() -> Any:
    """A part of a large flow is left out."""
    parts = flow_creation.middle
    return patch.object(flow_creation, "middle", lambda flow: list(parts(flow))[1:])


def retried_without_the_header() -> Any:
    """A retry does not set the header, so what was decided before the retry is not refused."""
    retry = flow_moves.retry_step

    def only_check(flow: str, version: int, header: bytes, steps: Any) -> Move:
        move = retry(flow, version, header, steps)
        first = CheckNode(move.operations[0].path)
        return Move(move.transition, move.task, (first, *move.operations[1:]), move.guard)

    return patch.object(flow_moves, "retry_step", only_check)


def with_early_retries(seed: int) -> Plan:
    """Return a plan with flows of a step that fails once and one that runs after that failure, and an operator who
    retries them about when they fail."""
    plan = draw_plan(seed)
    rng = random.Random(f"herdmaster/{seed}/early retries")
    programs = tuple(msgspec.structs.replace(each, herd=False) for each in plan.programs)
    client = next(each.name for each in programs if each.kind is Kind.CLIENT)
    flows, changes = list[PlannedFlow](), list[ChangeFlow]()
    for number in range(8):
        at = 2.0 + 0.5 * number
        failing, after = (Job(10_000 + 2 * number + each, "", at, raw=False, code=code, seconds=0.01, times=1)
                          for each, code in enumerate((Code.FAIL, Code.RUN)))  # fmt: skip
        flows.append(PlannedFlow(number, client, at, (PlannedStep(failing), PlannedStep(after, (0,), "!"))))
        times = [at + 30 * plan.latency.typical * rng.random() for _ in range(20)]
        changes += [ChangeFlow(when=When(at=each), flow=number, what=FlowChange.RETRY) for each in times]
    return msgspec.structs.replace(plan, programs=programs, jobs=(), flows=tuple(flows), faults=tuple(changes), lags=())


def with_retries_before_the_timeout(seed: int) -> Plan:
    """Return a plan with a flow whose step fails once, and is retried shortly before the time of the flow is over."""
    plan = draw_plan(seed)
    programs = tuple(msgspec.structs.replace(each, herd=False) for each in plan.programs)
    client = next(each.name for each in programs if each.kind is Kind.CLIENT)
    jobs = (
        Job(10_000, "", 2.0, raw=False, code=Code.FAIL, seconds=0.01, times=1),
        Job(10_001, "", 2.0, raw=False, code=Code.RUN, seconds=9.0),
    )
    flow = PlannedFlow(0, client, 2.0, tuple(PlannedStep(job) for job in jobs), timeout=5.0)
    retry = ChangeFlow(when=When(at=5.5), flow=0, what=FlowChange.RETRY)
    return msgspec.structs.replace(plan, programs=programs, jobs=(), flows=(flow,), faults=(retry,), lags=())


def timed_out_from_the_creation() -> Any:
    """The time of a flow that is retried counts from its creation."""
    learn = FlowEnds._learn

    def from_creation(self: FlowEnds, flow: Flow, header: FlowHeader, stat: Stat, **rest: Any) -> None:
        learn(self, flow, header, msgspec.structs.replace(stat, mtime=stat.ctime), **rest)

    return patch.object(FlowEnds, "_learn", from_creation)


def outcome_left_by_removal() -> Any:
    """The removal of a flow leaves its outcome."""
    beside = {**vars(layout), "status_path": lambda _flow: "/status/nothing"}
    return patch.object(flow_removal, "layout", SimpleNamespace(**beside))


def cancelled_flows_go_on() -> Any:
    """Steps of a cancelled flow start."""
    may_start = Flow.may_start

    def go_on(self: Flow, entry: str) -> bool:
        is_cancelled, self.is_cancelled = self.is_cancelled, False
        try:
            return may_start(self, entry)
        finally:
            self.is_cancelled = is_cancelled

    return patch.object(Flow, "may_start", go_on)


BUGS: dict[str, Callable[[], Any]] = {
    bug.__name__: bug
    for bug in (
        marked_steps_wait_for_no_one,
        ended_with_steps_that_can_start,
        edge_taken_for_the_end,
        opened_again_with_its_cancel,
        completed_and_still_running,
        followers_forgotten,
        last_item_not_made,
        items_in_another_order,
        added_steps_forgotten,
        missing_parents_not_named,
        removed_without_a_word,
        steps_given_to_old_workers,
        large_flow_begun_too_early,
        retried_without_the_header,
        timed_out_from_the_creation,
        outcome_left_by_removal,
        cancelled_flows_go_on,
    )
}
