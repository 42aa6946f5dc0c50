from __future__ import annotations

import logging

import pytest

from herdmaster.core import transitions
from herdmaster.core.ending_moves import refuse
from herdmaster.core.endings import EXPIRED
from herdmaster.core.layout import TickName
from herdmaster.core.queues import UNLIMITED, QueueSettings
from herdmaster.core.roster import Kind
from herdmaster.core.schedule_decisions import NextTick, Skipped, SkipTo
from herdmaster.core.schedules import Skip, Tick
from herdmaster.core.whereabouts import Delayed
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.shared.system import System

W = "worker-w"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> PrimaryLog:
    caplog.set_level(logging.INFO, "herdmaster")
    return PrimaryLog(System(), lambda _end: None)


def test_each_thing_is_told_once(log: PrimaryLog, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        log.tell_foreign_names(["x", "y"])
        log.tell_unserved_queues({"x": Kind.STEP})
        log.tell_silent_worker(W, b"garbage")
        log.tell_unreadable("/tasks/x", ValueError("NoAuth"))

    assert len(caplog.messages) == len(set(caplog.messages)) == 5


def test_endless_names_fill_neither_log_nor_memory_and_hide_nothing_else(
    log: PrimaryLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.tell_foreign_names(f"name{number}" for number in range(5000))
    log.tell_unserved_queues({"mail": Kind.RAW})

    assert len(caplog.messages) == 1001
    assert "mail" in caplog.messages[-1]


def test_skipped_times_are_counted_by_reason(log: PrimaryLog, caplog: pytest.LogCaptureFixture) -> None:
    skipped = Skipped({Skip.MISSED: 100_000, Skip.LATE: 1})
    log.tell_tick("nightly", SkipTo(NextTick(TickName(1, "0a1b2c3d", "nightly"), Tick()), skipped))

    assert caplog.messages == ["schedule nightly: skipped 100000 (missed)", "schedule nightly: skipped 1 (late)"]


def test_a_name_is_shown_in_a_form_that_no_terminal_minds(log: PrimaryLog, caplog: pytest.LogCaptureFixture) -> None:
    log.tell_foreign_names(["\x1b[2J" + "x" * 1000])

    assert "\x1b" not in caplog.messages[0]
    assert len(caplog.messages[0]) < 300


def test_recovered_tasks_are_counted_and_told_when_the_inbox_is_gone(
    log: PrimaryLog, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        log.tell_committed(transitions.recover(W, f"task-{number}", b""))
    assert caplog.messages == []
    log.tell_cleared(W)
    log.tell_cleared(W)
    log.tell_cleared("worker-that-had-none")

    assert caplog.messages == [f"recovered 3 tasks of {W}"]


def test_what_an_operator_should_know_of_is_told_by_name(log: PrimaryLog, caplog: pytest.LogCaptureFixture) -> None:
    log.tell_committed(transitions.bury(W, "task-a", b"", b""))
    log.tell_committed(transitions.refuse("task-b", b""))
    log.tell_committed(transitions.refuse_delayed(10, "task-c", b"failed: X"))
    log.tell_committed(refuse(Delayed(10, "task-d"), b"", EXPIRED))
    log.tell_committed(transitions.assign("task-e", W, b""))

    told = [message.split(":")[0] for message in caplog.messages]
    assert told == ["buried task-a", "refused task-b", "refused task-c", "task-d has expired"]


def test_what_a_queue_is_limited_to_is_told_when_it_changes(log: PrimaryLog, caplog: pytest.LogCaptureFixture) -> None:
    for settings in (
        UNLIMITED,
        QueueSettings(paused=True),
        QueueSettings(paused=True),
        QueueSettings(rate=2.5),
        UNLIMITED,
    ):
        log.tell_queue("mail", settings)
    assert caplog.messages == ["queue mail: paused", "queue mail: at most 2.5 a second", "queue mail: no limits"]


def test_endless_queues_are_not_all_told(log: PrimaryLog, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(5000):
        log.tell_queue(f"q{number}", QueueSettings(paused=True))
        log.tell_queue(f"q{number + 5000}", UNLIMITED)
    assert len(caplog.messages) == 1000
