"""Conditions in headers and limits of queues, as the dispatcher keeps them."""

from __future__ import annotations

import pytest

from herdmaster.core.decisions import Assign, ReadHeader, Recover, RefuseExpired, RemoveInbox
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.names import call_name
from herdmaster.core.queues import QueueSettings
from herdmaster.core.roster import WorkerState
from tests.core.takeover import A, B, C, W, X, decide, tell_listings, told

# --- conditions in headers -------------------------------------------------------------------------------------------

FIRST, SECOND = (call_name(f"0{number:025d}", conditional=True) for number in (1, 2))


def test_a_task_with_conditions_is_placed_once_its_header_was_read() -> None:
    dispatcher = told(tasks=(FIRST,), inboxes={W: ()}, alive=(W,))
    assert decide(dispatcher) == [ReadHeader(FIRST)]
    assert decide(dispatcher) == []
    dispatcher.set_expiry(FIRST, None)
    dispatcher.finish(FIRST)

    assert decide(dispatcher) == [Assign(FIRST, W)]


def test_tasks_with_conditions_keep_their_order() -> None:
    dispatcher = told(inboxes={W: ()}, alive=(W,))
    for name in (FIRST, SECOND):
        dispatcher.add_task(name)
    assert decide(dispatcher) == [ReadHeader(FIRST), ReadHeader(SECOND)]
    for name in (FIRST, SECOND):
        dispatcher.set_expiry(name, None)
        dispatcher.finish(name)

    assert decide(dispatcher) == [Assign(FIRST, W), Assign(SECOND, W)]


def test_a_waiting_task_expires_without_any_worker() -> None:
    dispatcher = told(tasks=(FIRST, SECOND))
    decide(dispatcher)
    dispatcher.set_expiry(FIRST, 5000)
    dispatcher.set_expiry(SECOND, None)
    for name in (FIRST, SECOND):
        dispatcher.finish(name)
    assert dispatcher.next_expiry_ms() == 5000
    assert dispatcher.decide(0.0, 10, None) == []  # the servers' time is not known
    assert dispatcher.decide(0.0, 10, 4999) == []

    assert dispatcher.decide(0.0, 10, 5000) == [RefuseExpired(FIRST)]
    assert dispatcher.decide(0.0, 10, 5000) == []


def test_an_expired_task_is_not_assigned_in_the_same_breath() -> None:
    dispatcher = told(tasks=(FIRST,), inboxes={W: ()}, alive=(W,))
    decide(dispatcher)
    dispatcher.set_expiry(FIRST, 5000)
    dispatcher.finish(FIRST)

    assert dispatcher.decide(0.0, 10, 6000) == [RefuseExpired(FIRST)]


def test_a_task_whose_assignment_failed_may_still_expire() -> None:
    dispatcher = told(tasks=(FIRST,), inboxes={W: ()}, alive=(W,))
    decide(dispatcher)
    dispatcher.set_expiry(FIRST, 5000)
    dispatcher.finish(FIRST)
    assert dispatcher.decide(0.0, 10, 4000) == [Assign(FIRST, W)]
    assert dispatcher.decide(0.0, 10, 6000) == []
    dispatcher.finish(FIRST)

    assert dispatcher.decide(0.0, 10, 6000) == [RefuseExpired(FIRST)]


def test_after_a_listing_headers_are_read_anew() -> None:
    """The name may have left and come back, with another attempt in its payload."""
    dispatcher = told(tasks=(FIRST,))
    decide(dispatcher)
    dispatcher.set_expiry(FIRST, 5000)
    dispatcher.finish(FIRST)
    dispatcher.interrupt()
    assert dispatcher.next_expiry_ms() is None
    tell_listings(dispatcher, tasks=(FIRST,), inboxes={}, alive=())

    assert dispatcher.decide(0.0, 10, 6000) == [ReadHeader(FIRST)]


def test_a_header_that_was_not_to_be_had_is_read_again_later() -> None:
    dispatcher = told(tasks=(FIRST,))
    assert decide(dispatcher) == [ReadHeader(FIRST)]
    dispatcher.postpone(FIRST, 30.0)
    assert decide(dispatcher, now=29.0) == []

    assert decide(dispatcher, now=30.0) == [ReadHeader(FIRST)]


# --- limits of queues ------------------------------------------------------------------------------------------------


def limit(dispatcher: Dispatcher, settings: QueueSettings | None, queue: str = "default") -> None:
    dispatcher.set_limits(queue, settings, -1.0)  # long enough ago for a rate


def test_a_paused_queue_waits_and_holds_up_no_other() -> None:
    mail = call_name(f"0{1:025d}", "mail")
    dispatcher = told(tasks=(A, mail), inboxes={W: ()}, alive=(W,))
    dispatcher.set_worker_state(W, WorkerState(4, frozenset({"default", "mail"})))
    limit(dispatcher, QueueSettings(paused=True))
    assert decide(dispatcher) == [Assign(mail, W)]
    assert dispatcher.next_wakeup() is None

    limit(dispatcher, None)
    assert decide(dispatcher) == [Assign(A, W)]


def test_what_is_in_inboxes_and_under_way_counts_over_all_workers_also_lost_ones() -> None:
    dispatcher = told(tasks=(A, B), inboxes={W: (C,), X: ()}, alive=(X,))
    limit(dispatcher, QueueSettings(max_running=2))
    assert decide(dispatcher) == [Recover(C, W), Assign(A, X)]
    assert decide(dispatcher) == []
    dispatcher.remove_assignment(W, C)
    assert decide(dispatcher) == [RemoveInbox(W), Assign(B, X)]

    dispatcher.add_task(C)
    dispatcher.finish(C)
    assert decide(dispatcher) == []


def test_an_assignment_that_failed_gives_its_place_back() -> None:
    dispatcher = told(tasks=(A, B), inboxes={W: ()}, alive=(W,))
    limit(dispatcher, QueueSettings(max_running=1))
    assert decide(dispatcher) == [Assign(A, W)]
    dispatcher.finish(A)

    assert len(decide(dispatcher)) == 1


def test_it_wakes_up_for_the_next_token_of_a_rate() -> None:
    dispatcher = told(tasks=(A, B), inboxes={W: ()}, alive=(W,))
    limit(dispatcher, QueueSettings(rate=2.0))
    assert decide(dispatcher) == [Assign(A, W)]
    assert dispatcher.next_wakeup() == pytest.approx(0.5)
    assert decide(dispatcher, now=0.49) == []

    assert decide(dispatcher, now=0.5) == [Assign(B, W)]


def test_a_rate_without_a_worker_wakes_no_worker() -> None:
    dispatcher = told(tasks=(A, B))
    limit(dispatcher, QueueSettings(rate=2.0))

    assert decide(dispatcher) == []
    assert dispatcher.next_wakeup() is None


def test_a_limit_that_is_set_while_tasks_run_counts_what_is_assigned_and_what_is_under_way() -> None:
    waiting = tuple(f"task-{number}" for number in range(5))
    dispatcher = told(tasks=(A, *waiting), inboxes={W: (B, C), X: ()}, alive=(W, X))
    (first,) = decide(dispatcher, room=1)
    assert isinstance(first, Assign)
    limit(dispatcher, QueueSettings(max_running=4))  # two are assigned, and one is under way
    assert len(decide(dispatcher)) == 1
    dispatcher.remove_task(first.task)
    dispatcher.add_assignment(first.worker, first.task)  # the event of what was counted already
    dispatcher.finish(first.task)
    assert decide(dispatcher) == []

    dispatcher.remove_assignment(W, B)
    assert len(decide(dispatcher)) == 1
    assert decide(dispatcher) == []


def test_a_limit_below_what_runs_lets_the_others_wait_until_enough_have_ended() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: (B, C), X: ()}, alive=(W, X))
    limit(dispatcher, QueueSettings(max_running=1))
    for ended in (B, C):
        assert decide(dispatcher) == []
        dispatcher.remove_assignment(W, ended)

    assert len(decide(dispatcher)) == 1


def test_a_limit_that_was_away_while_tasks_began_and_ended_counts_anew() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: (B,)}, alive=(W,))
    limit(dispatcher, QueueSettings(max_running=1))
    assert decide(dispatcher) == []
    limit(dispatcher, None)
    dispatcher.remove_assignment(W, B)
    dispatcher.add_assignment(W, C)
    limit(dispatcher, QueueSettings(max_running=2))

    assert decide(dispatcher) == [Assign(A, W)]
    dispatcher.add_task(B)
    assert decide(dispatcher) == []


def test_the_tasks_of_a_lost_worker_run_until_its_inbox_is_gone() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: (), X: (B,)}, alive=(W, X))
    limit(dispatcher, QueueSettings(max_running=1))
    dispatcher.remove_worker(X, 0.0)
    assert decide(dispatcher) == [Recover(B, X)]
    dispatcher.remove_inbox(X)  # another deleted it, with what was in it
    dispatcher.finish(B)

    assert decide(dispatcher) == [Assign(A, W)]


def test_listings_after_a_reconnect_give_no_tokens_of_a_rate_anew() -> None:
    dispatcher = told(tasks=(A, B), inboxes={W: ()}, alive=(W,))
    settings = QueueSettings(rate=2.0)
    limit(dispatcher, settings)
    assert decide(dispatcher) == [Assign(A, W)]
    dispatcher.interrupt()
    dispatcher.postpone(A, 0.0)
    dispatcher.replace_queues(["default"], 0.0)
    dispatcher.set_limits("default", settings, 0.0)
    tell_listings(dispatcher, tasks=(A, B), inboxes={W: ()}, alive=(W,))

    assert decide(dispatcher, now=0.49) == []
    assert len(decide(dispatcher, now=0.5)) == 1


def test_a_queue_that_a_listing_does_not_have_any_more_has_no_limits() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: ()}, alive=(W,))
    dispatcher.set_limits("default", QueueSettings(paused=True), 0.0)
    assert decide(dispatcher) == []
    dispatcher.replace_queues(("default",), 0.0)
    assert decide(dispatcher) == []
    dispatcher.replace_queues(("mail",), 0.0)

    assert decide(dispatcher) == [Assign(A, W)]
