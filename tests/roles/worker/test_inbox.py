"""An inbox whose changes the test tells, on a real server from which it reads the payloads."""

from __future__ import annotations

import pytest

from herdmaster.core import layout
from herdmaster.roles.worker.inbox import Inbox
from herdmaster.running.delivery import Delivered
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.recipes.children import Added, Complete, Interrupted, Listed, Removed
from tests.roles.stage import Stage, new_raw_name, until

WORKER = "worker-w"
FOLDER = layout.inbox_path(WORKER)


class Listener:
    def __init__(self) -> None:
        self.arrived: list[Delivered] = []
        self.left: list[str] = []

    def task_arrived(self, task: Delivered, /) -> None:
        self.arrived.append(task)

    def task_unreadable(self, name: str, error: errors.NoAuth, /) -> None:
        raise AssertionError(name)

    def task_left(self, name: str, /) -> None:
        self.left.append(name)

    def connection_lost(self) -> None: ...

    def turn(self) -> None: ...


class Setting:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.requests: set[str] = set()
        self.listener = Listener()
        self.inbox = Inbox(stage.zk, WORKER, self.requests, self.listener)
        self.name = new_raw_name()
        self.path = layout.assignment_path(WORKER, self.name)

    def list(self, *names: str) -> None:
        self.inbox._handle(Listed(FOLDER, names))
        self.inbox._handle(Complete(FOLDER))

    async def read(self, count: int) -> Delivered:
        """Read until so many assignments have arrived. Return the last."""
        self.inbox.read()
        await until(lambda: len(self.listener.arrived) == count, f"{count} assignments")
        return self.listener.arrived[-1]

    async def czxid(self) -> int:
        stat = await self.stage.zk.exists(self.path)
        assert stat is not None
        return stat.czxid


@pytest.fixture
async def setting(stage: Stage) -> Setting:
    return Setting(stage)


async def test_an_assignment_that_left_and_came_back_unseen_is_another_delivery(setting: Setting) -> None:
    await setting.stage.put(setting.path, data=b"first")
    setting.list(setting.name)
    first = await setting.read(1)
    assert (first.payload, first.czxid) == (b"first", await setting.czxid())

    setting.inbox._handle(Interrupted())
    await setting.stage.zk.delete(setting.path)
    await setting.stage.put(setting.path, data=b"second")
    setting.list(setting.name)
    assert not setting.inbox.is_read(setting.name), "nothing is done about it before it has been read again"
    second = await setting.read(2)

    assert (second.payload, second.czxid) == (b"second", await setting.czxid())
    assert second.czxid != first.czxid
    assert setting.listener.left == []


async def test_an_assignment_is_read_when_no_request_about_its_name_is_under_way(setting: Setting) -> None:
    await setting.stage.put(setting.path)
    setting.list(setting.name)
    setting.requests.add(setting.name)
    setting.inbox.read()
    assert not setting.inbox.is_reading

    setting.requests.clear()
    await setting.read(1)
    assert setting.inbox.is_read(setting.name)


async def test_an_assignment_that_comes_back_while_it_is_read_is_read_again(setting: Setting) -> None:
    await setting.stage.put(setting.path)
    setting.list(setting.name)
    setting.inbox.read()
    setting.inbox._handle(Removed(FOLDER, setting.name))
    setting.inbox._handle(Added(FOLDER, setting.name))
    setting.inbox.read()  # one read at a time
    await until(lambda: not setting.inbox.is_reading, "the first read")
    assert not setting.inbox.is_read(setting.name)

    await setting.read(2)
    assert setting.inbox.is_read(setting.name)


async def test_what_was_read_of_an_assignment_that_has_left_meanwhile_is_dropped(setting: Setting) -> None:
    await setting.stage.put(setting.path)
    setting.list(setting.name)
    setting.inbox.read()
    setting.inbox._handle(Removed(FOLDER, setting.name))
    await until(lambda: not setting.inbox.is_reading, "the read")

    assert setting.listener.arrived == []
    assert setting.listener.left == [setting.name]
