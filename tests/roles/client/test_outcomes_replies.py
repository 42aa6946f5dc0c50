"""Waiting for outcomes, reply by reply: what is asked for first, what each reply leads to, and what stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from herdmaster.core import layout
from herdmaster.core.outcome import OutcomeState
from herdmaster.errors import BadOutcome, HerdError
from herdmaster.roles.client.outcomes import MAX_READ, OutcomeWatch
from herdmaster.roles.client.waiters import Waiters
from herdmaster.roles.shared.committer import Committer
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.model import CreateMode, EventType, SessionState, Stat, WatchEvent
from tests.roles.primary.scripted import ScriptedClient

TASK, OTHER = "task-a", "task-b"
NO_WAITERS, WAITERS = (b"", Stat(*(0,) * 11)), (b"", Stat(*(0,) * 9, 1, 0))


class WaitingClient(ScriptedClient):
    session_id = 7

    def __init__(self) -> None:
        super().__init__()
        self.forgotten: list[str] = []

    def watch_created_nowait(self, paths: Sequence[str], handle: Callable[[WatchEvent], None]) -> None:
        self.calls.append(("watch", tuple(paths), lambda event, _error: handle(event)))

    def forget_created(self, path: str, _handle: object) -> None:
        self.forgotten.append(path)

    def create_nowait(self, path: str, _data: bytes, done: Callable[..., None], mode: object = None) -> None:
        self.calls.append((f"create {mode or CreateMode.PERSISTENT}", path, done))

    def delete_nowait(self, path: str, done: Callable[..., None], version: int = -1) -> None:
        self.calls.append((f"delete {version}", path, done))

    def multi_children_nowait(self, paths: Sequence[str], done: Callable[..., None]) -> None:
        self.calls.append(("find", tuple(paths), done))


class Rig:
    """A client's outcomes in a session. `ended` has what callers were told; they take it unless `takes` is False."""

    def __init__(self) -> None:
        self.client = WaitingClient()
        self.ended: list[tuple[str, object]] = []
        self.takes = True
        self.outcomes = OutcomeWatch(outcome_ttl=60.0, rng=random.Random(1))
        given: Any = self.client
        self.outcomes._client = given
        self.outcomes._waiters.begin_session(given)
        self.outcomes._committer = Committer(given)

    def wait_for(self, task: str, *, locate: bool = False) -> None:
        def ended(name: str, outcome: Any, error: HerdError | None) -> bool:
            self.ended.append((name, outcome.state if outcome is not None else type(error)))
            return self.takes

        self.outcomes.wait_for(task, ended, locate=locate)

    async def turn(self) -> list[str]:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return self.client.pending()

    def tell_created(self, task: str, kind: EventType = EventType.CREATED) -> None:
        self.client.answer("watch", WatchEvent(kind, layout.status_path(task)))

    def tell_created_to(self, client: WaitingClient, task: str) -> None:
        """As `tell_created`, of one task of a watch for many."""
        handle = next(done for name, _, done in client.calls if name == "watch")
        handle(WatchEvent(EventType.CREATED, layout.status_path(task)), None)

    def answer_read(self, *nodes: object) -> Any:
        return self.client.answer("read", list(nodes))


@pytest.fixture
async def rig() -> Rig:
    return Rig()


async def reading(rig: Rig, task: str = TASK) -> None:
    """The status of a task that is waited for is there, and is being read."""
    rig.wait_for(task)
    assert await rig.turn() == ["watch"]
    rig.tell_created(task)
    assert await rig.turn() == ["read"]


async def test_what_ends_is_read_told_and_collected(rig: Rig) -> None:
    await reading(rig)
    assert rig.answer_read((b"done", NO_WAITERS[1]), NO_WAITERS) == (layout.status_path(TASK), layout.WAITERS)
    assert rig.ended == [(TASK, OutcomeState.DONE)]
    assert await rig.turn() == ["commit"]

    assert rig.client.answer("commit") == (("delete", layout.status_path(TASK)),)
    assert await rig.turn() == []
    assert not rig.outcomes.waits_for(TASK)


@pytest.mark.parametrize("takes", [True, False])
async def test_an_outcome_that_the_caller_does_not_take_is_left(rig: Rig, takes: bool) -> None:
    rig.takes = takes
    await reading(rig)
    rig.answer_read((b"done", NO_WAITERS[1]), NO_WAITERS)

    assert await rig.turn() == (["commit"] if takes else [])


@pytest.mark.parametrize("error", [errors.ConnectionLoss(), errors.SessionExpired("over")])
async def test_a_deletion_in_doubt_is_sent_again(rig: Rig, error: Exception) -> None:
    await reading(rig)
    rig.answer_read((b"done", NO_WAITERS[1]), NO_WAITERS)
    await rig.turn()
    rig.client.answer("commit", None, error)

    assert await rig.turn() == ["commit"]
    rig.client.refuse(0, errors.NoNode("status"))  # it was applied
    assert await rig.turn() == []
    assert len(rig.ended) == 1


async def test_a_status_that_is_gone_when_it_is_read_is_watched_again_and_looked_for(rig: Rig) -> None:
    await reading(rig)
    rig.answer_read(errors.NoNode("status"), NO_WAITERS)

    assert await rig.turn() == ["watch"]
    assert list(rig.outcomes._to_locate) == [TASK]
    assert rig.outcomes._locating.is_set()
    assert rig.ended == []


async def test_a_watch_that_fires_for_another_reason_is_armed_again(rig: Rig) -> None:
    rig.wait_for(TASK)
    await rig.turn()
    rig.tell_created(TASK, EventType.DELETED)

    assert await rig.turn() == ["watch"]


async def test_a_read_that_is_lost_with_the_connection_is_repeated_by_the_watch(rig: Rig) -> None:
    await reading(rig)
    rig.client.answer("read", None, errors.ConnectionLoss())

    assert await rig.turn() == ["watch"]
    assert rig.outcomes._reading == 0


async def test_a_status_that_cannot_be_read_is_told_and_left(rig: Rig) -> None:
    await reading(rig)
    rig.answer_read(errors.NoAuth("status"), NO_WAITERS)

    assert rig.ended == [(TASK, BadOutcome)]
    assert await rig.turn() == []


async def test_a_caller_that_fails_costs_no_other_its_outcome(rig: Rig) -> None:
    def fail(_task: str, _outcome: object, _error: object) -> bool:
        raise ValueError("the caller's")

    rig.outcomes.wait_for(TASK, fail)
    rig.wait_for(OTHER)
    await rig.turn()
    (_, _, tell) = rig.client.calls.pop()
    for task in (TASK, OTHER):
        tell(WatchEvent(EventType.CREATED, layout.status_path(task)), None)
    await rig.turn()
    rig.answer_read((b"done", NO_WAITERS[1]), (b"done", NO_WAITERS[1]), NO_WAITERS)

    assert rig.ended == [(OTHER, OutcomeState.DONE)]
    await rig.turn()
    assert rig.client.answer("commit") == (("delete", layout.status_path(OTHER)),)


async def test_what_is_forgotten_is_neither_watched_nor_read_nor_looked_for(rig: Rig) -> None:
    rig.wait_for(TASK, locate=True)
    rig.outcomes.forget(TASK)
    assert rig.client.forgotten == [layout.status_path(TASK)]
    await rig.turn()
    assert [paths for name, paths, _ in rig.client.calls if name == "watch"] in ([], [()])
    assert rig.outcomes._to_locate == {}

    rig.client.calls.clear()
    await reading(rig, OTHER)
    rig.outcomes.forget(OTHER)
    rig.answer_read((b"done", NO_WAITERS[1]), NO_WAITERS)
    assert rig.ended == []
    assert await rig.turn() == []


async def test_an_outcome_that_was_told_is_looked_for_no_more(rig: Rig) -> None:
    rig.wait_for(TASK, locate=True)
    await rig.turn()
    rig.tell_created(TASK)
    await rig.turn()
    rig.answer_read((b"done", NO_WAITERS[1]), NO_WAITERS)

    assert rig.outcomes._to_locate == {}


# --- with other clients ----------------------------------------------------------------------------------------------


async def test_a_task_that_is_awaited_by_name_is_registered_before_it_is_watched(rig: Rig) -> None:
    rig.wait_for(TASK, locate=True)

    assert await rig.turn() == [
        f"create {CreateMode.PERSISTENT}",
        f"create {CreateMode.EPHEMERAL}",
        "watch",
    ]
    assert [path for _, path, _ in rig.client.calls[:2]] == [layout.waiters_path(TASK), layout.waiter_path(TASK, 7)]


@pytest.mark.parametrize("registers", [True, False])
async def test_a_registered_reader_marks_what_it_has_read_and_leaves_it_for_the_others(
    rig: Rig, registers: bool
) -> None:
    rig.wait_for(TASK, locate=True)
    await rig.turn()
    if registers:
        rig.client.answer(f"create {CreateMode.EPHEMERAL}", "path")
    rig.client.answer(f"create {CreateMode.PERSISTENT}", "path")
    rig.tell_created(TASK)
    await rig.turn()
    rig.answer_read((b"done", NO_WAITERS[1]), NO_WAITERS)
    pending = await rig.turn()

    assert ("set" in pending) == registers
    assert ("commit" in pending) != registers
    assert [name for name in pending if name.startswith("delete")] == ["delete -1", "delete 0"]
    assert pending.index("delete -1") < pending.index("delete 0")
    if registers:
        assert pending.index("set") < pending.index("delete -1")


@pytest.mark.parametrize(
    ("folder", "pending"),
    [(("waiter",), ["set"]), ((), ["commit"]), (errors.NoNode("x"), ["commit"]), (errors.NoAuth("x"), ["set"])],
)
async def test_an_outcome_that_others_wait_for_is_marked_and_any_other_collected(
    rig: Rig, folder: object, pending: list[str]
) -> None:
    await reading(rig)
    rig.answer_read((b"done", NO_WAITERS[1]), WAITERS)
    assert await rig.turn() == ["find"]
    assert rig.client.answer("find", [folder]) == (layout.waiters_path(TASK),)

    assert await rig.turn() == pending


async def test_waiters_that_are_not_known_are_asked_for_again(rig: Rig) -> None:
    await reading(rig)
    rig.answer_read((b"done", NO_WAITERS[1]), WAITERS)
    await rig.turn()
    rig.client.answer("find", None, errors.ConnectionLoss())

    assert await rig.turn() == ["find"]


def registering() -> tuple[Waiters, WaitingClient]:
    waiters, client = Waiters(), WaitingClient()
    given: Any = client
    waiters.begin_session(given)
    waiters.register(TASK)
    waiters.send()
    client.answer(f"create {CreateMode.PERSISTENT}", "path")
    return waiters, client


@pytest.mark.parametrize(
    ("error", "is_registered", "is_sent_again"),
    [
        (None, True, False),
        (errors.NodeExists("x"), True, False),
        (errors.ConnectionLoss(), False, True),
        (errors.NoNode("swept"), False, True),
        (errors.NoAuth("x"), False, False),
    ],
)
def test_a_registration_counts_when_the_server_has_it(
    error: Exception | None, is_registered: bool, is_sent_again: bool
) -> None:
    waiters, client = registering()
    assert not waiters.is_registered(TASK)
    client.answer(f"create {CreateMode.EPHEMERAL}", None, error)
    assert waiters.is_registered(TASK) == is_registered
    waiters.send()

    assert bool(client.pending()) == is_sent_again


def test_a_registration_that_is_answered_after_its_task_or_its_session_was_left_counts_for_nothing() -> None:
    waiters, client = registering()
    waiters.leave(TASK)
    client.answer(f"create {CreateMode.EPHEMERAL}", "path")
    assert not waiters.is_registered(TASK)

    waiters, client = registering()
    waiters.end_session()
    client.answer(f"create {CreateMode.EPHEMERAL}", "path")
    assert not waiters.is_registered(TASK)


def test_a_new_session_registers_anew_and_leaves_nothing_of_the_old_one() -> None:
    waiters, client = registering()
    client.answer(f"create {CreateMode.EPHEMERAL}", "path")
    waiters.leave(TASK)
    later: Any = WaitingClient()
    waiters.begin_session(later)
    waiters.send()

    assert not waiters.is_registered(TASK)
    assert later.pending() == []


@pytest.mark.parametrize(
    ("error", "is_sent_again"), [(errors.ConnectionLoss(), True), (errors.SessionExpired("x"), True), (None, False)]
)
def test_a_mark_in_doubt_is_sent_again_also_in_the_next_session(error: Exception | None, is_sent_again: bool) -> None:
    waiters, client = registering()
    client.calls.clear()
    waiters.mark(TASK)
    waiters.send()
    assert client.answer("set", None, error) == layout.waiters_path(TASK)
    waiters.end_session()
    waiters.send()
    later: Any = WaitingClient()
    waiters.begin_session(later)
    waiters.send()

    assert later.pending() == (["set"] if is_sent_again else [])


def test_without_a_session_nothing_is_known_of_waiters() -> None:
    found: list[tuple[Sequence[str], set[str] | None]] = []
    Waiters().find_awaited([TASK], lambda tasks, awaited: found.append((tasks, awaited)))

    assert found == [([TASK], None)]


# --- the connection --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("away", "looked_for"), [(None, [OTHER]), (60.0, [OTHER]), (60.1, [TASK, OTHER])])
async def test_after_an_absence_longer_than_outcomes_are_kept_all_tasks_are_looked_for(
    rig: Rig, away: float | None, looked_for: list[str]
) -> None:
    rig.wait_for(TASK)
    rig.wait_for(OTHER, locate=True)
    rig.outcomes._to_locate.clear()
    if away is not None:
        rig.outcomes._handle_state(SessionState.DISCONNECTED)
        rig.client.now += away / 2
        rig.outcomes._handle_state(SessionState.DISCONNECTED)  # counts from the first
        rig.client.now += away / 2
    rig.outcomes._handle_state(SessionState.CONNECTED)
    assert sorted(rig.outcomes._to_locate) == looked_for

    rig.client.now += 1000.0
    rig.outcomes._to_locate.clear()
    rig.outcomes._handle_state(SessionState.CONNECTED)
    assert sorted(rig.outcomes._to_locate) == [OTHER], "it was not away meanwhile"


async def test_nothing_is_sent_without_a_connection(rig: Rig) -> None:
    rig.client.state = SessionState.DISCONNECTED
    rig.wait_for(TASK)
    assert await rig.turn() == []
    rig.client.state = SessionState.CONNECTED
    rig.outcomes._handle_state(SessionState.CONNECTED)

    assert await rig.turn() == ["watch"]


class SessionClient(WaitingClient):
    """A client that `run` can be given."""

    def add_listener(self, _handle: object) -> None: ...

    def remove_listener(self, _handle: object) -> None: ...


@contextlib.asynccontextmanager
async def session_of(rig: Rig) -> AsyncIterator[WaitingClient]:
    """Another session of the same client."""
    client = rig.client = SessionClient()
    given: Any = client
    running = asyncio.ensure_future(rig.outcomes.run(given))
    for _ in range(3):
        await rig.turn()
    yield client
    running.cancel()
    await asyncio.wait([running])


async def test_replies_that_a_session_has_not_had_hold_up_no_later_one(rig: Rig) -> None:
    names = [f"task-{number}" for number in range(MAX_READ)]
    for name in names:
        rig.wait_for(name)
    async with session_of(rig) as first:
        for name in names:
            rig.tell_created_to(first, name)
        assert "read" in await rig.turn()
    async with session_of(rig) as second:
        rig.tell_created_to(second, names[0])
        assert "read" in await rig.turn()
        first.answer("read", [(b"done", NO_WAITERS[1])] * MAX_READ + [NO_WAITERS])
        assert rig.ended == [], "the next session reads anew"
        assert second.answer("read", [(b"done", NO_WAITERS[1]), NO_WAITERS])[0] == layout.status_path(names[0])
        assert rig.ended == [(names[0], OutcomeState.DONE)]
