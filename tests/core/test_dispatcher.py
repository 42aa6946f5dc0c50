from __future__ import annotations

import pytest

from herdmaster.core.decisions import Assign, DropAssignment, DropTask, Recover, RemoveInbox
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.picture import Listing
from herdmaster.core.roster import Kind, WorkerState
from herdmaster.core.whereabouts import Waiting
from tests.core.takeover import STATE, A, B, C, W, X, decide, tell_listings, told

# --- what has to be known --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", list(Listing))
def test_nothing_is_decided_while_a_picture_is_missing(missing: Listing) -> None:
    dispatcher = Dispatcher()
    for picture in Listing:
        if picture is not missing:
            dispatcher.complete(picture)
    dispatcher.add_task(A)
    dispatcher.add_inbox(W, 0.0)
    dispatcher.add_worker(W, 0.0)
    dispatcher.set_worker_state(W, STATE)

    assert decide(dispatcher) == []
    dispatcher.complete(missing)
    assert decide(dispatcher) == [Assign(A, W)]


def test_nothing_is_decided_after_an_interruption_until_every_listing_is_fresh() -> None:
    dispatcher = told(inboxes={W: ()}, alive=(W,))
    dispatcher.interrupt()
    dispatcher.add_task(A)
    for picture in (Listing.TASKS, Listing.ASSIGN, Listing.QUEUES):
        dispatcher.complete(picture)
        assert decide(dispatcher) == []
    dispatcher.complete(Listing.WORKERS)

    assert decide(dispatcher) == [Assign(A, W)]


def test_it_does_not_wake_up_for_anything_while_a_picture_is_missing() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: ()}, alive=(W,))
    decide(dispatcher)
    dispatcher.postpone(A, 1.0)
    assert dispatcher.next_wakeup() == 1.0
    dispatcher.interrupt()

    assert dispatcher.next_wakeup() is None


def test_no_worker_alive_keeps_the_backlog() -> None:
    dispatcher = told(tasks=(A, B))
    assert decide(dispatcher) == []
    dispatcher.add_inbox(W, 0.0)
    dispatcher.add_worker(W, 0.0)
    assert decide(dispatcher) == []
    dispatcher.set_worker_state(W, STATE)

    assert decide(dispatcher) == [Assign(A, W), Assign(B, W)]


def test_there_are_at_most_as_many_decisions_as_there_is_room() -> None:
    dispatcher = told(tasks=(A, B, C), inboxes={W: ()}, alive=(W,))

    assert decide(dispatcher, room=0) == []
    assert decide(dispatcher, room=2) == [Assign(A, W), Assign(B, W)]
    assert decide(dispatcher, room=2) == [Assign(C, W)]


# --- replies and events ----------------------------------------------------------------------------------------------


def test_a_reply_handled_before_its_events_moves_no_task() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: ()}, alive=(W,))
    decide(dispatcher)
    dispatcher.finish(A)
    assert dispatcher.where_is(A) == Waiting(A)
    dispatcher.remove_task(A)
    dispatcher.add_assignment(W, A)

    assert decide(dispatcher) == []
    worker = dispatcher._roster.get(W)
    assert worker is not None
    assert (worker.load, worker.inbox) == (1, {A})


def test_events_handled_before_the_reply_end_no_in_flight_mark() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: ()}, alive=(W,))
    decide(dispatcher)
    dispatcher.remove_task(A)
    dispatcher.add_assignment(W, A)
    dispatcher.remove_assignment(W, A)
    dispatcher.add_task(A)  # the worker handed it back
    assert decide(dispatcher) == []
    dispatcher.finish(A)

    assert decide(dispatcher) == [Assign(A, W)]


def test_a_name_that_leaves_and_comes_back_between_listings_is_assigned_again() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: ()}, alive=(W,))
    decide(dispatcher)
    dispatcher.interrupt()
    dispatcher.postpone(A, 0.0)  # its outcome is unknown
    # It was assigned, and handed back, while the connection was away.
    tell_listings(dispatcher, tasks=(A,), inboxes={W: ()}, alive=(W,))

    assert decide(dispatcher) == [Assign(A, W)]


def test_a_lost_reply_is_no_reason_to_assign_what_a_listing_shows_in_an_inbox() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: ()}, alive=(W,))
    decide(dispatcher)
    dispatcher.interrupt()
    dispatcher.postpone(A, 0.0)
    tell_listings(dispatcher, tasks=(), inboxes={W: (A,)}, alive=(W,))

    assert decide(dispatcher) == []
    assert dispatcher._backlog._held == {}


def test_what_is_on_its_way_counts_as_load() -> None:
    dispatcher = told(tasks=tuple(f"task-{number}" for number in range(6)), inboxes={W: ()}, alive=(W,))
    first = decide(dispatcher)
    assert len(first) == STATE.slots
    assert decide(dispatcher) == []
    dispatcher.finish("task-0")  # refused: it is on offer again, and there is room for it again

    assert decide(dispatcher) == [Assign("task-0", W)]


def test_what_is_postponed_waits_and_is_then_decided_again() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: ()}, alive=(W,))
    decide(dispatcher)
    dispatcher.postpone(A, 10.0)

    assert dispatcher.next_wakeup() == 10.0
    assert decide(dispatcher, 9.9) == []
    assert decide(dispatcher, 10.0) == [Assign(A, W)]
    assert dispatcher.next_wakeup() is None


def test_what_is_refuted_and_gone_from_the_picture_is_over() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: ()}, alive=(W,))
    decide(dispatcher)
    dispatcher.remove_task(A)
    dispatcher.refute(A, 30.0)

    assert dispatcher.next_wakeup() is None
    dispatcher.add_task(A)
    assert decide(dispatcher) == [Assign(A, W)]


def test_what_is_refuted_but_still_in_the_picture_is_not_decided_again_and_again() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: (), X: (B,)}, alive=(W,))
    assert set(decide(dispatcher)) == {Assign(A, W), Recover(B, X)}
    dispatcher.refute(A, 30.0)
    dispatcher.refute(B, 30.0)

    assert decide(dispatcher, 29.0) == []
    assert len(decide(dispatcher, 30.0)) == 2


def test_what_is_refuted_before_fresh_listings_is_for_them_to_decide() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: ()}, alive=(W,))
    decide(dispatcher)
    dispatcher.interrupt()
    dispatcher.refute(A, 30.0)
    tell_listings(dispatcher, tasks=(A,), inboxes={W: ()}, alive=(W,))

    assert decide(dispatcher) == [Assign(A, W)]


# --- copies ----------------------------------------------------------------------------------------------------------


def test_a_task_in_tasks_and_with_a_live_worker_is_dropped_from_tasks() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: (A,)}, alive=(W,))
    assert decide(dispatcher) == [DropTask(A, W)]
    dispatcher.remove_task(A)
    dispatcher.finish(A)

    assert decide(dispatcher) == []


def test_a_task_in_tasks_that_has_a_status_is_dropped() -> None:
    dispatcher = told(tasks=(A, B), inboxes={W: ()}, alive=(W,), statuses=(A,))

    assert decide(dispatcher) == [DropTask(A, None), Assign(B, W)]


def test_a_duplicate_that_could_not_be_dropped_stays_one() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: (), X: (A,)}, alive=(W, X))
    assert decide(dispatcher) == [DropTask(A, X)]
    dispatcher.postpone(A, 1.0)

    assert decide(dispatcher, 1.0) == [DropTask(A, X)]


def test_a_duplicate_whose_other_copy_went_is_on_offer_again() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: (), X: (A,)}, alive=(W, X))
    assert decide(dispatcher) == [DropTask(A, X)]
    dispatcher.remove_assignment(X, A)
    dispatcher.finish(A)

    assert decide(dispatcher) == [Assign(A, W)]


def test_a_task_that_comes_back_from_one_worker_while_another_holds_it_is_dropped() -> None:
    dispatcher = told(inboxes={W: (A,), X: (A,)}, alive=(W, X))
    dispatcher.remove_assignment(X, A)
    dispatcher.add_task(A)

    assert decide(dispatcher) == [DropTask(A, W)]


def test_a_duplicate_in_flight_is_not_decided_twice() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: ()}, alive=(W,))
    assert decide(dispatcher) == [Assign(A, W)]
    dispatcher.add_statuses((A,))
    assert decide(dispatcher) == []
    dispatcher.finish(A)

    assert decide(dispatcher) == [DropTask(A, None)]


# --- workers that are gone -------------------------------------------------------------------------------------------


def test_the_tasks_of_a_lost_worker_are_recovered_and_then_its_inbox_goes() -> None:
    dispatcher = told(inboxes={W: (A, B)}, alive=(W,))
    dispatcher.remove_worker(W, 5.0)
    assert decide(dispatcher, 5.0) == [Recover(A, W), Recover(B, W)]
    for name in (A, B):
        dispatcher.remove_assignment(W, name)
        dispatcher.add_task(name)
        dispatcher.finish(name)
    assert decide(dispatcher, 5.0) == [RemoveInbox(W)]
    dispatcher.remove_inbox(W)
    dispatcher.finish(W)

    assert list(dispatcher._roster) == []
    assert decide(dispatcher, 5.0) == []


def test_what_a_lost_worker_held_and_is_in_tasks_is_dropped_from_its_inbox_and_not_assigned_meanwhile() -> None:
    dispatcher = told(tasks=(A,), inboxes={W: (A,), X: ()}, alive=(X,))
    assert decide(dispatcher) == [DropAssignment(A, W)]
    dispatcher.remove_assignment(W, A)
    dispatcher.finish(A)

    assert set(decide(dispatcher)) == {RemoveInbox(W), Assign(A, X)}


def test_two_lost_workers_with_one_task_are_cleared_one_after_the_other() -> None:
    dispatcher = told(inboxes={W: (A,), X: (A,)})
    assert decide(dispatcher) == [Recover(A, W)]
    dispatcher.remove_assignment(W, A)
    dispatcher.add_task(A)
    dispatcher.finish(A)

    assert set(decide(dispatcher)) == {RemoveInbox(W), DropAssignment(A, X)}


def test_recovery_comes_before_new_assignments() -> None:
    dispatcher = told(tasks=(B,), inboxes={W: (A,), X: ()}, alive=(X,))

    assert decide(dispatcher, room=1) == [Recover(A, W)]


def test_an_empty_inbox_without_a_worker_goes_only_after_the_longest_session_timeout() -> None:
    dispatcher = told()
    dispatcher.add_inbox(W, 10.0)  # a reference worker makes it first, and registers then

    assert decide(dispatcher, 69.9) == []
    assert dispatcher.next_wakeup() == 70.0
    assert decide(dispatcher, 70.0) == [RemoveInbox(W)]
    assert dispatcher.next_wakeup() is None


def test_an_inbox_whose_worker_registers_in_time_stays() -> None:
    dispatcher = told()
    dispatcher.add_inbox(W, 10.0)
    decide(dispatcher, 10.0)
    dispatcher.add_worker(W, 11.0)

    assert dispatcher.next_wakeup() is None
    assert decide(dispatcher, 1000.0) == []


def test_what_is_found_at_an_inbox_in_the_way_postpones_its_end() -> None:
    dispatcher = told()
    dispatcher.add_inbox(W, 0.0)
    assert decide(dispatcher, 60.0) == [RemoveInbox(W)]
    dispatcher.postpone(W, 90.0)

    assert dispatcher.next_wakeup() == 90.0
    assert decide(dispatcher, 90.0) == [RemoveInbox(W)]


# --- names -----------------------------------------------------------------------------------------------------------


def test_names_that_are_not_ours_are_told_once_and_left_alone() -> None:
    dispatcher = told(tasks=("x", A), inboxes={"inbox": ("y",), W: ("z",)}, alive=("bob", W))
    dispatcher.add_task("task-")
    dispatcher.add_worker("eve", 0.0)

    assert decide(dispatcher) == [Assign(A, W)]
    assert dispatcher.take_foreign_names() == {"x", "inbox", "z", "bob", "task-", "eve"}
    assert dispatcher.take_foreign_names() == set()


def test_a_queue_that_is_not_served_is_named_once_there_is_a_worker() -> None:
    dispatcher = told(tasks=("task-01arz3ndektsv4rrffq69g5fav.mail",))
    assert dispatcher.unserved_queues() == {}
    dispatcher.add_inbox(W, 0.0)
    dispatcher.add_worker(W, 0.0)
    dispatcher.set_worker_state(W, STATE)

    assert dispatcher.unserved_queues() == {"mail": Kind.RAW}


def test_a_queue_whose_workers_have_no_functions_is_told_from_one_without_workers() -> None:
    dispatcher = told(tasks=("task-01arz3ndektsv4rrffq69g5fav.default",))
    dispatcher.add_inbox(W, 0.0)
    dispatcher.add_worker(W, 0.0)
    dispatcher.set_worker_state(W, WorkerState(1, frozenset({"default"}), calls=False))

    assert dispatcher.unserved_queues() == {"default": Kind.CALL}


def test_a_step_waits_for_a_worker_that_knows_flows() -> None:
    step = "task-01arz3ndektsv4rrffq69g5fav.default.f"
    dispatcher = told(tasks=(step,), inboxes={W: ()}, alive=(W,))
    assert decide(dispatcher) == []
    assert dispatcher.unserved_queues() == {"default": Kind.STEP}
    dispatcher.add_inbox(X, 0.0)
    dispatcher.add_worker(X, 0.0)
    dispatcher.set_worker_state(X, WorkerState(1, frozenset({"default"}), flows=True))

    assert decide(dispatcher) == [Assign(step, X)]
