"""Commands that act on many tasks: which they choose, what they ask, and what they print."""

from __future__ import annotations

import json

import pytest

from tests.cli.processes import HerdProcess, run_herd
from tests.cli.test_tasks import DEAD, PENDING, filled

__all__ = ["filled"]

pytestmark = pytest.mark.long


def test_dead_tasks_are_chosen_by_their_error_and_asked_about(filled: str) -> None:
    at = ("--zookeeper", filled)
    assert run_herd("dead", "purge", *at, "--error=ConnectionError", "--yes").stderr == "no dead tasks\n"
    result = run_herd("dead", "purge", *at, "--error=LookupError")
    assert result.returncode == 1
    assert "Delete 1 dead task for good?" in result.stderr
    assert "nothing was deleted of 1 dead task: confirm with --yes" in result.stderr
    result = run_herd("dead", "replay", *at, "--error=LookupError", "--call=add", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["task"] == DEAD


def test_a_queue_is_purged_and_nothing_else(filled: str) -> None:
    at = ("--zookeeper", filled)
    assert run_herd("queues", "purge", "mail", *at).returncode == 1
    result = run_herd("queues", "purge", "mail", "--yes", "--timeout=0.2s", *at)
    assert (result.returncode, result.stdout) == (
        1,
        f"{PENDING}: no primary has answered yet; the request stands\n",
    )
    with HerdProcess("master", filled) as master:
        master.wait_for_log("elected")
        result = run_herd("queues", "purge", "mail", "--yes", "--json", *at)
        for line in result.stdout.splitlines():  # none if the standing request was carried out before
            assert json.loads(line)["verdict"] in {"cancelled", "ended"}
    assert run_herd("tasks", "list", *at, "--state=cancelled", "--json").stdout.count(PENDING) == 1
    assert run_herd("dead", "list", *at).stdout.count(DEAD) == 1


def test_tasks_are_cancelled_by_a_filter_once_that_is_confirmed(filled: str) -> None:
    at = ("--zookeeper", filled)
    result = run_herd("tasks", "cancel", "--call=add", *at)
    assert result.returncode == 1
    assert "none of 1 task was cancelled: confirm with --yes" in result.stderr
    result = run_herd("tasks", "cancel", "--call=add", "--yes", "--timeout=0.2s", "--json", *at)
    assert json.loads(result.stdout) == {
        "task": PENDING,
        "verdict": "pending",
        "text": "no primary has answered yet; the request stands",
    }
