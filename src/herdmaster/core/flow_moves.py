"""The transactions of flows: one function per row of `core/flow_rows.py`.

A `Move` that ends or drops a step's task has the task's name as its `task`, one that starts a step has `FLOW/ENTRY`,
and one of a whole flow has the name of the flow. Flows are submitted in batches (`core/flow_creation.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from herdmaster.core import layout
from herdmaster.core.flows import FlowStep
from herdmaster.core.operations import CheckNode, CreateNode, DeleteNode, Move, Operation, SetNode
from herdmaster.core.row import TransitionName as N


class RetriedStep(msgspec.Struct, frozen=True, gc=False):
    """A step that failed, and the task of its next run. `mark` follows its id in `running/T`: `!`, `?` or nothing."""

    step: str
    task: str
    data: bytes
    mark: str = ""


# --- the primary starts steps ----------------------------------------------------------------------------------------


def start_step(flow: str, entry: str, task: str, data: bytes, *, edges: Iterable[str] = (), version: int = -1) -> Move:
    """`edges` are the parents without which the step starts. With them `version` is that of the header when this was
    decided: every retry of a step sets the header. Otherwise nothing is checked: the folder `running` is there only
    while the flow runs."""
    deletions = [DeleteNode(layout.flow_edge_path(flow, entry, parent)) for parent in edges]
    checks = [CheckNode(layout.flow_path(flow), version)] if deletions else []
    started = DeleteNode(layout.flow_step_path(flow, entry))
    new_task = _new_task(flow, entry, task, data)
    return _move(N.START_STEP, f"{flow}/{entry}", *checks, *new_task, *deletions, started, guard=-1)


def start_follower(flow: str, parent: str, step: str, task: str, data: bytes) -> Move:
    entry = f"{parent}:{step}"
    return _move(
        N.START_FOLLOWER,
        f"{flow}/{entry}",
        CheckNode(layout.flow_result_path(flow, parent)),
        *_new_task(flow, step, task, data),
        DeleteNode(layout.flow_step_path(flow, entry)),
        guard=-1,
    )


def drop_edges(flow: str, entry: str, parents: Sequence[str], version: int = -1) -> Move:
    deletions = [DeleteNode(layout.flow_edge_path(flow, entry, parent)) for parent in parents]
    return _move(N.DROP_EDGES, f"{flow}/{entry}", CheckNode(layout.flow_path(flow), version), *deletions, guard=1)


# --- what ends a step ------------------------------------------------------------------------------------------------


def complete_step(worker: str, task: str, step: FlowStep, outcome: bytes, added: Iterable[Operation] = ()) -> Move:
    """`added` creates the steps that the step adds to its flow."""
    return _move(
        N.COMPLETE_STEP,
        task,
        DeleteNode(layout.assignment_path(worker, task)),
        *added,
        CreateNode(layout.flow_result_path(step.flow, step.step), outcome),
        *(DeleteNode(layout.flow_edge_path(step.flow, entry, step.step)) for entry in step.joins),
        _end_of(step, task),
    )


def expand_step(
    worker: str,
    task: str,
    step: FlowStep,
    data: bytes,
    *,
    running: bytes,
    version: int,
    creations: Iterable[Operation],
) -> Move:
    """`data` is the payload that says how many items there are then. So does `running`, which is set at its version:
    there may be a copy of the task on another worker."""
    return _move(
        N.EXPAND_STEP,
        task,
        SetNode(layout.assignment_path(worker, task), data),
        SetNode(layout.flow_running_path(step.flow, task), running, version),
        *creations,
    )


def fail_step(worker: str, task: str, step: FlowStep, data: bytes) -> Move:
    """`data` is the payload with its error (`payload.with_error`); so for the others that fail or cancel."""
    return _failing(N.FAIL_STEP, task, step, data, layout.assignment_path(worker, task))


def fail_step_waiting(task: str, step: FlowStep, data: bytes) -> Move:
    return _failing(N.FAIL_STEP_WAITING, task, step, data, layout.task_path(task))


def fail_step_delayed(due_ms: int, task: str, step: FlowStep, data: bytes) -> Move:
    return _failing(N.FAIL_STEP_DELAYED, task, step, data, layout.delayed_path(due_ms, task))


def cancel_step_waiting(task: str, step: FlowStep, data: bytes) -> Move:
    return _failing(N.CANCEL_STEP_WAITING, task, step, data, layout.task_path(task), layout.cancel_path(task))


def cancel_step_delayed(due_ms: int, task: str, step: FlowStep, data: bytes) -> Move:
    place = layout.delayed_path(due_ms, task)
    return _failing(N.CANCEL_STEP_DELAYED, task, step, data, place, layout.cancel_path(task))


def cancel_step_assigned(worker: str, task: str, step: FlowStep, data: bytes) -> Move:
    place = layout.assignment_path(worker, task)
    return _failing(N.CANCEL_STEP_ASSIGNED, task, step, data, place, layout.cancel_path(task))


def drop_step_assigned(worker: str, task: str) -> Move:
    return _move(N.DROP_STEP_ASSIGNED, task, DeleteNode(layout.assignment_path(worker, task)))


def drop_step_waiting(task: str) -> Move:
    return _move(N.DROP_STEP_WAITING, task, DeleteNode(layout.task_path(task)))


def drop_step_delayed(due_ms: int, task: str) -> Move:
    return _move(N.DROP_STEP_DELAYED, task, DeleteNode(layout.delayed_path(due_ms, task)))


def lose_step(task: str, step: FlowStep, data: bytes) -> Move:
    creation = CreateNode(layout.flow_failed_path(step.flow, step.step), data)
    return _move(N.LOSE_STEP, task, creation, _end_of(step, task), guard=1)


# --- whole flows -----------------------------------------------------------------------------------------------------


def end_flow(flow: str, version: int, header: bytes, outcome: bytes | None) -> Move:
    """`version` is that of a header that was read before the flow was found at rest."""
    status = () if outcome is None else (CreateNode(layout.status_path(flow), outcome),)
    change = SetNode(layout.flow_path(flow), header, version)
    return _move(N.END_FLOW, flow, change, *status, DeleteNode(layout.flow_running_path(flow)), guard=-1)


def reopen_flow(
    flow: str, version: int, header: bytes, steps: Iterable[RetriedStep], *, has_status: bool, has_cancel: bool
) -> Move:
    """Run failed steps of a flow again that has ended; at least one."""
    creations, deletions = _retried(flow, steps)
    if has_status:
        deletions.append(DeleteNode(layout.status_path(flow)))
    if has_cancel:
        deletions.append(DeleteNode(layout.flow_cancel_path(flow)))
    change = SetNode(layout.flow_path(flow), header, version)
    running = CreateNode(layout.flow_running_path(flow), b"")
    guard = 2 + len(creations)
    return _move(N.REOPEN_FLOW, flow, change, running, *creations, *deletions, guard=guard)


def retry_step(flow: str, version: int, header: bytes, steps: Iterable[RetriedStep]) -> Move:
    """Run failed steps of a flow again that runs; at least one. The header is set, so that an end of the flow that was
    decided before is refused."""
    creations, deletions = _retried(flow, steps)
    change = SetNode(layout.flow_path(flow), header, version)
    return _move(N.RETRY_STEP, flow, change, *creations, *deletions, guard=1 + len(creations))


def cancel_flow(flow: str, reason: bytes = b"") -> Move:
    check = CheckNode(layout.flow_running_path(flow))
    return _move(N.CANCEL_FLOW, flow, check, CreateNode(layout.flow_cancel_path(flow), reason), guard=1)


def remove_flow(flow: str, version: int, header: bytes) -> Move:
    return _move(N.REMOVE_FLOW, flow, SetNode(layout.flow_path(flow), header, version))


def _move(name: N, task: str, *operations: Operation, guard: int = 0) -> Move:
    return Move(name, task, operations, guard if guard >= 0 else len(operations) + guard)


def _new_task(flow: str, entry: str, task: str, data: bytes) -> tuple[Operation, Operation]:
    return CreateNode(layout.flow_running_path(flow, task), entry.encode()), CreateNode(layout.task_path(task), data)


def _end_of(step: FlowStep, task: str) -> DeleteNode:
    return DeleteNode(layout.flow_running_path(step.flow, task))


def _failing(name: N, task: str, step: FlowStep, data: bytes, *consumed: str) -> Move:
    creation = CreateNode(layout.flow_failed_path(step.flow, step.step), data)
    return _move(name, task, *map(DeleteNode, consumed), creation, _end_of(step, task))


def _retried(flow: str, steps: Iterable[RetriedStep]) -> tuple[list[Operation], list[Operation]]:
    creations: list[Operation] = []
    deletions: list[Operation] = []
    for each in steps:
        creations += _new_task(flow, f"{each.step}{each.mark}", each.task, each.data)
        deletions.append(DeleteNode(layout.flow_failed_path(flow, each.step)))
    return creations, deletions
