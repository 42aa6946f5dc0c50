"""The transition table, the transactions made from it, and what their failures mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdmaster.core import layout, schedule_moves, transitions
from herdmaster.core.flow_rows import FLOW_ROWS
from herdmaster.core.keys import HeldKey, NewKey, hash_key
from herdmaster.core.layout import TickName
from herdmaster.core.schedule_decisions import NextTick
from herdmaster.core.schedules import NewScheduledTask, Tick
from herdmaster.core.transitions import (
    TABLE,
    CheckNode,
    CreateNode,
    DeleteNode,
    Failure,
    Move,
    NewTask,
    Operation,
    Place,
    Role,
    SetNode,
    TransitionName,
    Verdict,
    as_markdown,
    verdict,
)

T = "task-01arz3ndektsv4rrffq69g5fav.mail"
T2 = "task-01arz3ndektsv4rrffq69g5faw.mail"
W = "worker-1"
DUE = 1_700_000_000_000
HASH = hash_key("k", "m:f")
KEY = HeldKey(HASH)

PATHS = {
    Place.TASKS: f"/tasks/{T}",
    Place.RENAMED: f"/tasks/{T2}",
    Place.DELAYED: f"/delayed/{DUE}-{T}",
    Place.ASSIGN: f"/assign/{W}/{T}",
    Place.STATUS: f"/status/{T}",
    Place.DEAD: f"/dead/{T}",
    Place.CANCEL: f"/cancel/{T}",
    Place.KEYS: f"/keys/{HASH}",
    Place.HOLDS: f"/keys/{HASH}-{T}",
    Place.HOLDS_RENAMED: f"/keys/{HASH}-{T2}",
    Place.WORKERS: f"/workers/{W}",
    Place.SCHEDULES: "/schedules/nightly",
    Place.TICKS: f"/ticks/{DUE}-0a1b2c3d-nightly",
    Place.NEXT_TICKS: f"/ticks/{DUE + 1}-0a1b2c3d-nightly",
}
TICK = TickName(DUE, "0a1b2c3d", "nightly")
NEXT = NextTick(TickName(DUE + 1, "0a1b2c3d", "nightly"), Tick())

EDIT = schedule_moves.edit_schedule("nightly", 4, b"1", TICK, NEXT)

N = TransitionName
MOVES = [
    transitions.promote(DUE, T, b"1"),
    transitions.assign(T, W, b"1"),
    transitions.mark_start(W, T, b"1"),
    transitions.save(W, T, b"1"),
    transitions.complete(W, T, b"1", KEY),
    transitions.complete(W, T, None, KEY),
    transitions.retry_now(W, T, b"1"),
    transitions.retry_later(W, T, DUE, b"1"),
    transitions.retry_in_place(W, T, b"1"),
    transitions.forward(W, T, DUE, b"1"),
    transitions.hand_back(W, T, b"1"),
    transitions.recover(W, T, b"1"),
    transitions.bury(W, T, b"1", b"2", KEY),
    transitions.refuse(T, b"1", KEY),
    transitions.refuse_assigned(W, T, b"1", KEY),
    transitions.refuse_delayed(DUE, T, b"1", KEY),
    transitions.cancel_waiting(T, b"1", KEY),
    transitions.cancel_delayed(DUE, T, b"1", KEY),
    transitions.cancel_assigned(W, T, b"1", KEY),
    transitions.drop_cancel(T),
    transitions.collect(T, KEY),
    transitions.expire(T, KEY),
    transitions.replay(T, T2, b"1", KEY, NewKey(HASH, b"r")),
    transitions.release(T, HASH),
    transitions.drop_assignment_because_status(W, T),
    transitions.drop_assignment_because_task(W, T),
    transitions.drop_task_because_status(T),
    transitions.drop_task_because_assigned(W, T),
    transitions.drop_delayed_because_status(DUE, T),
    transitions.drop_delayed_because_task(DUE, T),
    schedule_moves.tick(TICK, 4, [NewScheduledTask(T, b"1", DUE, NewKey(HASH, b"r"))], NEXT),
    schedule_moves.skip_tick(TICK, 4, NEXT),
    schedule_moves.mark_tick(TICK, 4, Tick()),
    schedule_moves.create_schedule("nightly", b"1", NEXT),
    EDIT,
    schedule_moves.run_now(EDIT, [NewScheduledTask(T, b"2", DUE, NewKey(HASH, b"r"))]),
    schedule_moves.remove_schedule("nightly", 4, TICK),
]
OF_SCHEDULES = MOVES[-7:]
by_name = pytest.mark.parametrize("move", MOVES, ids=lambda move: move.transition.value)


def paths(move: Move, kind: type[Operation]) -> list[str]:
    return [operation.path for operation in move.operations if isinstance(operation, kind)]


def index(move: Move, path: str) -> int:
    return [operation.path for operation in move.operations].index(path)


def test_there_is_a_move_for_every_row_of_the_table() -> None:
    of_flows = {row.name for row in FLOW_ROWS}  # tests/core/test_flow_moves.py
    assert [N.SUBMIT, N.SUBMIT_LATER, *(move.transition for move in MOVES)] == [
        name for name in TABLE if name not in of_flows
    ]
    assert set(TABLE) == set(TransitionName)


@by_name
def test_a_moves_operations_are_exactly_what_its_row_says(move: Move) -> None:
    row = TABLE[move.transition]
    assert paths(move, CheckNode) == [PATHS[place] for place in row.checks]
    assert paths(move, SetNode) == [PATHS[place] for place in row.sets]
    assert paths(move, DeleteNode) == [PATHS[place] for place in row.consumes]
    assert paths(move, CreateNode) == [PATHS[place] for place in row.produces]
    assert len({(type(operation), operation.path) for operation in move.operations}) == len(move.operations)
    assert move.task == (T if move not in OF_SCHEDULES else layout.tick_name(TICK) if row.checks else "nightly")


@by_name
def test_a_moves_guard_takes_the_task_from_where_its_row_says(move: Move) -> None:
    row = TABLE[move.transition]
    guard = move.operations[move.guard]
    assert guard.path == PATHS[row.guard]
    assert isinstance(guard, DeleteNode if row.consumes else SetNode if row.sets else CreateNode)


@by_name
def test_checks_stand_before_the_guard_and_the_guard_before_what_is_produced(move: Move) -> None:
    for place, operation in enumerate(move.operations):
        if isinstance(operation, CheckNode):
            assert place < move.guard
        if isinstance(operation, CreateNode):
            assert place >= move.guard


@by_name
def test_the_data_land_in_the_order_of_the_row(move: Move) -> None:
    written = [
        operation.data
        for operation in move.operations
        if isinstance(operation, (SetNode, CreateNode)) and not operation.path.startswith(("/keys/", "/ticks/"))
    ]
    assert written == [b"1", b"2"][: len(written)]


@by_name
def test_no_node_is_a_lost_race_at_the_guard_and_nowhere_else(move: Move) -> None:
    for place in range(len(move.operations)):
        lost = verdict(move, place, Failure.NO_NODE) is Verdict.RACE_LOST
        assert lost == (place == move.guard and not isinstance(move.operations[place], CreateNode))
        for failure in set(Failure) - {Failure.NO_NODE}:
            assert verdict(move, place, failure) is not Verdict.RACE_LOST


@by_name
def test_what_the_protocol_does_not_explain_is_unexpected(move: Move) -> None:
    for place in range(len(move.operations)):
        assert verdict(move, place, Failure.OTHER) is Verdict.UNEXPECTED
        assert verdict(move, place, Failure.NOT_EMPTY) is Verdict.UNEXPECTED


def test_every_row_takes_a_task_from_one_place_and_puts_it_in_at_most_one_where_it_may_run_again() -> None:
    holds_a_payload = {Place.TASKS, Place.RENAMED, Place.DELAYED, Place.ASSIGN}
    for row in TABLE.values():
        assert len(holds_a_payload.intersection(row.consumes)) <= 1, row
        assert len(holds_a_payload.intersection(row.produces)) <= 1, row
        if row.checks and not row.produces and not row.sets:  # a release moves nothing
            assert row.name.startswith("drop"), row


def test_only_the_primary_and_workers_take_assignments_and_only_the_primary_makes_them() -> None:
    for row in TABLE.values():
        if Place.ASSIGN in row.consumes or Place.ASSIGN in row.sets:
            assert set(row.by) <= {Role.WORKER, Role.PRIMARY}
        if Place.ASSIGN in row.produces or Place.TASKS in row.consumes:
            assert row.by == (Role.PRIMARY,)


def test_no_node_of_a_worker_or_its_inbox_means_another_worker() -> None:
    move = transitions.assign(T, W, b"")
    assert verdict(move, index(move, PATHS[Place.WORKERS]), Failure.NO_NODE) is Verdict.CHOOSE_ANOTHER_WORKER
    assert verdict(move, index(move, PATHS[Place.ASSIGN]), Failure.NO_NODE) is Verdict.CHOOSE_ANOTHER_WORKER


def test_an_assignment_that_exists_already_means_that_the_task_is_assigned() -> None:
    move = transitions.assign(T, W, b"")
    assert verdict(move, index(move, PATHS[Place.ASSIGN]), Failure.NODE_EXISTS) is Verdict.DROP_TASK_ASSIGNED


@pytest.mark.parametrize(
    ("move", "meaning"),
    [
        (transitions.complete(W, T, b""), Verdict.DROP_ASSIGNMENT),
        (transitions.bury(W, T, b"", b""), Verdict.DROP_ASSIGNMENT),
        (transitions.refuse_assigned(W, T, b""), Verdict.DROP_ASSIGNMENT),
        (transitions.cancel_assigned(W, T, b""), Verdict.DROP_ASSIGNMENT),
        (transitions.refuse(T, b""), Verdict.DROP_TASK_ENDED),
        (transitions.cancel_waiting(T, b""), Verdict.DROP_TASK_ENDED),
        (transitions.refuse_delayed(DUE, T, b""), Verdict.DROP_DELAYED_ENDED),
        (transitions.cancel_delayed(DUE, T, b""), Verdict.DROP_DELAYED_ENDED),
    ],
)
def test_a_status_that_exists_already_means_drop_what_was_to_end(move: Move, meaning: Verdict) -> None:
    assert verdict(move, index(move, PATHS[Place.STATUS]), Failure.NODE_EXISTS) is meaning


@pytest.mark.parametrize(
    "move", [transitions.retry_now(W, T, b""), transitions.hand_back(W, T, b""), transitions.recover(W, T, b"")]
)
def test_a_task_that_exists_already_means_keep_the_assignment_and_try_later(move: Move) -> None:
    assert verdict(move, index(move, PATHS[Place.TASKS]), Failure.NODE_EXISTS) is Verdict.KEEP_AND_TRY_LATER


def test_a_delayed_task_that_waits_already_is_dropped() -> None:
    move = transitions.promote(DUE, T, b"")
    assert verdict(move, index(move, PATHS[Place.TASKS]), Failure.NODE_EXISTS) is Verdict.DROP_DELAYED_WAITING


def test_a_buried_task_is_not_buried_twice() -> None:
    move = transitions.bury(W, T, b"", b"")
    assert verdict(move, index(move, PATHS[Place.DEAD]), Failure.NODE_EXISTS) is Verdict.ALREADY_BURIED


@pytest.mark.parametrize(
    "move", [move for move in MOVES if move.transition.startswith("drop") and len(move.operations) > 1]
)
def test_a_drop_whose_other_copy_is_gone_is_decided_again(move: Move) -> None:
    for place in range(move.guard):
        assert verdict(move, place, Failure.NO_NODE) is Verdict.DECIDE_AGAIN


@pytest.mark.parametrize("move", OF_SCHEDULES, ids=lambda move: move.transition.value)
def test_a_schedule_that_was_edited_or_removed_meanwhile_is_decided_about_again(move: Move) -> None:
    place = index(move, PATHS[Place.SCHEDULES])
    if isinstance(move.operations[place], CreateNode):
        assert verdict(move, place, Failure.NODE_EXISTS) is Verdict.DECIDE_AGAIN
        assert verdict(move, place, Failure.NO_NODE) is Verdict.FOLDER_MISSING
        return
    for failure in (Failure.NO_NODE, Failure.BAD_VERSION):
        assert verdict(move, place, failure) is Verdict.DECIDE_AGAIN


def test_what_a_schedule_does_is_done_at_the_version_that_was_read() -> None:
    operations = [each.operations[index(each, PATHS[Place.SCHEDULES])] for each in OF_SCHEDULES]
    assert [each.version for each in operations if not isinstance(each, CreateNode)] == [4, 4, 4, 4, 4, 4]


def test_a_schedule_whose_tick_was_deleted_can_be_edited_and_removed() -> None:
    edit = schedule_moves.edit_schedule("nightly", 4, b"1", None, NEXT)
    assert [(type(each), each.path) for each in edit.operations] == [
        (SetNode, PATHS[Place.SCHEDULES]),
        (CreateNode, PATHS[Place.NEXT_TICKS]),
    ]
    removal = schedule_moves.remove_schedule("nightly", 4, None)
    assert removal.operations == (DeleteNode(PATHS[Place.SCHEDULES], 4),)
    assert verdict(edit, 0, Failure.BAD_VERSION) is verdict(removal, 0, Failure.BAD_VERSION) is Verdict.DECIDE_AGAIN


def test_a_tick_whose_key_is_taken_says_so() -> None:
    move = OF_SCHEDULES[0]
    assert verdict(move, index(move, PATHS[Place.KEYS]), Failure.NODE_EXISTS) is Verdict.KEY_TAKEN


def test_a_cancel_request_that_is_gone_is_decided_again() -> None:
    move = transitions.cancel_assigned(W, T, b"")
    assert verdict(move, index(move, PATHS[Place.CANCEL]), Failure.NO_NODE) is Verdict.DECIDE_AGAIN


KEYED = [move for move in MOVES if transitions.freed_by(move) is not None]


@pytest.mark.parametrize("move", KEYED, ids=lambda move: move.transition.value)
def test_what_frees_a_key_goes_on_without_it_where_the_task_holds_it_no_more(move: Move) -> None:
    assert transitions.freed_by(move) == KEY
    for path in (PATHS[Place.HOLDS], PATHS[Place.KEYS]):
        place = index(move, path)
        expected = Verdict.RACE_LOST if place == move.guard else Verdict.WITHOUT_KEY
        assert verdict(move, place, Failure.NO_NODE) is expected
    plain = transitions.without_key(move)
    if move.transition is not N.RELEASE:
        assert plain.operations[plain.guard] == move.operations[move.guard]
    assert transitions.freed_by(plain) is None
    kept = [each for each in move.operations if not isinstance(each, DeleteNode) or "/keys/" not in each.path]
    assert list(plain.operations) == kept


def test_every_end_of_a_task_can_free_its_key_and_nothing_else_does() -> None:
    ends = {row.name for row in TABLE.values() if Place.STATUS in row.produces or Place.STATUS in row.consumes}
    assert {move.transition for move in KEYED} == ends | {N.COMPLETE_SILENTLY, N.REPLAY, N.RELEASE}


def test_a_key_goes_only_with_a_task_that_holds_one() -> None:
    assert transitions.collect(T).operations == (DeleteNode(PATHS[Place.STATUS]),)
    assert transitions.complete(W, T, b"").operations == (
        DeleteNode(PATHS[Place.ASSIGN]),
        CreateNode(PATHS[Place.STATUS], b""),
    )


def test_a_key_without_a_hold_goes_by_itself() -> None:
    move = transitions.expire(T, HeldKey(HASH, has_hold=False))
    assert move.operations == (DeleteNode(PATHS[Place.STATUS]), DeleteNode(PATHS[Place.KEYS]))
    assert transitions.freed_by(move) == HeldKey(HASH, has_hold=False)


def test_a_replay_gives_the_key_to_the_new_name() -> None:
    move = transitions.replay(T, T2, b"1", None, NewKey(HASH, b"r"))
    assert move.operations == (
        DeleteNode(PATHS[Place.DEAD]),
        CreateNode(PATHS[Place.RENAMED], b"1"),
        CreateNode(PATHS[Place.KEYS], T2.encode()),
        CreateNode(PATHS[Place.HOLDS_RENAMED], b"r"),
    )
    assert verdict(move, 2, Failure.NODE_EXISTS) is Verdict.KEY_TAKEN


SUBMISSION = transitions.submit(
    "client-1",
    31,
    7,
    [NewTask(T, b"a"), NewTask(T2, b"b", due_ms=DUE), NewTask("task-x", b"c", key_hash=HASH, key_record=b"r")],
)


def test_a_submission_checks_its_session_then_the_journal_then_creates() -> None:
    assert SUBMISSION.operations == (
        CheckNode("/clients/client-1/alive-000000000000001f"),
        SetNode("/clients/client-1", b"", 7),
        CreateNode(f"/tasks/{T}", b"a"),
        CreateNode(f"/delayed/{DUE}-{T2}", b"b"),
        CreateNode("/tasks/task-x", b"c"),
        CreateNode(f"/keys/{HASH}", b"task-x"),
        CreateNode(f"/keys/{HASH}-task-x", b"r"),
    )
    assert SUBMISSION.owners == (-1, -1, 0, 1, 2, 2, 2)
    assert SUBMISSION.tasks == (T, T2, "task-x")


@pytest.mark.parametrize(
    ("place", "failure", "meaning"),
    [
        (0, Failure.NO_NODE, Verdict.SESSION_REPLACED),
        (1, Failure.BAD_VERSION, Verdict.READ_JOURNAL),
        (1, Failure.NO_NODE, Verdict.JOURNAL_GONE),
        (2, Failure.NODE_EXISTS, Verdict.UNEXPECTED),
        (5, Failure.NODE_EXISTS, Verdict.KEY_TAKEN),
    ],
)
def test_a_refused_submission_never_says_that_it_was_accepted(place: int, failure: Failure, meaning: Verdict) -> None:
    assert verdict(SUBMISSION, place, failure) is meaning


def test_a_child_is_not_submitted_when_its_parent_has_left_its_assignment() -> None:
    parent = PATHS[Place.ASSIGN]
    child = NewTask("task-x", b"c", due_ms=DUE, parent=parent)
    batch = transitions.submit("client-1", 31, 7, [NewTask(T, b"a"), child])
    assert batch.operations[3:] == (CheckNode(parent), CreateNode(f"/delayed/{DUE}-task-x", b"c"))
    assert batch.owners == (-1, -1, 0, 1, 1)
    assert verdict(batch, 3, Failure.NO_NODE) is Verdict.PARENT_GONE


def test_failures_are_known_by_the_names_of_zookeepers_errors() -> None:
    assert Failure("NoNode") is Failure.NO_NODE
    assert Failure("NodeExists") is Failure.NODE_EXISTS
    assert Failure("NoAuth") is Failure.OTHER


def test_a_moves_size_bounds_its_operations_with_their_paths_and_data() -> None:
    move = transitions.assign(T, W, b"x" * 1000)
    bare = sum(len(operation.path) for operation in move.operations) + 1000
    assert bare < move.size() <= bare + 64 * 3
    assert move.size(namespace=10) == move.size() + 30
    assert SUBMISSION.size(namespace=10) == SUBMISSION.size() + 70


def test_the_documented_table_is_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "transitions.md"
    assert as_markdown() in page.read_text()
