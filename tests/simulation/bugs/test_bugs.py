"""The simulation can fail: it finds each planted bug within a number of seeds, for the right reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from herdmaster.simulation.plan.drawing import draw_plan
from herdmaster.simulation.plan.plan import Plan
from herdmaster.simulation.world.world import World
from tests.simulation.bugs import (
    answers,
    bookkeeping,
    children,
    chunks,
    flows,
    herds,
    history,
    keys,
    lag,
    links,
    lost_steps,
    once,
    protocol,
    schedules,
    sweeps,
)

_MODULES = (
    protocol,
    answers,
    keys,
    bookkeeping,
    history,
    lag,
    schedules,
    herds,
    sweeps,
    once,
    links,
    flows,
    children,
    chunks,
    lost_steps,
)
BUGS = {name: bug for module in _MODULES for name, bug in module.BUGS.items()}


class Find(NamedTuple):
    """The most seeds that it takes to find a bug, and what the failure says. `first` is the first seed to run, where
    the seeds before it are known to find nothing. `otherwise` is what the failure says with other seeds, of which there
    are 400, from `others` on."""

    seeds: int
    complaint: str
    first: int = 1
    otherwise: str | None = None
    others: int = 700_000
    plan: Callable[[int], Plan] = draw_plan


FOUND = {
    "two_request_moves": Find(5, "where it was in"),
    "leadership_by_data": Find(5, "not settled", first=259, otherwise="although its session does not own /master"),
    "no_listing_after_reconnect": Find(5, "not settled"),
    "listing_as_difference": Find(5, "not settled", first=158),
    "blind_resubmission": Find(5, "it was", first=16),
    "bad_version_is_accepted": Find(10, "was accepted, and it was not", first=82),
    "commit_without_guard": Find(5, "without taking its assignment"),
    "old_worker_id": Find(20, "names another session's worker"),
    "acting_while_disconnected": Find(10, "which is not in its inbox", first=62),
    "assigned_by_the_reply": Find(5, "not settled"),
    "one_attempt_too_many": Find(10, "for attempt"),
    "due_by_the_machines_clock": Find(10, " due", first=3, otherwise=" ms early"),
    "key_not_taken": Find(10, "without taking its key"),
    "cancelled_where_it_is": Find(20, "where it was in", first=33),
    "cancelled_without_looking": Find(10, "cancelled was False"),
    "limits_ignored": Find(5, "of its queue", first=11, otherwise="its queue is paused"),
    "code_never_runs": Find(5, "its code never ran"),
    "everything_fails": Find(5, "for which there was no reason"),
    "code_runs_twice": Find(5, "which was given it 1 times"),
    "another_result": Find(5, "another result than its code gave"),
    "callers_are_not_told": Find(10, "was not told what became of it"),
    "dies_in_a_worker": Find(5, "died unheard"),
    "dies_in_a_master": Find(5, "died unheard"),
    "key_kept_by_failures": Find(20, "and left it its key"),
    "key_kept_by_the_primary": Find(5, "and left it its key", first=16),
    "key_freed_by_success": Find(5, "holds until its outcome goes"),
    "key_of_another_freed": Find(5, "holds, and that has not ended", first=70),
    "key_released_without_its_hold": Find(5, "holds, and that has not ended", first=14),
    "any_holder_is_told": Find(5, "and it never had", first=65),
    "key_not_replayed": Find(5, "which has not got its key", first=1006),
    "hold_left_by_replay": Find(5, " is left, and ", first=1030),
    "outcome_swept_without_its_key": Find(5, "and left it its key", first=1017),
    "due_too_early": Find(5, " due at ", first=4),
    "suspects_beside_others": Find(5, "which killed the worker, after", first=37),
    "expired_by_the_machines_clock": Find(5, "ms early", first=20),
    "retries_expire": Find(5, "expire after", first=52),
    "new_primary_starts_at_once": Find(5, "of its queue within", first=197),
    "one_of_two_is_told_of_the_end": Find(5, "is waiting", first=4),
    "every_request_has_cancelled": Find(5, "that cancelled is True", first=83),
    "rate_ignored": Find(5, "of its queue within", first=11),
    "goes_on_in_what_it_gave_up": Find(20, "asks for Sync"),
    "refused_assignment_stays_counted": Find(5, "still counts the assignment", first=9),
    "new_limit_counts_from_zero": Find(5, "of its queue", first=50),
    "batch_under_another_name": Find(10, "in the history as done, and has done", first=29),
    "done_is_not_counted": Find(5, "in the history"),
    "journal_read_without_sync": Find(5, "where it was in", first=67, otherwise="was not accepted, and it was"),
    "folders_looked_for_without_sync": Find(5, "raised NoNode", first=26),
    "inbox_listed_without_sync": Find(5, "which is not in its inbox", first=10, plan=lag.with_lost_replies),
    "flag_cleared_after_the_calls": Find(5, "and the thread sleeps", first=2043),
    "thread_woken_before_the_call": Find(5, "and the thread sleeps", first=2010),
    "close_waits_for_the_farewell": Find(5, "and the I/O thread does not end", first=2383, others=700_600),
    "futures_left_at_the_end": Find(5, "callers were not told", first=2010),
    "submissions_left_at_the_end": Find(5, "callers were not told", first=2010),
    "early_cancel_forgotten": Find(5, "is waiting", first=2022, otherwise="callers were not told"),
    "cancelled_futures_fail": Find(5, "of the future of", first=2010),
    "outcomes_swept_early": Find(5, "and it is kept for", first=2020),
    "journals_swept_at_once": Find(5, "and it is kept for", first=2000),
    "read_outcomes_swept_at_once": Find(5, "and it is kept for", first=2000),
    "merging_forgets_a_batch": Find(5, "merged batches", first=2004),
    "young_batches_are_merged": Find(5, "and it is kept for 120", first=2004),
    "keys_of_unseen_tasks_swept": Find(5, "holds until its outcome goes", first=2028, otherwise="that has not ended"),
    "closes_the_session_of_another": Find(5, "attached to session", first=5),
    "ticks_too_early": Find(10, " ms early", first=1017, otherwise="second time"),
    "tick_left_behind": Find(10, "to /tasks/", first=1017, otherwise="ticks of"),
    "time_given_twice": Find(10, " times", first=1017),
    "skips_forgotten": Find(20, "and skipped 0 for", first=1003),
    "code_goes_on_before_the_save": Find(5, "whose assignment has nothing", first=4000, otherwise="before"),
    "retries_forget_results": Find(5, "orders again for", first=4013),
    "overlap_ignored": Find(20, ", which has not ended", first=1017),
    "all_means_latest": Find(20, "as missed, which it does not want", first=1111),
    "replies_of_any_connection": Find(5, "to no request", first=5209, otherwise="raised WireError"),
    "requests_of_any_connection": Find(5, "which the session has left", first=5112),
    "marked_steps_wait_for_no_one": Find(5, "not all that it needs is there", first=6009),
    "ended_with_steps_that_can_start": Find(5, "of its steps failed", first=6007, otherwise=" has not run"),
    "edge_taken_for_the_end": Find(5, "lost task-", first=6042, otherwise="not settled"),
    "opened_again_with_its_cancel": Find(5, "left the request to cancel it", first=6007),
    "completed_and_still_running": Find(5, "in results/0, running/", first=6007, otherwise=", running/"),
    "followers_forgotten": Find(5, "of its steps failed", first=6007, otherwise=" has not run"),
    "last_item_not_made": Find(5, " is right", first=6007),
    "items_in_another_order": Find(5, " is right", first=6007),
    "added_steps_forgotten": Find(5, "did not add step", first=6007),
    "missing_parents_not_named": Find(5, "with BadOutcome, for which there was no reason", first=6008),
    "removed_without_a_word": Find(5, "in no place", first=6007, otherwise="deleted flow-"),
    "steps_given_to_old_workers": Find(5, "which does not know flows", first=6007),
    "large_flow_begun_too_early": Find(5, "without step ", first=6007),
    "retried_without_the_header": Find(5, "not all that it needs is there", first=5, plan=flows.with_early_retries),
    "timed_out_from_the_creation": Find(5, " ms early", plan=flows.with_retries_before_the_timeout),
    "outcome_left_by_removal": Find(5, "and left its outcome", first=8043),
    "cancelled_flows_go_on": Find(5, "whose tasks it cancels", first=8068),
    "children_of_cancelled_tasks_stay": Find(5, "and did not ask to cancel its child", first=9009),
    "children_of_an_old_payload": Find(5, "and did not ask to cancel its child", first=9020),
    "children_of_timed_out_tasks_stay": Find(5, "and did not ask to cancel its child", first=9009),
    "children_submitted_without_their_parent": Find(5, "is not assigned", first=9000),
    "requests_for_flows_are_dropped": Find(5, "dropped the request to cancel", first=10_035),
    "child_flows_begin_without_their_parent": Find(5, "is not assigned", first=10_232),
    "children_of_steps_stay": Find(5, "and did not ask to cancel its child", first=10_150),
    "results_of_chunks_in_another_order": Find(1, " is right", first=10_000),
    "failing_elements_are_left_out": Find(1, "and its code has run for", first=10_000),
    "positions_count_from_the_chunk": Find(1, "and its code has run so", first=10_000),
    "chunks_made_again": Find(1, "not settled", first=10_608, otherwise="left step ", others=10_500),
    "lists_not_made_flat": Find(1, "is right", first=11_010),
    "elements_by_codec_in_another_order": Find(1, "is right", first=11_020),
    "lost_steps_run_for_ever": Find(1, "has not ended", first=10_053),
    "deleted_steps_are_run": Find(1, "which is not in its inbox", first=2, plan=lost_steps.with_long_steps),
    "lost_steps_forget_their_run": Find(
        1, "which was its task before", first=10_880, otherwise="which is not in its inbox", others=11_600
    ),
    "reading_outlives_its_connection": Find(5, " ms early", first=7153, otherwise=" ms before it is due"),
    "paused_without_its_tick": Find(20, "has a tick at", first=1028, otherwise="which is paused"),
}


def first_failure(name: str, first: int, seeds: int) -> str | None:
    plan = FOUND[name].plan
    with BUGS[name]():
        failures = (World(plan(seed)).run().failure for seed in range(first, first + seeds))
        return next((failure for failure in failures if failure is not None), None)


def test_every_planted_bug_is_listed() -> None:
    assert FOUND.keys() == BUGS.keys()


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", FOUND)
def test_a_planted_bug_is_found(name: str) -> None:
    find = FOUND[name]
    failure = first_failure(name, find.first, find.seeds)
    assert failure is not None, f"{name} was not found within {find.seeds} seeds from {find.first} on"
    assert find.complaint in failure


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", FOUND)
def test_a_planted_bug_is_found_with_other_seeds(name: str) -> None:
    failure = first_failure(name, FOUND[name].others, 400)
    assert failure is not None
    assert any(each in failure for each in (FOUND[name].complaint, FOUND[name].otherwise) if each is not None)
