from __future__ import annotations

import msgspec
import pytest

from herdmaster.core import flow_moves, transitions
from herdmaster.core.ending_moves import bury, cancel, drop_step, lose_step, outcome_of, refuse, step_of
from herdmaster.core.endings import EXPIRED, Ending, failed
from herdmaster.core.flows import FlowStep, find_run, step_task, task_of
from herdmaster.core.outcome import OutcomeState, decode_outcome
from herdmaster.core.payload import Call, decode_call, encode_arguments, encode_call
from herdmaster.core.recovery import Recovery, follow_up
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.transitions import CreateNode, DeleteNode, Failure, Move, verdict
from herdmaster.core.whereabouts import Assigned, Delayed, Waiting, Whereabouts, path_of

W = "worker-w"
CALL = "task-01arz3ndektsv4rrffq69g5fav.default"
STEP = f"{CALL}.f"
FLOW = "flow-01arz3ndektsv4rrffq69g5faw"
PLACES: list[Whereabouts] = [Waiting(CALL), Delayed(1000, CALL), Assigned(CALL, W)]
PLACES_OF_STEP: list[Whereabouts] = [Waiting(STEP), Delayed(1000, STEP), Assigned(STEP, W)]
LOST = failed("WorkerLost", "why")


def payload(flow: FlowStep | None = None) -> bytes:
    return encode_call(Call(1, "m:f", *encode_arguments((), {}), attempt=3, key="abc", ttl=2.0, flow=flow))


PLAIN = payload()
OF_STEP = payload(FlowStep(FLOW, "7", "f", STEP, joins=("8",)))


def deleted(move: Move) -> list[str]:
    return [each.path for each in move.operations if isinstance(each, DeleteNode)]


def created(move: Move) -> dict[str, bytes]:
    return {each.path: each.data for each in move.operations if isinstance(each, CreateNode)}


# --- plain tasks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", PLACES)
def test_a_task_is_cancelled_where_it_is_together_with_the_request(where: Whereabouts) -> None:
    move = cancel(where, PLAIN)

    assert deleted(move) == [path_of(where), f"/cancel/{CALL}"]
    assert move.operations[move.guard] == DeleteNode(path_of(where))
    outcome = decode_outcome(CALL, created(move)[f"/status/{CALL}"])
    assert (outcome.state, outcome.key, outcome.ttl) == (OutcomeState.CANCELLED, "abc", 2.0)


@pytest.mark.parametrize("where", PLACES)
def test_a_task_is_refused_where_it_is(where: Whereabouts) -> None:
    move = refuse(where, PLAIN, EXPIRED)

    assert deleted(move) == [path_of(where)]
    assert decode_outcome(CALL, created(move)[f"/status/{CALL}"]).state is OutcomeState.EXPIRED
    assert outcome_of(move) == decode_outcome(CALL, created(move)[f"/status/{CALL}"])


@pytest.mark.parametrize("where", PLACES)
def test_what_is_left_of_an_ended_task_goes_where_it_is(where: Whereabouts) -> None:
    cancelling = cancel(where, b"")
    at = len(cancelling.operations) - 1
    refused = verdict(cancelling, at, Failure.NODE_EXISTS)
    assert refused in (Verdict.DROP_TASK_ENDED, Verdict.DROP_DELAYED_ENDED, Verdict.DROP_ASSIGNMENT)
    move = follow_up(cancelling, refused)
    assert move is not None

    assert move.operations == (transitions.CheckNode(f"/status/{CALL}"), DeleteNode(path_of(where)))


def test_an_unknown_payload_is_no_hindrance() -> None:
    for task in (CALL, STEP):
        outcome = outcome_of(cancel(Waiting(task), b"garbage"))
        assert outcome is not None
        assert outcome.state is OutcomeState.CANCELLED


def test_a_buried_task_keeps_its_payload_with_its_error() -> None:
    move = bury(W, CALL, PLAIN, LOST)

    assert move.transition is TransitionName.BURY
    assert decode_call(created(move)[f"/dead/{CALL}"]).error == LOST.error


# --- steps of flows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", PLACES_OF_STEP)
def test_a_cancelled_step_stays_with_its_flow_for_a_retry(where: Whereabouts) -> None:
    move = cancel(where, OF_STEP)

    assert deleted(move) == [path_of(where), f"/cancel/{STEP}", f"/flows/{FLOW}/running/{STEP}"]
    assert move.operations[move.guard] == DeleteNode(path_of(where))
    ((path, data),) = created(move).items()
    assert path == f"/flows/{FLOW}/failed/7"
    assert decode_call(data).error is not None
    outcome = outcome_of(move)
    assert outcome is not None
    assert (outcome.state, outcome.attempt) == (OutcomeState.CANCELLED, 3)


@pytest.mark.parametrize("where", PLACES_OF_STEP)
@pytest.mark.parametrize("ending", [EXPIRED, LOST])
def test_a_refused_step_fails(where: Whereabouts, ending: Ending) -> None:
    move = refuse(where, OF_STEP, ending)

    assert deleted(move) == [path_of(where), f"/flows/{FLOW}/running/{STEP}"]
    assert list(created(move)) == [f"/flows/{FLOW}/failed/7"]
    outcome = outcome_of(move)
    assert outcome is not None
    assert (outcome.state, outcome.error) == (ending.state, ending.reason)


def test_a_step_whose_deliveries_are_used_up_fails() -> None:
    recovery = Recovery(max_deliveries=1)
    data = encode_call(
        Call(1, "m:f", *encode_arguments((), {}), deliveries=1, started=W, flow=FlowStep(FLOW, "7", "f", STEP))
    )
    move = recovery.move(W, STEP, data, has_status=False)

    assert move.transition is TransitionName.FAIL_STEP
    error = decode_call(created(move)[f"/flows/{FLOW}/failed/7"]).error
    assert error is not None
    assert error.type == "WorkerLost"


@pytest.mark.parametrize("where", PLACES_OF_STEP)
def test_a_copy_of_a_step_that_has_ended_is_dropped_where_it_is(where: Whereabouts) -> None:
    for move in (cancel(where, OF_STEP), refuse(where, OF_STEP, LOST)):
        at = len(move.operations) - 1
        assert move.operations[at].path == f"/flows/{FLOW}/running/{STEP}"
        refused = verdict(move, at, Failure.NO_NODE)
        assert refused is Verdict.STEP_ENDED
        assert follow_up(move, refused) == drop_step(move)
        assert drop_step(move).operations == (DeleteNode(path_of(where)),)


@pytest.mark.parametrize(
    "data",
    [
        OF_STEP.replace(b'"herd":1', b'"herd":2'),
        OF_STEP.replace(b'"args":[]', b'"args":["%s"]' % (b"x" * 600_000)),
    ],
    ids=["later version", "too large"],
)
def test_a_step_whose_payload_is_wrong_elsewhere_fails_in_its_flow(data: bytes) -> None:
    move = refuse(Waiting(STEP), data, LOST)
    assert created(move) == {f"/flows/{FLOW}/failed/7": data}


@pytest.mark.parametrize(
    "flow",
    [
        {"flow": "flow-1"}, {"flow": f"{FLOW}/running"}, {"flow": f"{FLOW}\n"}, {"flow": ""}, {"step": "7/8"},
        {"step": ".."}, {"step": ""}, {"joins": ["8/../../x"]}, {"joins": ["8!?"]}, {"refs": [{"at": [], "step": "x"}]},
    ],
    ids=str,
)  # fmt: skip
def test_no_path_is_made_of_what_is_no_id(flow: dict[str, object]) -> None:
    known = {"flow": FLOW, "step": "7", "name": "f", "task": STEP}
    data = msgspec.json.encode({"herd": 1, "call": "m:f", "args": [], "kwargs": {}, "flow": known | flow})
    assert step_of(STEP, data) is None
    assert refuse(Waiting(STEP), data, LOST).transition is TransitionName.REFUSE


def test_only_a_task_that_is_named_a_step_is_one() -> None:
    assert step_of(CALL, OF_STEP) is None
    assert step_of(STEP, PLAIN) is None
    assert step_of(STEP, OF_STEP) == FlowStep(FLOW, "7", "f", STEP, joins=("8",))
    assert refuse(Waiting(CALL), OF_STEP, EXPIRED).transition is TransitionName.REFUSE
    assert flow_moves.fail_step_waiting(STEP, FlowStep(FLOW, "7", "f", STEP), b"").task == STEP


def test_a_step_that_is_lost_again_gets_a_task_of_another_name() -> None:
    first = step_task(1_700_000_000_000, FLOW, "7.2", "slow", 9, big=True)
    task = task_of(FlowStep(FLOW, "7.2", "", first), 2)
    move = lose_step(FLOW, task, b"7.2")

    assert move is not None
    call = decode_call(created(move)[f"/flows/{FLOW}/failed/7.2"])
    assert call.flow is not None
    assert (call.run, call.flow.task) == (2, first)
    assert task_of(call.flow, call.run + 1) not in {first, task}


@pytest.mark.parametrize("data", [b"7", b"7!", b"7? 12", b"7 1200x10"])
def test_a_step_is_lost_by_what_its_flow_notes_of_it(data: bytes) -> None:
    move = lose_step(FLOW, STEP, data)
    assert move is not None
    assert list(created(move)) == [f"/flows/{FLOW}/failed/7"]


@pytest.mark.parametrize("data", [b"", b"\xff", b"x!"])
def test_a_step_that_its_flow_does_not_name_is_not_lost(data: bytes) -> None:
    assert lose_step(FLOW, STEP, data) is None


def test_the_run_of_a_task_with_a_name_from_elsewhere_counts_as_the_first() -> None:
    assert find_run(FLOW, "7", STEP) == (STEP, 0)
    assert find_run(FLOW, "7", "task-x") == ("task-x", 0)
