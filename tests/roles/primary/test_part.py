"""How a task that a part took ends: with one of `finish`, `refute` and `postpone`, by what ZooKeeper answered."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from herdmaster.core import layout, transitions
from herdmaster.core.transitions import CheckNode, CreateNode, DeleteNode, Move, Operation
from herdmaster.roles.primary import primary
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.primary.part import Part
from herdmaster.roles.shared.system import System
from herdmaster.zookeeper import errors
from tests.roles.primary.scripted import ScriptedClient

pytestmark = pytest.mark.fallback("SET_ASIDE_SECONDS", "TRY_LATER_SECONDS")  # the clock is the test's

TASK, W, DUE = "task-a", "worker-w", 1_700_000_000_000
NOW = 1000.0
RECOVER = transitions.recover(W, TASK, b"payload")
ASSIGN = transitions.assign(TASK, W, b"payload")
PROMOTE = transitions.promote(DUE, TASK, b"payload")
DROP = transitions.drop_assignment_because_status(W, TASK)
NO_NODE, NODE_EXISTS = errors.NoNode("x"), errors.NodeExists("x")


class Picture:
    """Writes down how a task ended. `shows_it`: the task is still where it was, whatever ZooKeeper says."""

    def __init__(self) -> None:
        self.under_way = 0
        self.ends: list[tuple[object, ...]] = []
        self.shows_it = False

    def finish(self, key: str) -> None:
        self.ends.append(("finish", key))

    def refute(self, key: str, until: float) -> bool:
        self.ends.append(("refute", key, until))
        return not self.shows_it

    def postpone(self, key: str, until: float) -> None:
        self.ends.append(("postpone", key, until))


class PlainPart(Part):
    def step(self) -> None:
        raise AssertionError

    def next_wakeup(self) -> float | None:
        raise AssertionError


class Rig:
    def __init__(self) -> None:
        self.client = ScriptedClient()
        self.client.now = NOW
        self.picture = Picture()
        self.wakes = self.listings = 0
        client: Any = self.client
        report = PrimaryLog(System(), lambda _end: None)
        self.part = PlainPart(client, self.picture, report, self._wake, self._list_again)

    def _wake(self) -> None:
        self.wakes += 1

    def _list_again(self) -> None:
        self.listings += 1

    def refuse(self, move: Move, kind: type[Operation], error: errors.ServerError) -> None:
        """Commit the move, and refuse it at its last operation of that kind."""
        indices = [index for index, each in enumerate(move.operations) if isinstance(each, kind)]
        self.part.commit([move])
        self.client.refuse(indices[-1], error)


@pytest.mark.parametrize(
    ("move", "kind", "error", "end"),
    [
        pytest.param(ASSIGN, CheckNode, NO_NODE, ("finish", TASK), id="choose another worker"),
        pytest.param(DROP, CheckNode, NO_NODE, ("finish", TASK), id="decide again"),
        pytest.param(ASSIGN, DeleteNode, NO_NODE, ("refute", TASK, NOW + 30.0), id="race lost"),
        pytest.param(RECOVER, CreateNode, NODE_EXISTS, ("postpone", TASK, NOW + 1.0), id="keep and try later"),
        pytest.param(RECOVER, CreateNode, NO_NODE, ("postpone", TASK, NOW + 1.0), id="folder missing"),
        pytest.param(ASSIGN, DeleteNode, errors.NoAuth("x"), ("postpone", TASK, NOW + 30.0), id="unexpected"),
    ],
)
async def test_a_refusal_ends_the_task_by_its_verdict(
    move: Move, kind: type[Operation], error: errors.ServerError, end: tuple[object, ...]
) -> None:
    rig = Rig()
    rig.refuse(move, kind, error)

    assert rig.picture.ends == [end]
    assert rig.wakes == 1
    assert rig.part.is_folder_missing == (move is RECOVER and error is NO_NODE)


async def test_a_delayed_task_that_waits_in_tasks_is_dropped_but_under_a_reference_primary_kept_for_now() -> None:
    rig = Rig()
    rig.part.stands_in = True
    rig.refuse(PROMOTE, CreateNode, NODE_EXISTS)
    assert rig.picture.ends == [("postpone", TASK, NOW + 1.0)]

    rig = Rig()
    rig.refuse(PROMOTE, CreateNode, NODE_EXISTS)
    await asyncio.sleep(0)
    assert rig.picture.ends == []
    assert ("delete", layout.delayed_path(DUE, TASK)) in rig.client.answer("commit")
    assert rig.picture.ends == [("finish", TASK)]


async def test_what_is_not_known_to_have_happened_is_decided_again_at_once() -> None:
    rig = Rig()
    rig.part.commit([ASSIGN])
    rig.client.answer("commit", None, errors.ConnectionLoss())

    assert rig.picture.ends == [("postpone", TASK, NOW)]
    assert rig.wakes == 1


async def test_an_inventory_is_asked_for_once_in_half_a_minute_and_only_if_the_picture_is_wrong() -> None:
    rig = Rig()
    rig.part.refute(TASK)
    assert rig.listings == 0

    rig.picture.shows_it = True
    for now, listings in ((NOW, 1), (NOW + 29.9, 1), (NOW + 30.0, 2)):
        rig.client.now = now
        rig.part.refute(TASK)
        assert rig.listings == listings
    assert rig.wakes == 4


@pytest.mark.parametrize(
    ("error", "end", "is_told"),
    [
        (NO_NODE, ("refute", TASK, NOW + 30.0), False),
        (errors.UnknownServerError("x", -99), ("postpone", TASK, NOW + 30.0), True),
        (errors.ConnectionLoss(), ("postpone", TASK, NOW), False),
        (None, ("postpone", TASK, NOW), False),
    ],
)
async def test_a_task_whose_payload_cannot_be_read_ends_by_the_error(
    error: Exception | None, end: tuple[object, ...], is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig()
    rig.part.give_up(TASK, error)

    assert rig.picture.ends == [end]
    assert rig.wakes == 1
    assert any(TASK in message for message in caplog.messages) == is_told


async def test_folders_that_any_part_misses_are_restored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    restored: list[object] = []

    async def restore(client: object) -> None:
        restored.append(client)

    monkeypatch.setattr(primary, "restore_folders", restore)
    given: Any = object.__new__(primary.Primary)
    parts = [SimpleNamespace(is_folder_missing=missing) for missing in (False, False, True)]
    given._client, given._feed, given._moving = "client", parts[0], parts[1:]
    await given._restore_folders()
    await given._restore_folders()

    assert restored == ["client"]
    assert not any(part.is_folder_missing for part in parts)
