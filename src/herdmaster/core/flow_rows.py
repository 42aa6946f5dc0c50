"""The rows of the transition table that are of flows, and what their refusals mean. `core/table.py` has them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from herdmaster.core.row import Failure, Place, Role, Transition, TransitionName, Verb, Verdict

N = TransitionName
P = Place
_CLIENT, _WORKER, _PRIMARY, _OPERATOR = ((role,) for role in Role)
_CLIENT_OR_OPERATOR: Final = (Role.CLIENT, Role.OPERATOR)

FLOW_ROWS: Final = (
    Transition(
        N.SUBMIT_FLOW, _CLIENT, checks=(P.ALIVE, P.PARENT), sets=(P.JOURNAL,),
        produces=(P.FLOWS, P.FLOW_FOLDERS, P.FLOW_RUNNING, P.STEPS, P.FOLLOWERS, P.EDGES, P.TASKS, P.RUNNING),
        note="a flow that fits one batch; steps without parents start at once. Of a larger flow the header and its "
        "folders, and the header says that it is being built",
    ),
    Transition(
        N.BUILD_FLOW, _CLIENT, checks=(P.ALIVE, P.FLOWS), sets=(P.JOURNAL,), produces=(P.STEPS, P.FOLLOWERS, P.EDGES),
        note="a part of a larger flow",
    ),
    Transition(
        N.BEGIN_FLOW, _CLIENT, checks=(P.ALIVE, P.PARENT), sets=(P.JOURNAL, P.FLOWS),
        produces=(P.STEPS, P.FOLLOWERS, P.EDGES, P.FLOW_RUNNING), note="the last part: the header says that it runs",
    ),
    Transition(
        N.START_STEP, _PRIMARY, checks=(P.FLOWS,), consumes=(P.STEPS, P.EDGES), produces=(P.RUNNING, P.TASKS),
        note="no edge is left, so all its parents are done; for a step that starts without parents also their edges, "
        "and the header at the version that was read",
    ),
    Transition(
        N.START_FOLLOWER, _PRIMARY, checks=(P.PARENT_RESULTS,), consumes=(P.FOLLOWERS,),
        produces=(P.RUNNING, P.TASKS), note="its only parent is done",
    ),
    Transition(
        N.DROP_EDGES, _PRIMARY, checks=(P.FLOWS,), consumes=(P.EDGES,),
        note="of a step that starts without parents, where they are too many for one transaction",
    ),
    Transition(
        N.COMPLETE_STEP, _WORKER, consumes=(P.ASSIGN, P.EDGES, P.RUNNING),
        produces=(P.RESULTS, P.STEPS, P.FOLLOWERS, P.EDGES, P.RUNNING, P.TASKS), note="also the steps that it adds",
    ),
    Transition(
        N.EXPAND_STEP, _WORKER, sets=(P.ASSIGN, P.RUNNING), produces=(P.RUNNING, P.TASKS, P.EDGES),
        note="some items of an `each`; how many there are stands in the payload",
    ),
    Transition(
        N.FAIL_STEP, (Role.WORKER, Role.PRIMARY), consumes=(P.ASSIGN, P.RUNNING), produces=(P.FAILED,),
        note="its edges stay: what depends on it waits",
    ),
    Transition(N.FAIL_STEP_WAITING, _PRIMARY, consumes=(P.TASKS, P.RUNNING), produces=(P.FAILED,)),
    Transition(N.FAIL_STEP_DELAYED, _PRIMARY, consumes=(P.DELAYED, P.RUNNING), produces=(P.FAILED,)),
    Transition(N.CANCEL_STEP_WAITING, _PRIMARY, consumes=(P.TASKS, P.CANCEL, P.RUNNING), produces=(P.FAILED,)),
    Transition(N.CANCEL_STEP_DELAYED, _PRIMARY, consumes=(P.DELAYED, P.CANCEL, P.RUNNING), produces=(P.FAILED,)),
    Transition(N.CANCEL_STEP_ASSIGNED, _PRIMARY, consumes=(P.ASSIGN, P.CANCEL, P.RUNNING), produces=(P.FAILED,)),
    Transition(
        N.DROP_STEP_ASSIGNED, (Role.WORKER, Role.PRIMARY), consumes=(P.ASSIGN,),
        note="`running/T` is gone and never comes back: the step has ended, and a reference master left a copy",
    ),
    Transition(N.DROP_STEP_WAITING, _PRIMARY, consumes=(P.TASKS,), note="likewise"),
    Transition(N.DROP_STEP_DELAYED, _PRIMARY, consumes=(P.DELAYED,), note="likewise"),
    Transition(
        N.LOSE_STEP, _PRIMARY, consumes=(P.RUNNING,), produces=(P.FAILED,),
        note="its task is nowhere: deleted by hand, its payload destroyed, or answered by a reference worker",
    ),
    Transition(
        N.END_FLOW, _PRIMARY, sets=(P.FLOWS,), consumes=(P.FLOW_RUNNING,), produces=(P.FLOW_STATUS,),
        note="nothing runs, and nothing can start; the header has the version that was read before",
    ),
    Transition(
        N.REOPEN_FLOW, _CLIENT_OR_OPERATOR, sets=(P.FLOWS,), consumes=(P.FAILED, P.FLOW_STATUS, P.FLOW_CANCEL),
        produces=(P.FLOW_RUNNING, P.RUNNING, P.RENAMED), note="it has ended, and failed steps run again",
    ),
    Transition(
        N.RETRY_STEP, _CLIENT_OR_OPERATOR, sets=(P.FLOWS,), consumes=(P.FAILED,), produces=(P.RUNNING, P.RENAMED),
        note="of a flow that runs",
    ),
    Transition(
        N.CANCEL_FLOW, (Role.CLIENT, Role.PRIMARY, Role.OPERATOR), checks=(P.FLOW_RUNNING,), produces=(P.FLOW_CANCEL,),
        note="the primary cancels what runs, and then ends the flow",
    ),
    Transition(
        N.REMOVE_FLOW, (Role.PRIMARY, Role.OPERATOR), sets=(P.FLOWS,),
        note="it has ended, and is not opened again; then all of it is deleted, the header last and with its outcome",
    ),
)  # fmt: skip

OF_FLOWS: Final = frozenset({
    P.FLOWS, P.FLOW_FOLDERS, P.FLOW_RUNNING, P.FLOW_CANCEL, P.FLOW_STATUS, P.RUNNING, P.STEPS, P.FOLLOWERS, P.EDGES,
    P.RESULTS, P.PARENT_RESULTS, P.FAILED,
})  # fmt: skip
_OF_CLIENTS: Final = frozenset({N.SUBMIT_FLOW, N.BUILD_FLOW, N.BEGIN_FLOW})
_OF_WORKERS: Final = frozenset({N.COMPLETE_STEP, N.EXPAND_STEP})
OF_WHOLE_FLOWS: Final = frozenset({N.END_FLOW, N.REOPEN_FLOW})
_STARTS: Final = frozenset({N.START_STEP, N.START_FOLLOWER})

V = Verdict
_MISSING: Final[Mapping[tuple[Verb, Place], Verdict]] = {
    (Verb.DELETE, P.RUNNING): V.STEP_ENDED,
    (Verb.SET, P.RUNNING): V.STEP_ENDED,
    (Verb.CREATE, P.RESULTS): V.STEP_ENDED,
    (Verb.CREATE, P.FAILED): V.STEP_ENDED,
}
_MISSING_OF_WORKERS: Final[Mapping[tuple[Verb, Place], Verdict]] = {
    (Verb.DELETE, P.EDGES): V.EDGE_GONE,
    (Verb.CREATE, P.EDGES): V.EDGE_GONE,
    (Verb.CREATE, P.RUNNING): V.STEP_ENDED,
    (Verb.CREATE, P.STEPS): V.STEP_ENDED,
    (Verb.CREATE, P.FOLLOWERS): V.STEP_ENDED,
}
_EXISTS: Final[Mapping[Place, Verdict]] = {
    P.FLOWS: V.KEY_TAKEN,
    P.RUNNING: V.RACE_LOST,
    P.RESULTS: V.STEP_ENDED,
    P.FAILED: V.STEP_ENDED,
    P.FLOW_CANCEL: V.RACE_LOST,
    P.FLOW_RUNNING: V.DECIDE_AGAIN,
    P.FLOW_STATUS: V.DECIDE_AGAIN,
}


def judge_flow(row: Transition, verb: Verb, place: Place, is_guard: bool, failure: Failure) -> Verdict | None:
    """What the failure of one operation of a row of flows means; None if it means what it means in any other row."""
    if place is P.TASKS and row.name in _STARTS and failure is Failure.NODE_EXISTS:
        return V.RACE_LOST
    if row.name is N.COMPLETE_STEP and verb is Verb.CREATE and failure is Failure.NODE_EXISTS:
        return V.STEP_ENDED  # also the steps that it adds are named after it, so it has completed before
    if place not in OF_FLOWS:
        return None
    if failure is Failure.NODE_EXISTS:
        return _EXISTS.get(place, V.UNEXPECTED)
    if failure is Failure.OTHER:
        return V.UNEXPECTED
    if row.name in _OF_CLIENTS:
        return None if place is P.FLOWS and verb is Verb.CREATE else V.FLOW_GONE
    if failure is Failure.NO_NODE:
        if is_guard and verb is Verb.DELETE:
            return V.RACE_LOST
        found = _MISSING_OF_WORKERS.get((verb, place)) if row.name in _OF_WORKERS else None
        return found or _MISSING.get((verb, place), V.DECIDE_AGAIN)
    return V.DECIDE_AGAIN


def place_in_flow(segments: list[str], row: Transition, *, is_create: bool) -> Place:
    """Return the place of a path below `/flows`, given as its segments: `["", "flows", F, ...]`."""
    match segments[3:]:
        case []:
            return P.FLOWS
        case ["running"]:
            return P.FLOW_RUNNING
        case ["cancel"]:
            return P.FLOW_CANCEL
        case ["running", _]:
            return P.RUNNING
        case ["steps", entry]:
            return P.FOLLOWERS if ":" in entry else P.STEPS
        case ["steps", _, _]:
            return P.EDGES
        case ["results", _]:
            return P.RESULTS if is_create or P.PARENT_RESULTS not in row.checks else P.PARENT_RESULTS
        case ["failed", _]:
            return P.FAILED
    return P.FLOW_FOLDERS
