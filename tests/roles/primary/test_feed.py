"""What ZooKeeper tells goes into the picture, and a takeover waits until all of it has been told."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from herdmaster.core import layout
from herdmaster.core.decisions import Assign
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.members import WorkerRecord, encode_record
from herdmaster.core.queues import QueueSettings, encode_queue
from herdmaster.roles.primary.feed import Feed
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.shared.system import System
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.model import SessionState
from herdmaster.zookeeper.recipes.children import Added, Complete, Failed, Interrupted, Listed, Removed
from tests.roles.primary.scripted import STAT, ScriptedClient, W

TASKS = tuple(f"task-{number}" for number in range(20))
RATE_OF_TWO = encode_queue(QueueSettings(rate=2.0))
RECORD = encode_record(WorkerRecord(20))


class Rig:
    def __init__(self) -> None:
        self.client = ScriptedClient()
        self.dispatcher = Dispatcher()
        client: Any = self.client
        self.wakes = 0
        self.feed = Feed(client, self.dispatcher, PrimaryLog(System(), lambda _end: None), self._wake)

    def _wake(self) -> None:
        self.wakes += 1

    def take_over(self) -> None:
        """All is listed but the queues: tasks, and a worker with room for them."""
        feed, inbox = self.feed, layout.inbox_path(W)
        for change in (Listed(layout.TASKS, TASKS), Complete(layout.TASKS)):
            feed._handle_tasks(change)
        for change in (Listed(layout.ASSIGN, (W,)), Listed(inbox, ()), Complete(layout.ASSIGN)):
            feed._handle_assign(change)
        for change in (Listed(layout.WORKERS, (W,)), Complete(layout.WORKERS)):
            feed._handle_workers(change)
        self.client.answer("get", (RECORD, STAT))
        if not self.dispatcher.knows_statuses:
            self.client.answer("children", ())

    def assigned(self, now: float) -> int:
        self.client.now = now
        decisions = self.dispatcher.decide(now, 100)
        assert all(isinstance(each, Assign) for each in decisions)
        return len(decisions)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_takeover_starts_no_burst_before_it_knows_the_limits_of_every_queue(rig: Rig) -> None:
    rig.take_over()
    rig.feed._handle_queues(Listed(layout.QUEUES, ("default", "mail")))
    rig.feed._handle_queues(Complete(layout.QUEUES))
    assert rig.assigned(0.0) == 0
    assert rig.client.answer("get", (encode_queue(QueueSettings(paused=True)), STAT)) == layout.queue_path("default")
    assert rig.assigned(0.0) == 0
    rig.client.answer("get", None, errors.NoNode("mail"))
    assert rig.assigned(0.0) == 0, "the queue is paused"

    rig.feed._handle_queues(Removed(layout.QUEUES, "default"))
    assert rig.assigned(0.0) == len(TASKS)


def test_a_takeover_leaves_out_the_second_in_which_the_primary_before_may_have_assigned(rig: Rig) -> None:
    rig.take_over()
    rig.feed._handle_queues(Listed(layout.QUEUES, ("default",)))
    rig.feed._handle_queues(Complete(layout.QUEUES))
    rig.client.answer("get", (RATE_OF_TWO, STAT))

    assert [rig.assigned(now) for now in (0.0, 0.99, 1.0, 1.4, 1.5)] == [0, 0, 1, 0, 1]


def test_after_an_interruption_the_limits_are_read_again_before_anything_is_decided(rig: Rig) -> None:
    rig.take_over()
    rig.feed._handle_queues(Listed(layout.QUEUES, ("default",)))
    rig.feed._handle_queues(Complete(layout.QUEUES))
    rig.feed._handle_queues(Interrupted())
    rig.client.answer("get", (None, STAT))  # asked before, and answered only now
    rig.take_over()
    assert not rig.dispatcher.is_current
    rig.feed._handle_queues(Listed(layout.QUEUES, ("default",)))
    rig.feed._handle_queues(Complete(layout.QUEUES))
    assert not rig.dispatcher.is_current

    rig.client.answer("get", (None, STAT))
    assert rig.dispatcher.is_current


def test_statuses_that_were_asked_for_before_an_interruption_are_asked_for_again(rig: Rig) -> None:
    """They may be older than the other listings, and show no status of a task that has ended since."""
    rig.feed._handle_queues(Listed(layout.QUEUES, ()))
    rig.feed._handle_queues(Complete(layout.QUEUES))
    rig.feed._handle_workers(Listed(layout.WORKERS, ()))
    rig.feed._handle_workers(Complete(layout.WORKERS))
    rig.feed._handle_workers(Interrupted())
    rig.feed._handle_workers(Listed(layout.WORKERS, ()))
    rig.feed._handle_workers(Complete(layout.WORKERS))
    assert rig.client.pending() == ["children", "children"]
    rig.client.answer("children", ())
    assert not rig.dispatcher.knows_statuses

    rig.client.answer("children", ())
    assert rig.dispatcher.knows_statuses


def test_the_log_tells_a_worker_that_has_drained_from_a_lost_one(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "herdmaster.master")
    for worker in (W, "worker-x"):
        rig.feed._handle_assign(Added(layout.ASSIGN, worker))
        rig.feed._handle_workers(Added(layout.WORKERS, worker))
    rig.feed._handle_assign(Removed(layout.ASSIGN, W))
    rig.feed._handle_assign(Added(layout.ASSIGN, W))  # made anew, for a reference primary
    rig.feed._handle_workers(Removed(layout.WORKERS, W))
    rig.feed._handle_workers(Removed(layout.WORKERS, "worker-x"))

    assert [record.getMessage() for record in caplog.records[-2:]] == [f"{W} has drained", "worker-x was lost"]


# --- folders that are missing, and what cannot be read ---------------------------------------------------------------


@pytest.mark.parametrize("folder", [layout.TASKS, layout.ASSIGN, layout.WORKERS])
@pytest.mark.parametrize("error", [None, errors.NoAuth("folder")])
def test_a_folder_that_is_missing_or_cannot_be_read_ends_the_term(
    rig: Rig, folder: str, error: errors.ServerError | None
) -> None:
    handle = getattr(rig.feed, f"_handle_{folder.strip('/')}")
    handle(Listed(folder, None) if error is None else Failed(folder, error))
    fault = rig.feed.fault
    assert isinstance(fault, errors.NoNode if error is None else errors.NoAuth)
    assert rig.wakes == 2  # for the fault, and for the change

    handle(Failed(folder, errors.NoAuth("later")))
    assert rig.feed.fault is fault


def test_an_inbox_that_is_gone_when_it_is_listed_leaves_the_picture(rig: Rig) -> None:
    rig.take_over()
    rig.feed._handle_assign(Listed(layout.inbox_path(W), None))
    rig.feed._handle_queues(Listed(layout.QUEUES, ()))
    rig.feed._handle_queues(Complete(layout.QUEUES))

    assert rig.feed.fault is None
    assert rig.assigned(0.0) == 0


def test_a_folder_of_queues_that_is_missing_limits_nothing_and_is_asked_for(rig: Rig) -> None:
    rig.take_over()
    is_missing = [rig.feed.is_folder_missing]
    rig.feed._handle_queues(Listed(layout.QUEUES, None))
    rig.feed._handle_queues(Complete(layout.QUEUES))
    is_missing.append(rig.feed.is_folder_missing)

    assert rig.feed.fault is None
    assert rig.assigned(0.0) == len(TASKS)
    rig.feed._handle_queues(Listed(layout.QUEUES, ()))
    assert [*is_missing, rig.feed.is_folder_missing] == [False, True, True]  # until the folders are restored


@pytest.mark.parametrize(
    ("error", "is_told"), [(errors.NoAuth("worker"), True), (errors.NoNode("worker"), False), (None, False)]
)
def test_a_worker_that_cannot_be_read_is_told_unless_it_has_left(
    rig: Rig, error: Exception | None, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rig.feed._handle_workers(Added(layout.WORKERS, W))
    caplog.clear()
    assert rig.client.answer("get", None, error or errors.ConnectionLoss()) == layout.worker_path(W)

    assert any(W in message for message in caplog.messages) == is_told


def test_a_queue_that_cannot_be_read_is_told_and_not_limited(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.take_over()
    rig.feed._handle_queues(Listed(layout.QUEUES, ("default",)))
    rig.feed._handle_queues(Complete(layout.QUEUES))
    rig.client.answer("get", None, errors.NoAuth("queue"))

    assert any(layout.queue_path("default") in message for message in caplog.messages)
    assert rig.assigned(0.0) == len(TASKS)


def test_a_folder_of_queues_that_cannot_be_listed_is_told(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.feed._handle_queues(Failed(layout.QUEUES, errors.NoAuth("queues")))

    assert rig.feed.fault is None
    assert any(layout.QUEUES in message for message in caplog.messages)


def test_totals_are_told_once_in_a_connection(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "herdmaster.master")

    def told() -> int:
        rig.take_over()
        rig.feed._handle_queues(Listed(layout.QUEUES, ()))
        rig.feed._handle_queues(Complete(layout.QUEUES))
        return sum("20" in message for message in caplog.messages)

    assert told() == 1
    rig.feed._handle_state(SessionState.CONNECTED)
    assert told() == 1
    rig.feed._handle_state(SessionState.DISCONNECTED)
    assert told() == 2


def test_statuses_that_cannot_be_listed_end_the_term(rig: Rig) -> None:
    rig.feed._handle_workers(Listed(layout.WORKERS, ()))
    rig.feed._handle_workers(Complete(layout.WORKERS))
    rig.client.answer("children", None, errors.NoAuth("status"))

    assert isinstance(rig.feed.fault, errors.NoAuth)
