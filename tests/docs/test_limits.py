"""Limits, times and defaults that documents state are those of the code."""

from __future__ import annotations

import re
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
KIB = 1024

# document, what it says there, where the code has it, its value
STATED: list[tuple[str, str, str, object]] = [
    ("architecture.md", "lost with more than five workers is buried", "core.recovery:MAX_DELIVERIES", 5),
    ("architecture.md", "From its second loss on", "core.recovery:ALONE_AFTER", 2),
    ("architecture.md", "that it ended in a quarter of a second", "core.roster:PREFETCH_SECONDS", 0.25),
    ("architecture.md", "waits longer than two seconds", "roles.worker.worker:_LONG_WAIT_SECONDS", 2.0),
    ("architecture.md", "at most 128 KiB or 200 moves", "roles.shared.committer:MAX_BATCH_BYTES", 128 * KIB),
    ("architecture.md", "at most 128 KiB or 200 moves", "roles.shared.committer:MAX_BATCH_MOVES", 200),
    ("architecture.md", "Once a minute a primary compares", "roles.primary.recount:RECOUNT_SECONDS", 60.0),
    ("architecture.md", "repeats the transaction a second later", "roles.primary.part:TRY_LATER_SECONDS", 1.0),
    ("architecture.md", "repeats the transaction a second later", "roles.worker.commits:_TRY_LATER_SECONDS", 1.0),
    ("chaos.md", "stays for a minute (`ORPHAN_INBOX_SECONDS`)", "core.dispatcher:ORPHAN_INBOX_SECONDS", 60.0),
    ("reference.md", "a payload above 512 KiB", "core.payload:MAX_PAYLOAD", 512 * KIB),
    ("reference.md", "above 536 KiB (548,864 bytes)", "core.recovery:MAX_MOVABLE", 548_864),
    ("reference.md", "gets at most 60 assignments at a time", "core.roster:REFERENCE_WINDOW", 60),
    ("guides/dead.md", "no new task for 30 s", "core.isolation:FIRST_PATIENCE", 30.0),
    ("guides/deploying.md", "stay for a day", "roles.primary.sweeper:Ages.outcome", 24 * 3600.0),
    ("guides/deploying.md", "dead tasks for 30 days", "roles.primary.sweeper:Ages.dead", 30 * 24 * 3600.0),
    (
        "chaos.md",
        "The journal of a client that was killed stays for a day",
        "roles.primary.sweeper:Ages.journal",
        86400.0,
    ),
    ("guides/deploying.md", "at most 16 MiB and 24 hours", "roles.primary.sweeper:Ages.history", 24 * 3600.0),
    ("guides/deploying.md", "at most 16 MiB and 24 hours", "roles.primary.sweeper:Ages.history_size", 16 * KIB * KIB),
    ("guides/deploying.md", "`--session-timeout` (10 s)", "roles.primary.master:MasterSettings.session_timeout", 10.0),
    ("guides/deploying.md", "`--session-timeout` (10 s)", "roles.worker.worker:WorkerSettings.session_timeout", 10.0),
    ("guides/schedules.md", "the next 5,000", "core.timetable:MAX_TIMES", 5000),
    ("guides/schedules.md", "after 1,000 in a row", "core.schedule_decisions:MAX_BEHIND", 1000),
    ("guides/running.md", "which is 25 seconds by default", "roles.worker.worker:WorkerSettings.drain_timeout", 25.0),
    ("guides/running.md", "at most 50 lines a second", "roles.shared.line_limit:MOST_LINES", 50),
    ("guides/running.md", "at most 50 lines a second", "roles.shared.line_limit:_WINDOW_SECONDS", 1.0),
    (
        "guides/flows-in-detail.md",
        "one step takes: 64 MiB together",
        "roles.worker.references:MAX_INPUTS",
        64 * KIB * KIB,
    ),
    ("guides/flows-in-detail.md", "one `each` in a file: 4 GiB", "running.spool:MAX_SPOOL", 4 * 1024 * KIB * KIB),
    ("guides/flows-in-detail.md", "Up to 100 results", "roles.worker.references:_SLICE", 100),
    ("guides/flows-in-detail.md", "items of one `each`: 1,000,000", "core.each_items:MOST_ITEMS", 1_000_000),
    ("guides/flows-in-detail.md", "there are more than 10,000 elements", "core.each_items:MOST_ALONE", 10_000),
    ("guides/flows-in-detail.md", "| 1 to 1000. A chunk with more than 256 KiB", "core.chunk:MAX_ITEMS", 1000),
    ("guides/flows-in-detail.md", "| 1 to 1000. A chunk with more than 256 KiB", "core.chunk:ITEM_ROOM", 256 * KIB),
    ("guides/flows-in-detail.md", "of an `each`: 512 KiB", "core.payload:MAX_PAYLOAD", 512 * KIB),
    ("guides/flows-in-detail.md", "adds: 1,000 of 384 KiB", "core.added_steps:MAX_ADDED", 1000),
    ("guides/flows-in-detail.md", "adds: 1,000 of 384 KiB", "core.added_steps:MAX_BYTES", 384 * KIB),
    ("guides/flows-in-detail.md", "at most 200 items and 128 KiB", "core.expansion:MAX_ITEMS", 200),
    ("guides/flows-in-detail.md", "at most 200 items and 128 KiB", "core.expansion:MAX_BYTES", 128 * KIB),
    ("guides/many.md", "at most 1000 items and 256 KiB", "core.chunk:MAX_ITEMS", 1000),
    ("guides/history.md", "message (300 characters)", "core.history:MAX_MESSAGE", 300),
    ("guides/history.md", "A batch has at most 100 records", "core.history:MAX_FAILURES", 100),
    ("guides/history.md", "at most 200 calls and queues separately", "core.history:MAX_CALLS", 200),
    ("guides/history.md", "at most every five seconds", "roles.shared.history_writer:INTERVAL", 5.0),
    ("guides/hooks.md", "it waits 5 s for the calls", "roles.worker.error_calls:END_SECONDS", 5.0),
    ("guides/hooks.md", "All of `on_worker_stop` together have 10 s", "roles.worker.worker_hooks:STOP_SECONDS", 10.0),
    ("guides/hosts.md", "a warning says so after three seconds", "zookeeper.client.base:LATE_SECONDS", 3.0),
    ("guides/pools.md", "1,000 slots by default", "roles.worker.worker:_COROUTINES", 1000),
    ("guides/pools.md", "in a queue of 4 MiB", "pools.outlets:MOST_BYTES", 4 * KIB * KIB),
    ("guides/pools.md", "The worker logs after 5 s", "roles.worker.stalls:PATIENCE", 5.0),
    ("guides/pools.md", "again every ten minutes", "roles.worker.stalls:_AGAIN_SECONDS", 600.0),
    ("guides/retries.md", "| `backoff` | 1.0 |", "core.options:DEFAULT_BACKOFF", 1.0),
    ("guides/retries.md", "| `max_backoff` | 600.0 |", "core.options:DEFAULT_MAX_BACKOFF", 600.0),
    ("guides/seeing.md", "at most every two seconds", "roles.worker.progress_writer:_WRITE_SECONDS", 2.0),
]


def value_of(place: str) -> object:
    """Return a constant, or the default of a field of a settings class."""
    module, _, name = place.partition(":")
    loaded = import_module(f"herdmaster.{module}")
    owner, _, field = name.partition(".")
    return attrgetter(field)(getattr(loaded, owner)()) if field else getattr(loaded, owner)


@pytest.mark.parametrize(("document", "words", "place", "value"), STATED)
def test_a_value_is_what_the_document_says(document: str, words: str, place: str, value: object) -> None:
    text = re.sub(r"\s+", " ", (DOCS / document).read_text("utf-8"))

    assert words in text
    assert value_of(place) == value
