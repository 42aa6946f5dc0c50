"""Submissions that are only wanted while there is room: how often ZooKeeper is asked, and what is decided in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from herdmaster.core import layout
from herdmaster.errors import BacklogFull, HerdError
from herdmaster.roles.client.backlog_limit import Asked, BacklogLimit
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat
from tests.roles.stage import Stage, until

pytestmark = pytest.mark.long


class _CountingClient(Client):
    questions = 0

    async def exists(self, path: str, watcher: object = None) -> Stat | None:
        assert watcher is None
        self.questions += path == layout.TASKS
        return await super().exists(path)


class _Gate:
    """BacklogLimit over a session of its own, and what it has decided."""

    def __init__(self, client: _CountingClient, backlog_limit: BacklogLimit) -> None:
        self.client = client
        self.backlog_limit = backlog_limit
        self.decisions: dict[str, HerdError | None] = {}

    def ask(self, name: str, limit: int, *, waits: bool = False) -> None:
        def decide(error: HerdError | None = None) -> None:
            self.decisions[name] = error

        self.backlog_limit.ask(Asked(name, limit, waits, decide, decide))

    async def ask_and_wait(self, name: str, limit: int) -> HerdError | None:
        self.ask(name, limit)
        await until(lambda: name in self.decisions, "a decision")
        return self.decisions[name]


@pytest.fixture
async def gate(namespace: str, stage: Stage) -> AsyncIterator[_Gate]:
    await stage.zk.create(layout.TASKS)
    async with _CountingClient(namespace, session_timeout=4.0) as client:
        backlog_limit = BacklogLimit()
        running = asyncio.ensure_future(backlog_limit.run(client))
        yield _Gate(client, backlog_limit)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_one_question_serves_all_who_ask_at_the_same_time(gate: _Gate) -> None:
    for number in range(100):
        gate.ask(f"task-{number}", 1000)
    await until(lambda: len(gate.decisions) == 100, "all decisions")

    assert set(gate.decisions.values()) == {None}
    assert gate.client.questions <= 2


async def test_no_more_are_admitted_than_there_is_room_for(gate: _Gate, stage: Stage) -> None:
    await stage.zk.create("/tasks/task-there")
    for number in range(10):
        gate.ask(f"task-{number}", 4)
    await until(lambda: len(gate.decisions) == 10, "all decisions")

    errors = list(gate.decisions.values())
    assert errors[:3] == [None] * 3
    assert all(isinstance(error, BacklogFull) for error in errors[3:])
    refused = errors[3]
    assert isinstance(refused, BacklogFull)
    assert (refused.waiting, refused.limit) == (4, 4)


async def test_while_it_is_in_doubt_whether_there_is_room_nothing_is_decided(gate: _Gate, stage: Stage) -> None:
    assert await gate.ask_and_wait("task-0", 1) is None
    gate.ask("task-1", 1)  # the one before is on its way: it may wait by now, or not yet
    await until(lambda: gate.client.questions >= 3, "a few questions")
    assert "task-1" not in gate.decisions
    await stage.zk.create("/tasks/task-0")
    gate.backlog_limit.forget("task-0")  # it was accepted

    await until(lambda: "task-1" in gate.decisions, "a decision")
    assert isinstance(gate.decisions["task-1"], BacklogFull)


async def test_what_has_run_by_the_time_of_the_question_takes_no_room(gate: _Gate) -> None:
    for number in range(20):  # each of them has gone again at once
        assert await gate.ask_and_wait(f"task-{number}", 1) is None
        gate.backlog_limit.forget(f"task-{number}")


async def test_who_is_forgotten_is_not_asked_for(gate: _Gate, stage: Stage) -> None:
    await stage.zk.create("/tasks/task-there")
    gate.ask("task-impatient", 1, waits=True)
    await until(lambda: gate.client.questions > 0, "a question")
    gate.backlog_limit.forget("task-impatient")
    await stage.zk.delete("/tasks/task-there")
    assert await gate.ask_and_wait("task-next", 1) is None

    assert "task-impatient" not in gate.decisions


async def test_who_waits_is_admitted_when_there_is_room_and_keeps_no_other_waiting(gate: _Gate, stage: Stage) -> None:
    await stage.zk.create("/tasks/task-there")
    gate.ask("task-patient", 1, waits=True)
    assert isinstance(await gate.ask_and_wait("task-hasty", 1), BacklogFull)
    assert "task-patient" not in gate.decisions
    await stage.zk.delete("/tasks/task-there")

    await until(lambda: gate.decisions.get("task-patient", ...) is None, "room")
