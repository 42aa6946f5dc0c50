"""An assignment under way that goes to another worker is counted right, for workers and limits, however it ends."""

from __future__ import annotations

import pytest

from herdmaster.core.decisions import Assign
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.names import call_name
from herdmaster.core.queues import QueueSettings
from herdmaster.core.roster import WorkerState
from tests.core.takeover import W, X, decide, told

FIRST, SECOND = (call_name(f"0{number:025d}") for number in (1, 2))
ONE_SLOT = WorkerState(1, frozenset({"default"}))


@pytest.fixture
def dispatcher() -> Dispatcher:
    """Of two workers with one slot each, W is given FIRST, and lacked its function before: so it goes to X."""
    dispatcher = told(inboxes={W: (), X: ()}, alive=(W, X))
    for worker in (W, X):
        dispatcher.set_worker_state(worker, ONE_SLOT)
    dispatcher.set_limits("default", QueueSettings(max_running=2), 0.0)
    dispatcher.add_task(FIRST)
    assert decide(dispatcher) == [Assign(FIRST, W)]
    assert dispatcher.redirect(FIRST, (W,)) == X
    return dispatcher


def loads(dispatcher: Dispatcher) -> dict[str, int]:
    return {worker.name: worker.load for worker in dispatcher._roster}


def running(dispatcher: Dispatcher) -> int:
    return dispatcher._throttle._running.get("default", 0)


def test_it_counts_for_the_worker_that_it_goes_to(dispatcher: Dispatcher) -> None:
    assert (loads(dispatcher), running(dispatcher)) == ({W: 0, X: 1}, 1)
    dispatcher.add_task(SECOND)

    assert decide(dispatcher) == [Assign(SECOND, W)]


@pytest.mark.parametrize("end", ["finish", "refute", "postpone"])
def test_a_redirected_assignment_that_fails_leaves_no_load_behind(dispatcher: Dispatcher, end: str) -> None:
    """The worker that it was redirected to was lost, say, or another role moved the task."""
    match end:
        case "finish":
            dispatcher.finish(FIRST)
        case "refute":
            dispatcher.refute(FIRST, 5.0)
        case _:
            dispatcher.postpone(FIRST, 5.0)

    assert (loads(dispatcher), running(dispatcher)) == ({W: 0, X: 0}, 0)
    dispatcher.add_task(SECOND)
    decided = {decision.task for decision in decide(dispatcher, 5.0) if isinstance(decision, Assign)}
    assert decided == {FIRST, SECOND}, "both slots are free again"


@pytest.mark.parametrize("reply_first", [True, False])
def test_a_redirected_assignment_that_is_committed_counts_once(dispatcher: Dispatcher, reply_first: bool) -> None:
    if reply_first:
        dispatcher.finish(FIRST)
    dispatcher.remove_task(FIRST)
    dispatcher.add_assignment(X, FIRST)
    if not reply_first:
        dispatcher.finish(FIRST)

    assert (loads(dispatcher), running(dispatcher)) == ({W: 0, X: 1}, 1)
    dispatcher.remove_assignment(X, FIRST)
    assert (loads(dispatcher), running(dispatcher)) == ({W: 0, X: 0}, 0)


def test_a_listing_that_comes_before_the_reply_keeps_what_is_under_way(dispatcher: Dispatcher) -> None:
    dispatcher.replace_assignments(X, (), 0.0)
    assert loads(dispatcher) == {W: 0, X: 1}
    dispatcher.finish(FIRST)

    assert loads(dispatcher) == {W: 0, X: 0}


def test_it_is_postponed_while_those_that_were_not_asked_have_no_room(dispatcher: Dispatcher) -> None:
    dispatcher.add_task(SECOND)
    assert decide(dispatcher) == [Assign(SECOND, W)]
    assert dispatcher.redirect(SECOND, (W,)) is None
    dispatcher.postpone(SECOND, 1.0)
    assert loads(dispatcher) == {W: 0, X: 1}

    assert decide(dispatcher, 1.0) == [Assign(SECOND, W)]
