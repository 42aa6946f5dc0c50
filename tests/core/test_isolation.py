"""Suspects that run alone: each has a worker to itself, and no other task waits for one for ever."""

from __future__ import annotations

import pytest

from herdmaster.core.decisions import Assign, DropTask
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.isolation import FIRST_PATIENCE
from herdmaster.core.names import call_name
from tests.core.takeover import W, X, decide, told

SUSPECT, SECOND, OTHER, LONG = (call_name(f"0{number:025d}") for number in range(1, 5))
Y, Z = "worker-y", "worker-z"


def find_suspect(dispatcher: Dispatcher, *tasks: str) -> None:
    """Each is about to be assigned when its payload says what it is."""
    for task in tasks:
        dispatcher.add_task(task)
    for decision in decide(dispatcher):
        assert isinstance(decision, Assign)
        assert not dispatcher.isolate(decision.task, ())
        dispatcher.finish(decision.task)


def carry_out(dispatcher: Dispatcher, decision: object) -> None:
    assert isinstance(decision, Assign)
    dispatcher.remove_task(decision.task)
    dispatcher.add_assignment(decision.worker, decision.task)
    dispatcher.finish(decision.task)


def test_a_suspect_gets_an_idle_worker_that_gets_nothing_else_until_the_suspect_has_left() -> None:
    dispatcher = told(inboxes={W: (LONG,), X: ()}, alive=(W, X))
    find_suspect(dispatcher, SUSPECT)
    (decision,) = decide(dispatcher)
    assert decision == Assign(SUSPECT, X)
    assert dispatcher.isolate(SUSPECT, ())
    carry_out(dispatcher, decision)

    for task in (OTHER, SECOND):
        dispatcher.add_task(task)
    assert {decision.worker for decision in decide(dispatcher) if isinstance(decision, Assign)} == {W}
    dispatcher.remove_assignment(X, SUSPECT)
    dispatcher.add_task("task-later")
    assert decide(dispatcher) == [Assign("task-later", X)]


@pytest.mark.parametrize("is_listed", [False, True])
def test_a_suspect_that_comes_back_from_its_worker_is_given_to_one_worker(is_listed: bool) -> None:
    dispatcher = told(inboxes={W: (), X: (), Y: ()}, alive=(W, X, Y))
    find_suspect(dispatcher, SUSPECT)
    (decision,) = decide(dispatcher)
    assert isinstance(decision, Assign)
    carry_out(dispatcher, decision)
    dispatcher.remove_assignment(decision.worker, SUSPECT)
    if is_listed:
        dispatcher.replace_tasks((SUSPECT,))
    else:
        dispatcher.add_task(SUSPECT)

    assert [each.task for each in decide(dispatcher) if isinstance(each, Assign)] == [SUSPECT]
    assert decide(dispatcher) == []


def test_several_suspects_take_at_most_half_of_the_workers_and_go_one_after_another() -> None:
    dispatcher = told(inboxes={W: (), X: (), Y: (), Z: ()}, alive=(W, X, Y, Z))
    find_suspect(dispatcher, SUSPECT, SECOND, OTHER)
    decisions = decide(dispatcher)
    assert [decision.task for decision in decisions if isinstance(decision, Assign)] == [SUSPECT, SECOND]
    for decision in decisions:
        carry_out(dispatcher, decision)
    assert decide(dispatcher) == []
    dispatcher.add_task("task-raw")
    (free,) = decide(dispatcher)
    assert isinstance(free, Assign)
    first = decisions[0]
    assert isinstance(first, Assign)
    dispatcher.remove_assignment(first.worker, SUSPECT)

    assert [decision.task for decision in decide(dispatcher) if isinstance(decision, Assign)] == [OTHER]


def test_a_worker_is_let_run_empty_where_none_is_idle() -> None:
    dispatcher = told(inboxes={W: (LONG,)}, alive=(W,))
    find_suspect(dispatcher, SUSPECT)
    dispatcher.add_task(OTHER)
    assert decide(dispatcher) == []  # it gets nothing else meanwhile
    dispatcher.remove_assignment(W, LONG)

    assert decide(dispatcher) == [Assign(SUSPECT, W)]


def test_a_worker_that_does_not_run_empty_gets_tasks_again_for_a_while() -> None:
    dispatcher = told(inboxes={W: (LONG,)}, alive=(W,))
    find_suspect(dispatcher, SUSPECT)
    dispatcher.add_task(OTHER)
    assert decide(dispatcher) == []
    assert dispatcher.next_wakeup() == FIRST_PATIENCE
    (decision,) = decide(dispatcher, FIRST_PATIENCE)
    assert decision == Assign(OTHER, W)
    carry_out(dispatcher, decision)
    assert dispatcher.next_wakeup() == 2 * FIRST_PATIENCE

    dispatcher.add_task("task-raw")
    assert decide(dispatcher, 2 * FIRST_PATIENCE) == []  # it is let run empty once more, for twice the time
    assert dispatcher.next_wakeup() == 4 * FIRST_PATIENCE


def test_a_suspect_that_waits_for_a_worker_to_run_empty_takes_an_idle_one_that_joins() -> None:
    dispatcher = told(inboxes={W: (LONG,)}, alive=(W,))
    find_suspect(dispatcher, SUSPECT)
    assert decide(dispatcher) == []
    dispatcher.add_inbox(X, 0.0)
    dispatcher.add_worker(X, 0.0)
    worker = dispatcher._roster.get(W)
    assert worker is not None
    dispatcher.set_worker_state(X, worker.state)
    assert decide(dispatcher) == [Assign(SUSPECT, X)]

    dispatcher.add_task(OTHER)
    assert decide(dispatcher) == [Assign(OTHER, W)]


def test_what_held_for_a_suspect_that_was_cancelled_or_lost_its_worker_ends() -> None:
    dispatcher = told(inboxes={W: (LONG,)}, alive=(W,))
    find_suspect(dispatcher, SUSPECT)
    assert decide(dispatcher) == []
    dispatcher.remove_task(SUSPECT)
    dispatcher.add_task(OTHER)
    assert decide(dispatcher) == [Assign(OTHER, W)]
    assert dispatcher.next_wakeup() is None
    assert SUSPECT not in dispatcher._backlog._held


def test_a_suspect_whose_assignment_failed_is_decided_again() -> None:
    dispatcher = told(inboxes={W: ()}, alive=(W,))
    find_suspect(dispatcher, SUSPECT)
    assert decide(dispatcher) == [Assign(SUSPECT, W)]
    dispatcher.postpone(SUSPECT, 1.0)
    assert decide(dispatcher) == []

    assert decide(dispatcher, 1.0) == [Assign(SUSPECT, W)]


def test_a_suspect_that_comes_back_is_assigned_once() -> None:
    dispatcher = told(inboxes={W: (), X: ()}, alive=(W, X))
    find_suspect(dispatcher, SUSPECT)
    (decision,) = decide(dispatcher)
    assert isinstance(decision, Assign)
    assert dispatcher.isolate(SUSPECT, ())
    carry_out(dispatcher, decision)
    dispatcher.remove_assignment(decision.worker, SUSPECT)
    dispatcher.add_task(SUSPECT)

    assert decide(dispatcher) == [Assign(SUSPECT, decision.worker)]


def test_a_suspect_that_is_put_back_although_its_worker_has_it_is_dropped() -> None:
    dispatcher = told(inboxes={W: ()}, alive=(W,))
    find_suspect(dispatcher, SUSPECT)
    (decision,) = decide(dispatcher)
    assert dispatcher.isolate(SUSPECT, ())
    carry_out(dispatcher, decision)
    dispatcher.add_task(SUSPECT)  # by another master, at any time
    assert decide(dispatcher) == [DropTask(SUSPECT, W)]

    dispatcher.remove_task(SUSPECT)
    dispatcher.finish(SUSPECT)
    dispatcher.add_task(OTHER)
    assert decide(dispatcher) == []


def test_a_suspect_goes_to_a_worker_that_was_not_asked_for_its_function_before() -> None:
    dispatcher = told(inboxes={W: (), X: ()}, alive=(W, X))
    dispatcher.add_task(SUSPECT)
    decide(dispatcher)
    assert not dispatcher.isolate(SUSPECT, (W,))
    dispatcher.finish(SUSPECT)

    assert decide(dispatcher) == [Assign(SUSPECT, X)]


def test_a_suspect_that_waits_is_not_assigned_beside_other_tasks_meanwhile() -> None:
    dispatcher = told(inboxes={W: (LONG,), X: (call_name("01jd0000000000000000000009"),)}, alive=(W, X))
    find_suspect(dispatcher, SUSPECT)
    assert decide(dispatcher) == []  # one worker is let run empty, and the other one is busy
    dispatcher.add_task(OTHER)

    assert [decision.task for decision in decide(dispatcher) if isinstance(decision, Assign)] == [OTHER]


def test_a_worker_that_got_another_task_before_its_suspect_is_kept_free_for_a_limited_time_only() -> None:
    dispatcher = told(inboxes={W: ()}, alive=(W,))
    find_suspect(dispatcher, SUSPECT)
    assert decide(dispatcher) == [Assign(SUSPECT, W)]
    dispatcher.postpone(SUSPECT, 1.0)
    dispatcher.add_assignment(W, LONG)  # by another master
    assert decide(dispatcher, 1.0) == []
    dispatcher.add_task(OTHER)

    assert dispatcher.next_wakeup() == 1.0 + FIRST_PATIENCE
    assert decide(dispatcher, 1.0 + FIRST_PATIENCE) == [Assign(OTHER, W)]
