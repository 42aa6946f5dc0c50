"""The moves that end tasks whose code has not ended. The only place where the row for a step of a flow is chosen.

A plain task leaves an outcome in `/status`, and may free a uniqueness key. A step of a flow leaves its payload, with
the error, in `failed/S` of its flow. Its payload says which step it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec

import msgspec

from herdmaster.core import flow_graph, flow_moves, layout, transitions
from herdmaster.core.endings import CANCELLED, Ending, encode_ending, freed_key
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flows import FlowStep, find_run
from herdmaster.core.names import is_call, is_step, parse_step_id
from herdmaster.core.operations import CreateNode, Move
from herdmaster.core.outcome import Outcome, OutcomeState, decode_outcome
from herdmaster.core.payload import Call, decode_call, encode_arguments, encode_call, with_error
from herdmaster.core.values import UNREADABLE
from herdmaster.core.whereabouts import Assigned, Delayed, Waiting, Whereabouts
from herdmaster.errors import BadOutcome, BadPayload, TaskCancelled, TaskExpired

P = ParamSpec("P")


class _OfFlow(msgspec.Struct, frozen=True):
    flow: FlowStep | None = None


NOWHERE = ErrorInfo("TaskLost", "its task is nowhere: it was deleted, or its payload was destroyed")
_decoder = msgspec.json.Decoder(_OfFlow)
_STATES = {TaskCancelled.__name__: OutcomeState.CANCELLED, TaskExpired.__name__: OutcomeState.EXPIRED}


def refuse(where: Whereabouts, payload: bytes, ending: Ending) -> Move:
    """Return the move that ends a task where it is. A payload that cannot be read counts as empty."""
    step = step_of(where.task, payload)
    if step is not None:
        rows_of_steps = flow_moves.fail_step_waiting, flow_moves.fail_step_delayed, flow_moves.fail_step
        return _move(where, *rows_of_steps, step, with_error(payload, ending.reason))
    outcome, key = encode_ending(where.task, payload, ending), freed_key(where.task, payload)
    rows = transitions.refuse, transitions.refuse_delayed, transitions.refuse_assigned
    return _move(where, *rows, outcome, key)


def cancel(where: Whereabouts, payload: bytes) -> Move:
    """Return the move that ends a task as cancelled, together with the request. As `refuse` otherwise."""
    step = step_of(where.task, payload)
    if step is not None:
        rows_of_steps = flow_moves.cancel_step_waiting, flow_moves.cancel_step_delayed, flow_moves.cancel_step_assigned
        return _move(where, *rows_of_steps, step, with_error(payload, CANCELLED.reason))
    outcome, key = encode_ending(where.task, payload, CANCELLED), freed_key(where.task, payload)
    rows = transitions.cancel_waiting, transitions.cancel_delayed, transitions.cancel_assigned
    return _move(where, *rows, outcome, key)


def bury(worker: str, task: str, payload: bytes, ending: Ending) -> Move:
    """Return the move that gives up an assigned task; a step fails."""
    kept = with_error(payload, ending.reason) if is_call(task) else payload
    step = step_of(task, payload)
    if step is not None:
        return flow_moves.fail_step(worker, task, step, kept)
    return transitions.bury(worker, task, kept, encode_ending(task, payload, ending), freed_key(task, payload))


def lose_step(flow: str, task: str, running: bytes, reason: ErrorInfo = NOWHERE) -> Move | None:
    """Return the move that ends a step whose payload cannot be had. `running` is the data of `running/T`: the id of the
    step, perhaps with a mark, and more after a blank. None if it is no such data."""
    step_id = flow_graph.step_of(flow_graph.running_entry(running))
    if parse_step_id(step_id) is None:
        return None
    first, run = find_run(flow, step_id, task)  # a retry makes a task of the next run
    step = FlowStep(flow, step_id, "", first)
    call = Call(1, "herdmaster:lost", *encode_arguments((), {}), run=run, flow=step, error=reason)
    return flow_moves.lose_step(task, step, encode_call(call))


def step_of(task: str, payload: bytes) -> FlowStep | None:
    """Return which step of which flow a task is; None for a plain task. The rest of the payload may be unreadable or
    too large: also then the flow must learn of its end."""
    if not is_step(task):
        return None
    try:
        step = _decoder.decode(payload).flow
    except UNREADABLE:
        return None
    return step if step is not None and stands_in_flow(task, step) else None


def stands_in_flow(task: str, step: FlowStep) -> bool:
    """Whether a task is the step that its payload names. Otherwise it is a plain task, whatever its payload says."""
    return is_step(task) and bool(step.flow and step.step)


def drop_step(move: Move) -> Move:
    """Return the move that drops the copy of a step's task that `move` was to end: the step has ended elsewhere."""
    path, task = move.operations[move.guard].path, move.task
    assigned = layout.split_assignment(path)
    if assigned is not None:
        return drop_step_at(Assigned(task, assigned[0]))
    if path == layout.task_path(task):
        return drop_step_at(Waiting(task))
    delayed = layout.parse_delayed_name(layout.name_of(path))
    assert delayed is not None
    return drop_step_at(Delayed(delayed[0], task))


def drop_step_at(where: Whereabouts) -> Move:
    """Return the move that drops a step's task where it is: the step has ended."""
    match where:
        case Waiting(task):
            return flow_moves.drop_step_waiting(task)
        case Delayed(due_ms, task):
            return flow_moves.drop_step_delayed(due_ms, task)
        case Assigned(task, worker):
            return flow_moves.drop_step_assigned(worker, task)


def outcome_of(move: Move) -> Outcome | None:
    """Return what a move that ends a task leaves as its outcome; None if that cannot be read. For a step it is made of
    the payload that the move keeps."""
    created = [each for each in move.operations if isinstance(each, CreateNode)]
    data = created[-1].data
    try:
        if not created[-1].path.startswith(f"{layout.FLOWS}/"):
            return decode_outcome(move.task, data)
        call = decode_call(data)
    except (BadOutcome, BadPayload, *UNREADABLE):
        return None
    error = call.error or ErrorInfo("")
    return Outcome(_STATES.get(error.type, OutcomeState.FAILED), error=error, attempt=call.attempt)


def _move(
    where: Whereabouts,
    of_waiting: Callable[Concatenate[str, P], Move],
    of_delayed: Callable[Concatenate[int, str, P], Move],
    of_assigned: Callable[Concatenate[str, str, P], Move],
    *args: P.args,
    **options: P.kwargs,
) -> Move:
    """Return the move of the row for the place of a task."""
    match where:
        case Waiting(task):
            return of_waiting(task, *args, **options)
        case Delayed(due_ms, task):
            return of_delayed(due_ms, task, *args, **options)
        case Assigned(task, worker):
            return of_assigned(worker, task, *args, **options)
