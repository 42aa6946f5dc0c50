from __future__ import annotations

import msgspec
import pytest

from herdmaster.core.chunk import split_results
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.names import UlidFactory, call_name
from herdmaster.core.options import RunOptions
from herdmaster.core.outcome import MAX_OUTCOME, Outcome, OutcomeState, decode_outcome
from herdmaster.core.payload import Call, Scheduled, decode_call, encode_call, with_error
from herdmaster.core.retry import Raised
from herdmaster.core.run import ChunkRan, Ending, Expired, ItemRun, Lacking, Returned, Run
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.transitions import CreateNode, Move, SetNode
from herdmaster.errors import BadPayload
from herdmaster.roles.worker.next_move import MAX_ASKED, MAX_WORKERS_ASKED, Again, NextMoves
from herdmaster.roles.worker.refusals import Remedy, remedy
from herdmaster.roles.worker.task_log import line_of
from herdmaster.running.delivery import Delivered
from herdmaster.running.program import way

NAME = call_name(UlidFactory(lambda: 1, lambda count: b"\0" * count).new())
NOW = 1_700_000_000_000
FAILED = Raised(ErrorInfo("ValueError", "no", "Traceback"), ("ValueError", "Exception"))
MOVES = NextMoves("worker-w", ["m:g"], lambda: NOW, lambda _low, high: high)


def task(options: RunOptions | None = None, **fields: object) -> Delivered:
    call = Call(1, "m:f", msgspec.Raw(b"[]"), msgspec.Raw(b"{}"), **fields)  # type: ignore[arg-type]
    return Delivered(NAME, encode_call(call), 1, call, way=way(options or RunOptions()))


def after_run(what: Delivered, ending: Ending) -> Move | Again:
    return MOVES.after_run(what, Run(ending, 10, 20))


def outcome(move: Move | Again) -> Outcome:
    assert isinstance(move, Move)
    (data,) = [each.data for each in move.operations if isinstance(each, CreateNode) and "/status/" in each.path]
    return decode_outcome(NAME, data)


def again(found: Move | Again) -> Again:
    assert isinstance(found, Again)
    return found


def test_what_returned_is_completed_with_its_result_key_and_time_to_live() -> None:
    move = after_run(task(key="ab", ttl=60.0), Returned(msgspec.Raw(b"5")))

    assert isinstance(move, Move)
    assert move.transition is TransitionName.COMPLETE
    expected = Outcome(OutcomeState.DONE, msgspec.Raw(b"5"), None, "worker-w", 10, 20, 1, "ab", 60.0)
    assert outcome(move) == expected


def test_the_outcome_says_that_readers_leave_it_however_the_task_ended() -> None:
    for ending in (Returned(msgspec.Raw(b"5")), FAILED, Expired()):
        assert [outcome(after_run(task(keep=keep), ending)).keep for keep in (True, False)] == [True, False]


def test_where_no_outcome_is_wanted_the_key_goes_at_once() -> None:
    move = after_run(task(outcome=False, key="ab" * 16), Returned(msgspec.Raw(b"5")))

    assert isinstance(move, Move)
    assert move.transition is TransitionName.COMPLETE_SILENTLY
    assert [each.path for each in move.operations] == [f"/assign/worker-w/{NAME}", f"/keys/{'ab' * 16}"]


def test_a_result_that_is_too_large_fails_the_task_at_once() -> None:
    move = after_run(task(RunOptions(max_attempts=5)), Returned(msgspec.Raw(b'"' + b"x" * MAX_OUTCOME + b'"')))

    assert isinstance(move, Move)
    assert move.transition is TransitionName.BURY
    error = outcome(move).error
    assert error is not None
    assert error.type == "ResultTooLarge"
    assert NAME in error.message


def test_an_expired_task_ends_as_that() -> None:
    found = outcome(after_run(task(RunOptions(max_attempts=3), key="ab"), Expired()))

    assert (found.state, found.started, found.key) == (OutcomeState.EXPIRED, None, "ab")


def test_a_failure_of_the_only_attempt_is_completed() -> None:
    move = after_run(task(), FAILED)

    assert isinstance(move, Move)
    assert move.transition is TransitionName.COMPLETE
    assert outcome(move).error == FAILED.error


def line(what: Delivered) -> str:
    assert what.end is not None
    return line_of(what.end)


def test_a_failure_that_no_client_waits_for_is_reported() -> None:
    what = task(outcome=False)
    move = after_run(what, FAILED)

    assert isinstance(move, Move)
    assert move.transition is TransitionName.COMPLETE_SILENTLY
    assert line(what) == f"{NAME} m:f failed after 0.01 s, attempt 1 of 1: ValueError: no"


def test_the_end_of_a_schedules_task_names_the_schedule() -> None:
    what = task(scheduled=Scheduled("nightly", NOW))
    after_run(what, FAILED)
    assert what.end is not None
    failure = what.end.failure()
    assert failure is not None
    assert failure.schedule == "nightly"


def test_a_failure_with_attempts_left_is_tried_again_after_its_backoff() -> None:
    what = task(RunOptions(max_attempts=3, backoff=2.0), attempt=2)
    found = again(after_run(what, FAILED))

    assert decode_call(found.payload).attempt == 3
    assert found.seconds == 4.0
    move = MOVES.put_back(what, found, primary_is_ours=True)
    assert move.transition is TransitionName.RETRY_LATER
    assert move.operations[1] == CreateNode(f"/delayed/{NOW + 4000}-{NAME}", found.payload)


def test_a_retry_without_a_wait_goes_back_to_the_tasks() -> None:
    what = task(RunOptions(max_attempts=3, backoff=0.0))
    move = MOVES.put_back(what, again(after_run(what, FAILED)), primary_is_ours=True)

    assert move.transition is TransitionName.RETRY_NOW


def test_under_a_primary_of_the_references_a_retry_stays_in_the_inbox() -> None:
    what = task(RunOptions(max_attempts=3))
    found = again(after_run(what, FAILED))

    assert MOVES.put_back(what, found, primary_is_ours=False) == Move(
        TransitionName.RETRY_IN_PLACE, NAME, (SetNode(f"/assign/worker-w/{NAME}", found.payload),), 0
    )


def test_the_last_of_several_attempts_is_buried_with_its_payload() -> None:
    what = task(RunOptions(max_attempts=3), attempt=3, outcome=False)
    move = after_run(what, FAILED)

    assert isinstance(move, Move)
    assert move.transition is TransitionName.BURY
    assert move.operations[1] == CreateNode(f"/dead/{NAME}", with_error(what.payload, FAILED.error))
    assert decode_call(with_error(what.payload, FAILED.error)).error == FAILED.error
    assert outcome(move).attempt == 3


def test_a_retry_is_reported_and_then_the_burial() -> None:
    options = RunOptions(max_attempts=2, backoff=3.0)
    first, second = task(options), task(options, attempt=2)
    after_run(first, FAILED)
    after_run(second, FAILED)

    failed = f"{NAME} m:f failed after 0.01 s, attempt"
    assert line(first) == f"{failed} 1 of 2: ValueError: no; it comes again in 3.0 s"
    assert line(second) == f"{failed} 2 of 2: ValueError: no; dead: `herd dead show {NAME}`"


def test_a_chunk_that_comes_again_and_a_result_that_is_too_large_are_reported() -> None:
    chunk, large = task(RunOptions(max_attempts=2), chunk=True), task()
    after_run(chunk, ChunkRan((ItemRun(raised=FAILED), ItemRun(raised=FAILED))))
    after_run(large, Returned(msgspec.Raw(b'"' + b"x" * MAX_OUTCOME + b'"')))

    assert "it comes again" in line(chunk)
    assert "ResultTooLarge" in line(large)


def test_a_call_that_goes_on_to_others_is_reported_only_where_that_is_its_end() -> None:
    what = task()
    found = again(MOVES.pass_on(what))
    MOVES.put_back(what, found, primary_is_ours=True)
    assert what.end is None
    MOVES.put_back(what, found, primary_is_ours=False)
    assert line(what).startswith(
        f"{NAME} m:f failed, attempt 1 of 1: UnknownCall: m:f is not registered with worker-w;"
    )
    asked_all = task(asked=tuple(f"worker-{number}" for number in range(50)), outcome=False)
    MOVES.pass_on(asked_all)
    assert asked_all.end is not None


def test_a_burial_that_was_done_before_ends_with_the_failure_alone() -> None:
    move = after_run(task(RunOptions(max_attempts=3), attempt=3), FAILED)
    assert isinstance(move, Move)
    instead = remedy("worker-w", move, Verdict.ALREADY_BURIED)

    assert isinstance(instead, Move)
    assert instead.transition is TransitionName.COMPLETE
    assert outcome(instead) == outcome(move)


def test_a_key_that_is_gone_is_not_deleted_again() -> None:
    move = after_run(task(outcome=False, key="ab" * 16), Returned())
    assert isinstance(move, Move)
    instead = remedy("worker-w", move, Verdict.WITHOUT_KEY)

    assert isinstance(instead, Move)
    assert [each.path for each in instead.operations] == [f"/assign/worker-w/{NAME}"]


def test_a_task_that_another_role_has_is_let_go() -> None:
    move = after_run(task(), FAILED)
    assert isinstance(move, Move)

    assert remedy("worker-w", move, Verdict.RACE_LOST) is Remedy.LET_GO


def test_a_call_without_a_function_goes_on_to_others_and_costs_no_attempt() -> None:
    waits = []
    what = task()
    for count in range(1, MAX_ASKED):
        found = again(MOVES.forward(what))
        call = decode_call(found.payload)
        assert (len(call.asked), call.attempt, call.deliveries) == (count, 1, 0)
        waits.append(found.seconds)
        what = Delivered(NAME, found.payload, 1, call)

    assert waits == [0.1, 0.5, 1.0, 2.0]  # the same worker again and again: there is no other
    move = MOVES.put_back(what, again(MOVES.forward(task())), primary_is_ours=True)
    assert move.transition is TransitionName.FORWARD


def test_after_enough_workers_were_asked_a_call_fails_and_names_them() -> None:
    error = outcome(MOVES.forward(task(asked=("worker-a", "worker-w", "worker-b", "worker-c")))).error

    assert error is not None
    assert error.type == "UnknownCall"
    assert "m:f is not registered with worker-w; its app has: m:g" in error.message
    assert "worker-a, worker-w, worker-b, worker-c" in error.message


@pytest.mark.parametrize(
    ("known", "app", "says"),
    [
        ([], None, "it has no app, which `herd worker --app MODULE` would give it."),
        (
            [],
            "shop.app:herd",
            "its app shop.app:herd has no tasks: perhaps it does not import m, which `herd worker --import m`",
        ),
        (["m:g"], "shop:herd", "its app shop:herd has: m:g."),
        (
            ["n:g"],
            "shop:herd",
            "its app shop:herd has: n:g: perhaps it does not import m, which `herd worker --import m` does.",
        ),
    ],
)
def test_a_worker_without_an_app_an_app_without_tasks_and_one_without_this_task_are_told_apart(
    known: list[str], app: str | None, says: str
) -> None:
    moves = NextMoves("worker-w", known, lambda: NOW, lambda _low, high: high, app=app)
    error = outcome(moves.forward(task(asked=("worker-a", "worker-w", "worker-b", "worker-c")))).error

    assert error is not None
    assert f"m:f is not registered with worker-w; {says}" in error.message


def test_as_long_as_there_is_a_worker_that_was_not_asked_a_call_goes_on_to_it_soon() -> None:
    asked = tuple(f"worker-{number}" for number in range(MAX_WORKERS_ASKED - 2))

    assert again(MOVES.forward(task(asked=asked))).seconds == 0.1
    assert outcome(MOVES.forward(task(asked=(*asked, "worker-z")))).state is OutcomeState.FAILED


def test_a_call_that_comes_back_to_a_worker_goes_on_later_each_time() -> None:
    seconds = [again(MOVES.forward(task(asked=("worker-w",) * repeats))).seconds for repeats in range(MAX_ASKED - 1)]

    assert seconds == [0.1, 0.5, 1.0, 2.0]
    assert outcome(MOVES.forward(task(asked=("worker-w",) * MAX_ASKED))).state is OutcomeState.FAILED
    assert [again(MOVES.forward(task(asked=("worker-a",) * times))).seconds for times in (6, 7)] == [8.0, 10.0]


def test_under_a_primary_of_the_references_a_call_without_a_function_fails_at_once() -> None:
    what = task()
    move = MOVES.put_back(what, again(MOVES.forward(what)), primary_is_ours=False)

    assert move.transition is TransitionName.COMPLETE
    assert outcome(move).state is OutcomeState.FAILED


def test_a_function_that_is_missing_after_all_is_looked_for_elsewhere() -> None:
    found = again(after_run(task(RunOptions(max_attempts=3)), Lacking("there is no module m")))

    assert (decode_call(found.payload).asked, decode_call(found.payload).attempt) == (("worker-w",), 1)
    assert found.otherwise is not None
    error = outcome(found.otherwise).error
    assert error is not None
    assert error.message.startswith("there is no module m. Workers asked: worker-w.")


def test_a_parameter_that_is_missing_is_looked_for_elsewhere_as_a_function_is() -> None:
    lacking = Lacking("m:f takes no argument `x`", is_function=False)
    found = again(after_run(task(RunOptions(max_attempts=3)), lacking))
    assert (decode_call(found.payload).asked, decode_call(found.payload).attempt) == (("worker-w",), 1)

    asked = ("worker-a", "worker-w", "worker-b", "worker-c")
    error = outcome(after_run(task(asked=asked), lacking)).error
    assert error is not None
    assert error.type == "WrongArguments"
    assert error.message.startswith("m:f takes no argument `x`. Workers asked: worker-a, worker-w, worker-b, worker-c.")


def test_a_chunk_is_tried_again_as_a_whole_while_an_item_may_be() -> None:
    final = Raised(ErrorInfo("BadPayload"), is_final=True, lineage=())
    ran = ChunkRan((ItemRun(msgspec.Raw(b"1")), ItemRun(raised=final), ItemRun(raised=FAILED)))

    assert again(after_run(task(RunOptions(max_attempts=2, backoff=3.0), chunk=True), ran)).seconds == 3.0
    found = outcome(after_run(task(RunOptions(max_attempts=2), chunk=True, attempt=2), ran))
    assert found.state is OutcomeState.DONE
    assert found.result is not None
    items = split_results(found.result, 3)
    assert [item.error.type if item.error else bytes(item.result) for item in items] == [
        b"1",
        "BadPayload",
        "ValueError",
    ]


def test_a_chunk_whose_failures_would_all_come_again_is_done_at_once() -> None:
    final = Raised(ErrorInfo("BadPayload"), is_final=True, lineage=())
    move = after_run(task(RunOptions(max_attempts=5), chunk=True), ChunkRan((ItemRun(raised=final),)))

    assert isinstance(move, Move)
    assert move.transition is TransitionName.COMPLETE


def test_what_cannot_be_read_fails() -> None:
    what = Delivered(NAME, b"garbage", 1)
    move = MOVES.refuse(what, BadPayload("it is garbage"))

    assert move.transition is TransitionName.COMPLETE
    error = outcome(move).error
    assert error is not None
    assert (error.type, error.message, error.traceback) == ("BadPayload", "it is garbage", "")
    assert line(what) == f"{NAME} failed, attempt 1 of 1: BadPayload: it is garbage"


def test_a_raw_task_is_answered_raw() -> None:
    raw = Delivered("task-0000000001", b"payload", 1)
    done, failed = after_run(raw, Returned()), after_run(raw, FAILED)

    assert isinstance(done, Move)
    assert isinstance(failed, Move)
    data = [each.data for move in (done, failed) for each in move.operations if isinstance(each, CreateNode)]
    assert data == [b"done", b"failed: ValueError"]
    assert line(raw) == "task-0000000001 failed after 0.01 s, attempt 1 of 1: ValueError: no"
