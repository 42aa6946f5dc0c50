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
from herdmaster.zookeeper.recipes.children import Added, Complete, Interrupted, Listed, Removed
from tests.roles.primary.scripted import STAT, ScriptedClient, W

TASKS = tuple(f"task-{number}" for number in range(20))
RATE_OF_TWO = encode_queue(QueueSettings(rate=2.0))
RECORD = encode_record(WorkerRecord(20))


class Rig:
    def __init__(self) -> None:
        self.client = ScriptedClient()
        self.dispatcher = Dispatcher()
        client: Any = self.client
        self.feed = Feed(client, self.dispatcher, PrimaryLog(System(), lambda _end: None), lambda: None)

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
