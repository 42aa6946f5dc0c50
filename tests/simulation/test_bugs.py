"""The simulation can fail: deliberate bugs are found within so many seeds, and for the right reason."""

from __future__ import annotations

import pytest

from herdmaster.simulation.runner import run_seed
from tests.simulation.bugs import BUGS

# The seeds that it takes at most, from the first on, and what the complaint says.
FOUND = {
    "two_request_moves": (5, "where it was in"),
    "leadership_by_data": (20, "although its session does not own /master"),
    "no_listing_after_reconnect": (5, "not settled"),
    "listing_as_difference": (40, "not settled"),
    "blind_resubmission": (5, "where it was in"),
    "bad_version_is_accepted": (20, "was accepted, and it was not"),
    "commit_without_guard": (5, "without taking its assignment"),
    "old_worker_id": (20, "names another session's worker"),
    "acting_while_disconnected": (50, "which is not in its inbox"),
    "assigned_by_the_reply": (5, "not settled"),
    "one_attempt_too_many": (10, "for attempt"),
    "due_by_the_machines_clock": (10, "due at"),
    "key_not_taken": (10, "without taking its key"),
    "cancelled_where_it_is": (20, "where it was in"),
    "cancelled_for_all_one_knows": (20, "cancelled was False"),
    "limits_ignored": (40, "of its queue"),
}


def first_failure(name: str, start: int, seeds: int) -> str | None:
    with BUGS[name]():
        failures = (run_seed(seed).failure for seed in range(start, start + seeds))
        return next((failure for failure in failures if failure is not None), None)


def test_every_bug_is_to_be_found() -> None:
    assert FOUND.keys() == BUGS.keys()


@pytest.mark.long
@pytest.mark.parametrize("name", FOUND)
def test_a_deliberate_bug_is_found(name: str) -> None:
    seeds, complaint = FOUND[name]
    failure = first_failure(name, 1, seeds)
    assert failure is not None, f"{name} was not found within {seeds} seeds"
    assert complaint in failure


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", FOUND)
def test_it_is_found_among_other_seeds_as_well(name: str) -> None:
    assert first_failure(name, 700_000, 400) is not None
