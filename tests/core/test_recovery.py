from __future__ import annotations

import pytest

from herdmaster.core import transitions
from herdmaster.core.endings import too_large
from herdmaster.core.outcome import decode_outcome
from herdmaster.core.payload import MAX_PAYLOAD, Call, decode_call, encode_arguments, encode_call, with_start
from herdmaster.core.recovery import MAX_MOVABLE, Recovery, follow_up, worker_of
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.transitions import CreateNode, DeleteNode

W, X = "worker-w", "worker-x"
RAW = "task-0000000001"
CALL = "task-01arz3ndektsv4rrffq69g5fav.default"
N = TransitionName


def payload(deliveries: int = 0, started: str | None = None) -> bytes:
    return encode_call(Call(1, "m:f", *encode_arguments((), {}), deliveries=deliveries, started=started))


def created(move: transitions.Move, path: str) -> bytes:
    (found,) = (op.data for op in move.operations if isinstance(op, CreateNode) and op.path == path)
    return found


def test_a_task_goes_back_to_tasks_with_its_payload() -> None:
    move = Recovery().move(W, RAW, b"data", has_status=False)

    assert move.operations == (DeleteNode(f"/assign/{W}/{RAW}"), CreateNode(f"/tasks/{RAW}", b"data"))


def test_a_task_with_a_status_is_dropped() -> None:
    move = Recovery().move(W, CALL, payload(), has_status=True)

    assert move == transitions.drop_assignment_because_status(W, CALL)


def test_the_first_loss_costs_a_delivery_because_it_cannot_be_known() -> None:
    move = Recovery().move(W, CALL, payload(), has_status=False)

    assert decode_call(created(move, f"/tasks/{CALL}")).deliveries == 1


def test_only_started_tasks_lose_a_further_delivery() -> None:
    waiting = Recovery().move(W, CALL, payload(deliveries=2), has_status=False)
    started_elsewhere = Recovery().move(W, CALL, payload(deliveries=2, started=X), has_status=False)
    started = Recovery().move(W, CALL, payload(deliveries=2, started=W), has_status=False)

    found = [decode_call(created(move, f"/tasks/{CALL}")) for move in (waiting, started_elsewhere, started)]
    assert [call.deliveries for call in found] == [2, 2, 3]
    assert found[2].started is None


@pytest.mark.parametrize(("allowed", "losses"), [(5, 2), (2, 2), (1, 1)])
def test_from_its_second_loss_on_a_task_runs_alone_and_always_before_it_is_buried(allowed: int, losses: int) -> None:
    recovery = Recovery(allowed)
    data = payload()
    for count in range(1, losses + 1):
        worker = f"worker-{count}"
        for task in (CALL, RAW):
            move = recovery.move(worker, task, with_start(data, worker) if task == CALL else b"", has_status=False)
            found = created(move, f"/tasks/{task}")
            assert recovery.runs_alone(task, found) is (count == losses)
            data = found if task == CALL else data


def test_arguments_that_speak_of_alone_isolate_nothing() -> None:
    data = encode_call(Call(1, "m:f", *encode_arguments(({"alone": True},), {})))
    assert not Recovery().runs_alone(CALL, data)


def test_past_max_deliveries_it_is_buried() -> None:
    recovery = Recovery(max_deliveries=2)
    assert recovery.move(W, CALL, payload(1, W), has_status=False).transition is N.RECOVER
    move = recovery.move(W, CALL, payload(2, W), has_status=False)

    assert move.transition is N.BURY
    dead = decode_call(created(move, f"/dead/{CALL}"))
    assert dead.deliveries == 3
    outcome = decode_outcome(CALL, created(move, f"/status/{CALL}"))
    assert outcome.error is not None
    assert outcome.error.type == "WorkerLost"
    assert dead.error == outcome.error


def test_raw_tasks_carry_no_count_so_the_primary_counts_the_workers_that_were_lost_with_them() -> None:
    recovery = Recovery(max_deliveries=2)
    moves = [recovery.move(f"worker-{number}", RAW, b"x", has_status=False) for number in range(3)]

    assert [move.transition for move in moves] == [N.RECOVER, N.RECOVER, N.BURY]
    assert created(moves[2], f"/dead/{RAW}") == b"x"
    assert created(moves[2], f"/status/{RAW}") == b"failed: WorkerLost"


def test_one_loss_counts_once_however_often_it_is_asked_about() -> None:
    recovery = Recovery(max_deliveries=1)

    for _ in range(5):  # each reply was lost, say
        assert recovery.move(W, RAW, b"x", has_status=False).transition is N.RECOVER
    assert recovery.move(X, RAW, b"x", has_status=False).transition is N.BURY
    assert recovery.move(X, RAW, b"x", has_status=False).transition is N.BURY


@pytest.mark.long
def test_what_was_buried_is_forgotten_and_so_is_what_is_oldest() -> None:
    recovery = Recovery(max_deliveries=1)
    recovery.move(W, RAW, b"x", has_status=False)
    recovery.forget(RAW)
    assert recovery.move(X, RAW, b"x", has_status=False).transition is N.RECOVER

    for number in range(100_001):
        recovery.move(W, f"task-{number:010d}", b"x", has_status=False)
    assert len(recovery._losses) == 100_000


@pytest.mark.parametrize(
    "data",
    [
        b"garbage",
        b"",
        b'{"herd":2}',
        b'{"herd":1,"call":"m:f","args":[],"kwargs":{},"deliveries":%s,"started":"worker-w"}' % (b"9" * 4300),
    ],
    ids=["garbage", "empty", "later version", "absurd count"],
)
def test_a_call_that_cannot_be_read_goes_back_as_it_is_and_is_counted_like_a_raw_task(data: bytes) -> None:
    recovery = Recovery(max_deliveries=1)
    move = recovery.move(W, CALL, data, has_status=False)

    assert (move.transition, created(move, f"/tasks/{CALL}")) == (N.RECOVER, data)
    assert recovery.move(X, CALL, data, has_status=False).transition is N.BURY


@pytest.mark.parametrize("size", [MAX_MOVABLE + 1, 1_048_000])
def test_what_is_too_large_to_be_buried_is_refused(size: int) -> None:
    move = Recovery().move(W, RAW, b"x" * size, has_status=False)

    assert move.transition is N.REFUSE_ASSIGNED
    assert created(move, f"/status/{RAW}") == b"failed: PayloadTooLarge"


def test_a_payload_of_the_largest_size_can_be_buried_in_one_frame() -> None:
    recovery = Recovery(max_deliveries=0)
    move = recovery.move(W, RAW, b"x" * MAX_MOVABLE, has_status=False)

    assert move.transition is N.BURY
    assert move.size() < 1_048_575


def test_the_text_of_a_refusal_says_what_to_do() -> None:
    error = too_large(600_000).error

    assert error is not None
    assert error.type == "PayloadTooLarge"
    assert str(MAX_PAYLOAD) in error.message
    assert "store the data elsewhere" in error.message


# --- what follows a refused transaction ------------------------------------------------------------------------------


def test_a_task_that_turns_out_to_have_ended_is_dropped_from_tasks() -> None:
    move = transitions.refuse(RAW, b"failed")

    assert follow_up(move, Verdict.DROP_TASK_ENDED) == transitions.drop_task_because_status(RAW)


def test_a_task_that_turns_out_to_be_assigned_is_dropped_from_tasks() -> None:
    move = transitions.assign(RAW, W, b"")

    assert follow_up(move, Verdict.DROP_TASK_ASSIGNED) == transitions.drop_task_because_assigned(W, RAW)


def test_a_status_that_exists_already_drops_the_assignment() -> None:
    move = transitions.refuse_assigned(W, RAW, b"failed")

    assert follow_up(move, Verdict.DROP_ASSIGNMENT) == transitions.drop_assignment_because_status(W, RAW)


def test_what_was_buried_already_ends_with_its_failure() -> None:
    move = transitions.bury(W, RAW, b"payload", b"failed: WorkerLost")

    assert follow_up(move, Verdict.ALREADY_BURIED) == transitions.refuse_assigned(W, RAW, b"failed: WorkerLost")


def test_a_duplicate_whose_worker_ended_it_meanwhile_is_looked_up_among_the_statuses() -> None:
    move = transitions.drop_task_because_assigned(W, RAW)

    following = follow_up(move, Verdict.DECIDE_AGAIN)
    assert following == transitions.drop_task_because_status(RAW)
    assert follow_up(following, Verdict.DECIDE_AGAIN) is None


@pytest.mark.parametrize("verdict", [Verdict.RACE_LOST, Verdict.CHOOSE_ANOTHER_WORKER, Verdict.KEEP_AND_TRY_LATER])
def test_the_rest_is_for_the_pictures_to_decide(verdict: Verdict) -> None:
    assert follow_up(transitions.assign(RAW, W, b""), verdict) is None


def test_a_move_names_its_worker_if_it_touches_an_inbox() -> None:
    assert worker_of(transitions.recover(W, RAW, b"")) == W
    with pytest.raises(ValueError, match="touches no inbox"):
        worker_of(transitions.refuse(RAW, b"failed"))


def test_the_payload_says_how_many_deliveries_it_may_lose() -> None:
    def move(max_deliveries: int | None, deliveries: int) -> transitions.Move:
        call = Call(
            1, "m:f", *encode_arguments((), {}), deliveries=deliveries, started=W, max_deliveries=max_deliveries
        )
        return Recovery(max_deliveries=3).move(W, CALL, encode_call(call), has_status=False)

    assert [move(1, lost).transition for lost in (0, 1)] == [N.RECOVER, N.BURY]
    assert [move(9, lost).transition for lost in (4, 8, 9)] == [N.RECOVER, N.RECOVER, N.BURY]
    assert [move(None, lost).transition for lost in (2, 3)] == [N.RECOVER, N.BURY]


def test_who_is_buried_keeps_what_it_wants_of_its_outcome() -> None:
    call = Call(1, "m:f", *encode_arguments((), {}), deliveries=9, started=W, key="abc", ttl=7.0)
    move = Recovery(max_deliveries=1).move(W, CALL, encode_call(call), has_status=False)
    outcome = decode_outcome(CALL, created(move, f"/status/{CALL}"))

    assert (outcome.key, outcome.ttl) == ("abc", 7.0)
