"""The transactions of flows are what their rows say, and their refusals mean what the table of verdicts says."""

from __future__ import annotations

import pytest

from herdmaster.core import flow_moves, layout
from herdmaster.core.flow_moves import RetriedStep
from herdmaster.core.flow_rows import FLOW_ROWS
from herdmaster.core.flows import FlowStep, step_task
from herdmaster.core.operations import CheckNode, CreateNode, DeleteNode, Move, Operation, SetNode
from herdmaster.core.recovery import follow_up
from herdmaster.core.table import TABLE, Failure, Place, TransitionName, Verdict
from herdmaster.core.transitions import verdict

F = "flow-01hzzzzzzzzzzzzzzzzzzzzzzz"
T = step_task(1_700_000_000_000, F, "7", "default", 5)
AGAIN = "task-01hzzzzzzzzzzzzzzzzzzzzzzz.default.f"
W = "worker-1"
STEP = FlowStep(F, "7", "merge", T, joins=("8", "9?"))
RETRIED = (RetriedStep("7", AGAIN, b"{}", "!"),)
N = TransitionName
MOVES = [
    flow_moves.start_step(F, "7!", T, b"{}", edges=("3", "4"), version=2),
    flow_moves.start_follower(F, "4", "7", T, b"{}"),
    flow_moves.drop_edges(F, "7!", ("3", "4")),
    flow_moves.complete_step(
        W, T, STEP, b"{}",
        (CreateNode(layout.flow_step_path(F, "7+0"), b""), CreateNode(layout.flow_step_path(F, "7+0:7+1"), b""),
         CreateNode(layout.flow_edge_path(F, "7+0", "7+2"), b""), CreateNode(layout.flow_running_path(F, AGAIN), b""),
         CreateNode(layout.task_path(AGAIN), b"")),
    ),
    flow_moves.expand_step(
        W, T, STEP, b"{}", running=b"7 1", version=0,
        creations=(
            CreateNode(layout.flow_running_path(F, AGAIN), b""), CreateNode(layout.task_path(AGAIN), b""),
            CreateNode(layout.flow_edge_path(F, "8", "7.0"), b""),
        ),
    ),
    flow_moves.fail_step(W, T, STEP, b"{}"),
    flow_moves.fail_step_waiting(T, STEP, b"{}"),
    flow_moves.fail_step_delayed(5, T, STEP, b"{}"),
    flow_moves.cancel_step_waiting(T, STEP, b"{}"),
    flow_moves.cancel_step_delayed(5, T, STEP, b"{}"),
    flow_moves.cancel_step_assigned(W, T, STEP, b"{}"),
    flow_moves.drop_step_assigned(W, T),
    flow_moves.drop_step_waiting(T),
    flow_moves.drop_step_delayed(5, T),
    flow_moves.lose_step(T, STEP, b"{}"),
    flow_moves.end_flow(F, 3, b"{}", b"{}"),
    flow_moves.reopen_flow(F, 3, b"{}", RETRIED, has_status=True, has_cancel=True),
    flow_moves.retry_step(F, 3, b"{}", RETRIED),
    flow_moves.cancel_flow(F),
    flow_moves.remove_flow(F, 3, b"{}"),
]  # fmt: skip
by_name = pytest.mark.parametrize("move", MOVES, ids=lambda move: str(move.transition))
GUARDS = {N.CANCEL_FLOW: CreateNode, N.EXPAND_STEP: SetNode, N.REMOVE_FLOW: SetNode}


FOLDERS = {
    "tasks": Place.TASKS, "assign": Place.ASSIGN, "delayed": Place.DELAYED, "cancel": Place.CANCEL,
    "status": Place.FLOW_STATUS,
}  # fmt: skip


def place_of(path: str) -> Place:
    """The place of a path of these moves."""
    match path.split("/")[1:]:
        case ["tasks", name] if name == AGAIN:
            return Place.RENAMED
        case ["flows", _]:
            return Place.FLOWS
        case ["flows", _, "running" | "cancel" as name]:
            return Place.FLOW_RUNNING if name == "running" else Place.FLOW_CANCEL
        case ["flows", _, "running" | "failed" as folder, _]:
            return Place.RUNNING if folder == "running" else Place.FAILED
        case ["flows", _, "results", step]:
            return Place.PARENT_RESULTS if step == "4" else Place.RESULTS
        case ["flows", _, "steps", entry]:
            return Place.FOLLOWERS if ":" in entry else Place.STEPS
        case ["flows", *_]:
            return Place.EDGES
        case [folder, *_]:
            return FOLDERS[folder]
    raise ValueError(path)


def places(move: Move, kind: type[Operation]) -> set[Place]:
    found = {place_of(operation.path) for operation in move.operations if isinstance(operation, kind)}
    if Place.RENAMED not in TABLE[move.transition].produces and Place.RENAMED in found:
        found = found - {Place.RENAMED} | {Place.TASKS}
    return found


def refused(move: Move, kind: type[Operation], place: Place, failure: Failure) -> Verdict:
    index = next(
        index
        for index, operation in enumerate(move.operations)
        if isinstance(operation, kind) and place_of(operation.path) is place
    )
    return verdict(move, index, failure)


def test_there_is_a_move_for_every_row_but_those_of_submission() -> None:
    of_clients = {N.SUBMIT_FLOW, N.BUILD_FLOW, N.BEGIN_FLOW}
    assert [move.transition for move in MOVES] == [row.name for row in FLOW_ROWS if row.name not in of_clients]


@by_name
def test_the_operations_of_a_move_are_those_of_its_row(move: Move) -> None:
    row = TABLE[move.transition]
    assert places(move, CheckNode) == set(row.checks)
    assert places(move, SetNode) == set(row.sets)
    assert places(move, DeleteNode) == set(row.consumes)
    assert places(move, CreateNode) == set(row.produces)
    assert isinstance(move.operations[move.guard], GUARDS.get(move.transition, DeleteNode))


@by_name
def test_every_create_comes_before_the_deletes_in_the_flow(move: Move) -> None:
    kinds = [
        type(operation)
        for operation in move.operations
        if isinstance(operation, CreateNode) or (isinstance(operation, DeleteNode) and "/flows/" in operation.path)
    ]
    assert kinds == sorted(kinds, key=lambda kind: kind is DeleteNode)


@by_name
def test_the_mark_that_a_step_lives_is_deleted_last(move: Move) -> None:
    deleted = [operation.path for operation in move.operations if isinstance(operation, DeleteNode)]
    if layout.flow_running_path(F, T) in deleted:
        assert move.operations[-1] == DeleteNode(layout.flow_running_path(F, T))


@pytest.mark.parametrize(
    ("name", "kind", "place", "failure", "expected"),
    [
        (N.START_STEP, DeleteNode, Place.STEPS, Failure.NOT_EMPTY, Verdict.DECIDE_AGAIN),
        (N.START_STEP, DeleteNode, Place.STEPS, Failure.NO_NODE, Verdict.RACE_LOST),
        (N.START_STEP, CreateNode, Place.RUNNING, Failure.NODE_EXISTS, Verdict.RACE_LOST),
        (N.START_STEP, CreateNode, Place.RUNNING, Failure.NO_NODE, Verdict.DECIDE_AGAIN),
        (N.START_STEP, CheckNode, Place.FLOWS, Failure.BAD_VERSION, Verdict.DECIDE_AGAIN),
        (N.START_FOLLOWER, CheckNode, Place.PARENT_RESULTS, Failure.NO_NODE, Verdict.DECIDE_AGAIN),
        (N.START_FOLLOWER, CreateNode, Place.TASKS, Failure.NODE_EXISTS, Verdict.RACE_LOST),
        (N.START_FOLLOWER, CreateNode, Place.TASKS, Failure.NO_NODE, Verdict.FOLDER_MISSING),
        (N.COMPLETE_STEP, DeleteNode, Place.ASSIGN, Failure.NO_NODE, Verdict.RACE_LOST),
        (N.COMPLETE_STEP, DeleteNode, Place.EDGES, Failure.NO_NODE, Verdict.EDGE_GONE),
        (N.COMPLETE_STEP, DeleteNode, Place.RUNNING, Failure.NO_NODE, Verdict.STEP_ENDED),
        (N.COMPLETE_STEP, CreateNode, Place.RESULTS, Failure.NODE_EXISTS, Verdict.STEP_ENDED),
        (N.COMPLETE_STEP, CreateNode, Place.RUNNING, Failure.NODE_EXISTS, Verdict.STEP_ENDED),
        (N.COMPLETE_STEP, CreateNode, Place.STEPS, Failure.NODE_EXISTS, Verdict.STEP_ENDED),
        (N.COMPLETE_STEP, CreateNode, Place.FOLLOWERS, Failure.NODE_EXISTS, Verdict.STEP_ENDED),
        (N.COMPLETE_STEP, CreateNode, Place.EDGES, Failure.NODE_EXISTS, Verdict.STEP_ENDED),
        (N.COMPLETE_STEP, CreateNode, Place.RESULTS, Failure.NO_NODE, Verdict.STEP_ENDED),
        (N.EXPAND_STEP, SetNode, Place.RUNNING, Failure.BAD_VERSION, Verdict.DECIDE_AGAIN),
        (N.EXPAND_STEP, SetNode, Place.RUNNING, Failure.NO_NODE, Verdict.STEP_ENDED),
        (N.EXPAND_STEP, SetNode, Place.ASSIGN, Failure.NO_NODE, Verdict.RACE_LOST),
        (N.EXPAND_STEP, CreateNode, Place.EDGES, Failure.NO_NODE, Verdict.EDGE_GONE),
        (N.FAIL_STEP, CreateNode, Place.FAILED, Failure.NODE_EXISTS, Verdict.STEP_ENDED),
        (N.FAIL_STEP_WAITING, DeleteNode, Place.TASKS, Failure.NO_NODE, Verdict.RACE_LOST),
        (N.CANCEL_STEP_ASSIGNED, DeleteNode, Place.CANCEL, Failure.NO_NODE, Verdict.DECIDE_AGAIN),
        (N.END_FLOW, DeleteNode, Place.FLOW_RUNNING, Failure.NOT_EMPTY, Verdict.DECIDE_AGAIN),
        (N.END_FLOW, DeleteNode, Place.FLOW_RUNNING, Failure.NO_NODE, Verdict.RACE_LOST),
        (N.END_FLOW, SetNode, Place.FLOWS, Failure.BAD_VERSION, Verdict.DECIDE_AGAIN),
        (N.END_FLOW, CreateNode, Place.FLOW_STATUS, Failure.NODE_EXISTS, Verdict.DECIDE_AGAIN),
        (N.REOPEN_FLOW, CreateNode, Place.FLOW_RUNNING, Failure.NODE_EXISTS, Verdict.DECIDE_AGAIN),
        (N.CANCEL_FLOW, CreateNode, Place.FLOW_CANCEL, Failure.NODE_EXISTS, Verdict.RACE_LOST),
        (N.CANCEL_FLOW, CreateNode, Place.FLOW_CANCEL, Failure.OTHER, Verdict.UNEXPECTED),
    ],
)
def test_each_refusal_has_its_verdict(
    name: TransitionName, kind: type[Operation], place: Place, failure: Failure, expected: Verdict
) -> None:
    move = next(move for move in MOVES if move.transition is name)
    assert refused(move, kind, place, failure) is expected


DROPS = {N.DROP_STEP_ASSIGNED, N.DROP_STEP_WAITING, N.DROP_STEP_DELAYED}
ENDS_OF_STEPS = [move for move in MOVES if layout.flow_running_path(F, T) in {each.path for each in move.operations
                 if isinstance(each, DeleteNode)}]  # fmt: skip


POSSIBLE = {
    CheckNode: (Failure.NO_NODE, Failure.BAD_VERSION, Failure.OTHER),
    SetNode: (Failure.NO_NODE, Failure.BAD_VERSION, Failure.OTHER),
    DeleteNode: (Failure.NO_NODE, Failure.BAD_VERSION, Failure.NOT_EMPTY, Failure.OTHER),
    CreateNode: (Failure.NO_NODE, Failure.NODE_EXISTS, Failure.OTHER),
}


@by_name
def test_no_refusal_of_a_flows_move_is_followed_by_a_move_of_plain_tasks(move: Move) -> None:
    for index, operation in enumerate(move.operations):
        for failure in POSSIBLE[type(operation)]:
            found = verdict(move, index, failure)
            following = follow_up(move, found)
            assert following is None or following.transition in DROPS, (operation, failure, found)
            if operation.path.startswith(f"/flows/{F}/"):
                assert found is not Verdict.FOLDER_MISSING, (operation, failure)
            if failure is Failure.OTHER:
                assert found is Verdict.UNEXPECTED, operation


@pytest.mark.parametrize("move", ENDS_OF_STEPS, ids=lambda move: str(move.transition))
def test_where_a_step_has_ended_its_task_is_dropped_and_nothing_else(move: Move) -> None:
    if move.transition is N.LOSE_STEP:
        return
    following = follow_up(move, refused(move, DeleteNode, Place.RUNNING, Failure.NO_NODE))
    assert following is not None
    assert following.operations == (move.operations[move.guard],)
    assert following.task == T
