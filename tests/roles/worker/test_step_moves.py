"""The moves of steps, and what follows when they are refused."""

from __future__ import annotations

import msgspec
import pytest

from herdmaster.core import flow_moves
from herdmaster.core.added_steps import AddedStep
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flows import FlowStep, StepNote, step_task
from herdmaster.core.history import EndState
from herdmaster.core.options import RunOptions
from herdmaster.core.outcome import MAX_OUTCOME, Outcome, OutcomeState, decode_outcome
from herdmaster.core.payload import Call, decode_call, encode_call
from herdmaster.core.retry import Raised
from herdmaster.core.run import ChunkRan, Ending, Expired, ItemRun, Lacking, Returned, Run
from herdmaster.core.signing import Keyring, SignedOnly
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.transitions import CreateNode, DeleteNode, Move
from herdmaster.errors import BadPayload, BadSignature
from herdmaster.roles.worker.next_move import Again, NextMoves
from herdmaster.roles.worker.refusals import Remedy, remedy
from herdmaster.roles.worker.task_log import line_of
from herdmaster.running.delivery import Delivered
from herdmaster.running.program import way

F = "flow-01h00000000000000000000000"
TASK = step_task(1_700_000_000_000, F, "3", "default", 5)
FLOW = FlowStep(F, "3", "resize", TASK, joins=("4", "5?"), after=("1",))
W = "worker-w"
FAILED = Raised(ErrorInfo("ValueError", "no", "Traceback"), ("ValueError", "Exception"))
KEYRING = Keyring({"a": b"s" * 32})
MOVES = NextMoves(W, ["m:g"], lambda: 1, lambda _low, high: high)
SIGNING = NextMoves(W, ["m:g"], lambda: 1, lambda _low, high: high, keyring=KEYRING)


def step(options: RunOptions | None = None, **fields: object) -> Delivered:
    given: dict[str, object] = {"args": msgspec.Raw(b"[]"), **fields}
    call = Call(1, "m:f", kwargs=msgspec.Raw(b"{}"), flow=FLOW, **given)  # type: ignore[arg-type] # of Call
    return Delivered(TASK, encode_call(call), 1, call, way=way(options or RunOptions()))


def after_run(task: Delivered, ending: Ending, moves: NextMoves = MOVES) -> Move:
    found = moves.after_run(task, Run(ending, 10, 20))
    assert isinstance(found, Move)
    return found


def paths(move: Move) -> list[str]:
    signs = {CreateNode: "+", DeleteNode: "-"}
    return [signs[type(each)] + each.path.removeprefix(f"/flows/{F}") for each in move.operations]


def result(move: Move) -> Outcome:
    (data,) = [each.data for each in move.operations if isinstance(each, CreateNode) and "/results/" in each.path]
    return decode_outcome(f"{F}/3", data)


def error(move: Move) -> ErrorInfo:
    (created,) = [each for each in move.operations if isinstance(each, CreateNode)]
    assert paths(move) == [f"-/assign/{W}/{TASK}", "+/failed/3", f"-/running/{TASK}"]
    found = decode_call(created.data).error
    assert found is not None
    return found


def added(number: int, size: int = 10) -> AddedStep:
    flow = FlowStep(F, f"3+{number}", "more", step_task(1, F, f"3+{number}", "default", 5))
    call = Call(1, "m:f", msgspec.Raw(b'["' + b"x" * size + b'"]'), msgspec.Raw(b"{}"), flow=flow)
    return AddedStep(flow.step, flow.task, encode_call(call))


def test_a_step_that_is_done_leaves_its_result_and_deletes_its_edges() -> None:
    task = step()
    move = after_run(task, Returned(msgspec.Raw(b"5")))
    assert move.transition is TransitionName.COMPLETE_STEP
    assert paths(move) == [
        f"-/assign/{W}/{TASK}", "+/results/3", "-/steps/4/3", "-/steps/5?/3", f"-/running/{TASK}",
    ]  # fmt: skip
    found = result(move)
    assert (found.state, found.result, found.worker) == (OutcomeState.DONE, msgspec.Raw(b"5"), W)
    assert found.step == StepNote("resize", ("1",))
    assert task.end is not None
    assert (task.end.result, task.end.flow, task.end.step) == (EndState.DONE, F, "3")
    assert f"(step 3 of {F}) done" in line_of(task.end)


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        (FAILED, "ValueError"),
        (Expired(), "TaskExpired"),
        (Lacking(), "UnknownCall"),
        (Returned(msgspec.Raw(b'"' + b"x" * MAX_OUTCOME + b'"')), "ResultTooLarge"),
        (Returned(steps=(AddedStep("3+0", "task-a", b"{"),)), "BadPayload"),
        (Returned(steps=tuple(added(number, 100_000) for number in range(12))), "ConfigurationError"),
    ],
    ids=["raised", "expired", "lacking", "too large", "no payload", "too many"],
)
def test_every_other_end_leaves_the_payload_with_the_error(ending: Ending, kind: str) -> None:
    task = step(RunOptions(max_attempts=1), asked=tuple(f"worker-{number}" for number in range(20)))
    assert error(after_run(task, ending)).type == kind
    assert task.end is not None
    assert (task.end.flow, task.end.step, task.end.is_dead) == (F, "3", False)


def test_a_failed_step_is_retried_before_it_fails_and_is_never_buried() -> None:
    options = RunOptions(max_attempts=2)
    again = MOVES.after_run(step(options), Run(FAILED, 10, 20))
    assert isinstance(again, Again)
    assert decode_call(again.payload).flow == FLOW
    assert error(after_run(step(options, attempt=2), FAILED)).type == "ValueError"


def test_a_refused_step_fails_even_if_its_payload_is_no_call() -> None:
    payload = encode_call(Call(1, "m:f", msgspec.Raw(b"[]"), msgspec.Raw(b"{}"), flow=FLOW))
    broken = payload.replace(b'"args":[]', b'"args":{}')
    move = MOVES.refuse(Delivered(TASK, broken, 1), BadPayload("`args` of the call has to be a list"))
    assert paths(move) == [f"-/assign/{W}/{TASK}", "+/failed/3", f"-/running/{TASK}"]


def test_a_chunk_whose_items_are_done_has_the_list_of_their_results() -> None:
    ran = ChunkRan((ItemRun(msgspec.Raw(b"1")), ItemRun(msgspec.Raw(b"[2]"))), steps=(added(0),))
    move = after_run(step(), ran)
    assert result(move).result == msgspec.Raw(b"[1,[2]]")
    assert f"+/running/{added(0).task}" in paths(move)


def test_a_chunk_fails_with_an_item_and_adds_no_steps() -> None:
    items = (ItemRun(msgspec.Raw(b"1")), ItemRun(raised=FAILED), ItemRun(raised=FAILED))
    task = step(RunOptions(max_attempts=1), args=msgspec.Raw(b'[["a",{"b":"\xc3\xa4"},0],7]'))
    move = after_run(task, ChunkRan(items, steps=(added(0),)))
    assert error(move).message == 'no (element 1: {"b":"ä"}; 2 of the 3 items of the chunk failed)'
    assert f"+/running/{added(0).task}" not in paths(move)


def test_a_chunk_is_tried_again_if_an_item_is() -> None:
    once = msgspec.structs.replace(FAILED, lineage=("KeyError", "Exception"))
    items = (ItemRun(raised=once), ItemRun(raised=FAILED))
    options = RunOptions(max_attempts=2, retry_on=("ValueError",))
    found = MOVES.after_run(step(options), Run(ChunkRan(items), 10, 20))
    assert isinstance(found, Again)


def test_added_steps_are_created_before_anything_of_the_step_goes() -> None:
    move = after_run(step(), Returned(steps=(added(0), added(1))))
    first, second = added(0).task, added(1).task
    assert paths(move)[1:6] == [
        f"+/tasks/{first}", f"+/running/{first}", f"+/tasks/{second}", f"+/running/{second}", "+/results/3",
    ]  # fmt: skip
    assert paths(move)[-1] == f"-/running/{TASK}"


def test_results_and_added_steps_are_signed_for_their_places() -> None:
    move = after_run(step(), Returned(msgspec.Raw(b"5"), (added(0),)), SIGNING)
    data = {each.path: each.data for each in move.operations if isinstance(each, CreateNode)}
    signed = SignedOnly(KEYRING)
    outcome = data[f"/flows/{F}/results/3"]
    assert signed.read_outcome(f"{F}/3", outcome).result == msgspec.Raw(b"5")
    for other in (f"{F}/4", "flow-01h00000000000000000000001/3", TASK):
        with pytest.raises(BadSignature):
            signed.read_outcome(other, outcome)
    signed.check_task(added(0).task, data[f"/tasks/{added(0).task}"])
    with pytest.raises(BadSignature, match="not signed"):
        signed.read_outcome(f"{F}/3", b'{"herd":1,"state":"done","result":5}')
    assert signed.read_outcome(F, b'{"herd":1,"state":"done"}').state is OutcomeState.DONE, "that of the flow has none"


# --- refusals --------------------------------------------------------------------------------------------------------


def test_a_step_that_has_ended_elsewhere_is_dropped() -> None:
    move = after_run(step(), Returned())
    assert remedy(W, move, Verdict.STEP_ENDED) == flow_moves.drop_step_assigned(W, TASK) == MOVES.drop(step())


def test_an_edge_that_is_gone_is_left_out_alone() -> None:
    move = after_run(step(), Returned())
    found = remedy(W, move, Verdict.EDGE_GONE, f"/flows/{F}/steps/4/3")
    assert isinstance(found, Move)
    assert paths(found) == [f"-/assign/{W}/{TASK}", "+/results/3", "-/steps/5?/3", f"-/running/{TASK}"]
    assert (found.transition, found.guard) == (move.transition, move.guard)


def test_items_are_made_without_the_edges_of_a_join_that_is_gone() -> None:
    creations = [CreateNode(f"/flows/{F}/steps/{join}/3.{item}", b"") for item in (0, 1) for join in ("4", "5?")]
    move = flow_moves.expand_step(W, TASK, FLOW, b"payload", running=b"3 2", version=0, creations=creations)
    found = remedy(W, move, Verdict.EDGE_GONE, f"/flows/{F}/steps/4/3.0")
    assert isinstance(found, Move)
    assert [each.path for each in found.operations[2:]] == [f"/flows/{F}/steps/5?/3.{item}" for item in (0, 1)]
    assert remedy(W, move, Verdict.DECIDE_AGAIN) is Remedy.READ_AGAIN
    assert remedy(W, move, Verdict.RACE_LOST) is Remedy.LET_GO
