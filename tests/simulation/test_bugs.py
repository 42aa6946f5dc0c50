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
    "blind_resubmission": (5, "where it was in"),
    "bad_version_is_accepted": (20, "was accepted, and it was not"),
    "commit_without_guard": (5, "without taking its assignment"),
    "old_worker_id": (20, "names another session's worker"),
    "assigned_by_the_reply": (5, "not settled"),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_deliberate_bug_is_found(name: str) -> None:
    seeds, complaint = FOUND[name]
    with BUGS[name]():
        failures = [failure for seed in range(1, seeds + 1) if (failure := run_seed(seed).failure) is not None]
    assert failures, f"{name} was not found within {seeds} seeds"
    assert complaint in failures[0]
