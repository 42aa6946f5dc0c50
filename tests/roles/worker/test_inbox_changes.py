"""An inbox that is told of changes and of replies, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from herdmaster.core import layout
from herdmaster.roles.worker import inbox as inbox_module
from herdmaster.roles.worker.inbox import Inbox
from herdmaster.running.delivery import Delivered
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.model import Stat
from herdmaster.zookeeper.recipes.children import Added, Complete, Failed, Interrupted, Listed, Removed
from tests.roles.primary.scripted import ScriptedClient

W, A, B = "worker-w", "task-a", "task-b"
FOLDER = layout.inbox_path(W)


def stat(czxid: int) -> Stat:
    return Stat(czxid, *(0,) * 10)


class Listener:
    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.turns = 0

    def task_arrived(self, task: Delivered, /) -> None:
        self.told.append(("arrived", task.name, task.payload, task.czxid))

    def task_unreadable(self, name: str, error: errors.NoAuth, /) -> None:
        self.told.append(("unreadable", name, type(error)))

    def task_left(self, name: str, /) -> None:
        self.told.append(("left", name))

    def connection_lost(self) -> None:
        self.told.append(("lost",))

    def turn(self) -> None:
        self.turns += 1


class Rig:
    def __init__(self) -> None:
        self.client = ScriptedClient()
        self.listener = Listener()
        self.requests: set[str] = set()
        given: Any = self.client
        self.inbox = Inbox(given, W, self.requests, self.listener)

    def tell(self, *changes: object) -> None:
        for change in changes:
            given: Any = change
            self.inbox._handle(given)

    def read(self) -> list[str]:
        self.inbox.read()
        return [path for _, paths, _ in self.client.calls for path in paths]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_an_assignment_that_leaves_before_it_is_read_is_never_read(rig: Rig) -> None:
    rig.tell(Added(FOLDER, A), Added(FOLDER, B), Removed(FOLDER, A))

    assert rig.read() == [layout.assignment_path(W, B)]
    assert rig.listener.told == [("left", A)]
    assert len(rig.inbox) == 1
    assert rig.listener.turns == 3


def test_what_is_asked_for_is_not_asked_for_again_and_counts_as_unread_until_it_comes(rig: Rig) -> None:
    assert not rig.inbox.is_reading
    rig.tell(Added(FOLDER, A))
    assert not rig.inbox.is_read(A)
    rig.read()
    assert rig.read() == [layout.assignment_path(W, A)]
    states = [(rig.inbox.is_read(A), rig.inbox.is_reading)]
    rig.client.answer("read", [(b"payload", stat(5))])
    states.append((rig.inbox.is_read(A), rig.inbox.is_reading))

    assert states == [(False, True), (True, False)]
    assert rig.listener.told == [("arrived", A, b"payload", 5)]
    assert rig.read() == []


def test_what_a_request_is_under_way_about_is_read_afterwards(rig: Rig) -> None:
    rig.requests.add(A)
    rig.tell(Added(FOLDER, A), Added(FOLDER, B))
    assert rig.read() == [layout.assignment_path(W, B)]
    rig.requests.clear()

    assert rig.read() == [layout.assignment_path(W, B), layout.assignment_path(W, A)]


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (errors.NoAuth("x"), [("unreadable", A, errors.NoAuth)]),
        (errors.NoNode("x"), []),
    ],
)
def test_what_cannot_be_read_is_told_unless_it_has_left(
    rig: Rig, node: errors.ServerError, told: list[tuple[object, ...]]
) -> None:
    rig.tell(Added(FOLDER, A))
    rig.read()
    turns = rig.listener.turns
    rig.client.answer("read", [node])

    assert rig.listener.told == told
    assert rig.listener.turns == turns + 1


def test_a_reply_about_what_has_left_or_was_consumed_arrives_nowhere(rig: Rig) -> None:
    rig.tell(Added(FOLDER, A), Added(FOLDER, B))
    rig.read()
    rig.tell(Removed(FOLDER, A))
    rig.inbox.forget(B)
    rig.client.answer("read", [(b"", stat(1)), (b"", stat(2))])

    assert rig.listener.told == [("left", A)]
    assert len(rig.inbox) == 0


def test_a_listing_tells_what_has_left_and_reads_all_that_is_there_again(rig: Rig) -> None:
    rig.tell(Added(FOLDER, A), Added(FOLDER, B))
    rig.read()
    rig.client.answer("read", [(b"", stat(1)), (b"", stat(2))])
    rig.listener.told.clear()
    rig.tell(Interrupted(), Listed(FOLDER, (B, "task-c")))

    assert rig.listener.told == [("lost",), ("left", A)]
    assert not rig.inbox.is_read(B)
    assert rig.read() == [layout.assignment_path(W, name) for name in (B, "task-c")]


def test_what_is_known_is_certain_from_the_end_of_a_listing_to_the_next_interruption(rig: Rig) -> None:
    states = []
    for change in (Listed(FOLDER, ()), Complete(FOLDER), Interrupted(), Listed(FOLDER, ()), Complete(FOLDER)):
        rig.tell(change)
        states.append((rig.inbox.is_current, rig.inbox.is_known))

    assert states == [(False, False), (True, True), (False, True), (False, True), (True, True)]


async def test_an_inbox_that_is_gone_ends_the_wait_and_one_that_cannot_be_read_raises() -> None:
    gone, unreadable = Rig(), Rig()
    gone.tell(Listed(FOLDER, None))
    await gone.inbox.wait_lost()
    unreadable.tell(Failed(FOLDER, errors.NoAuth("inbox")))

    with pytest.raises(errors.NoAuth):
        await unreadable.inbox.wait_lost()


def test_a_name_that_is_no_tasks_is_told_once_and_left_alone(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "_MAX_REPORTED", 2)
    for name in ("one", "one", "two", "three"):
        rig.tell(Added(FOLDER, name))
    rig.tell(Listed(FOLDER, ("one", "four", A)))

    assert [record.getMessage().split()[0] for record in caplog.records] == ["one", "two"]
    assert rig.read() == [layout.assignment_path(W, A)]
    assert rig.listener.told == []
