"""Sessions that expire, servers that restart or stand still: every task ends, once, and nothing is left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import TypeAlias

import pytest

from herdmaster.core import layout
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.testing.child_server import ChildServer
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import SessionState
from tests.roles.stage import LONGEST, TIMEOUT, Ran, Stage, StagedClient, StagedMaster, StagedWorker, Submitted, until

pytestmark = pytest.mark.long

SETTINGS = MasterSettings(session_timeout=TIMEOUT, orphan_inbox_seconds=1.0)


AnyRole: TypeAlias = StagedMaster | StagedWorker | StagedClient


class Load:
    """A client that keeps `width` tasks under way, and remembers all that it submitted."""

    def __init__(self, client: StagedClient, ran: Ran | None = None, width: int = 50) -> None:
        self.client = client
        self.ran = ran or Ran()
        self.submitted: list[Submitted] = []
        self._width = width
        self._running = asyncio.ensure_future(self._run())

    @property
    def ended(self) -> int:
        return sum(each.ended.done() for each in self.submitted)

    async def _run(self) -> None:
        while True:
            while len(self.submitted) - self.ended < self._width:
                number = len(self.submitted)
                is_call = number % 2
                self.submitted.append(
                    self.client.put_call("m:f", number) if is_call else self.client.put_raw(b"%d" % number)
                )
            await asyncio.sleep(0.005)

    async def until_more(self, count: int) -> None:
        target = self.ended + count
        await until(lambda: self.ended >= target, f"{count} more tasks to end", 30)

    async def finish(self) -> None:
        """Every task that was submitted has ended, well."""
        self._running.cancel()
        for each in self.submitted:
            assert (await each.outcome(30)).error is None


@pytest.fixture
async def load(stage: Stage) -> AsyncIterator[Load]:
    """Two masters, two workers, a client at work; in the end everything has ended and nothing is left."""
    await stage.master(SETTINGS)
    await stage.master(SETTINGS, is_primary=False)
    ran = Ran()
    for _ in range(2):
        await stage.worker({"m:f": lambda number: number}, raw=ran, session_timeout=LONGEST)
    load = Load(await stage.client(), ran)
    await load.until_more(100)
    yield load
    await load.until_more(100)
    await load.finish()
    await stage.until_empty()
    await until(lambda: _has_two_inboxes(stage), "inboxes of the living alone")


async def _has_two_inboxes(stage: Stage) -> bool:
    workers = await stage.names(layout.WORKERS)
    return len(workers) == 2 and await stage.names(layout.ASSIGN) == workers


async def _active(stage: Stage, kind: type[AnyRole]) -> AnyRole:
    found: list[AnyRole] = []

    def find() -> bool:
        found[:] = [each for each in stage.roles if isinstance(each, kind) and getattr(each, "is_primary", True)]
        return bool(found)

    await until(find, "a primary")
    return found[0]


@pytest.mark.parametrize("kind", [StagedMaster, StagedWorker, StagedClient], ids=["master", "worker", "client"])
async def test_the_expiry_of_a_session_under_load_loses_nothing(stage: Stage, load: Load, kind: type[AnyRole]) -> None:
    for _ in range(3):
        role = await _active(stage, kind)
        before = role.session
        await stage.expire(role)
        await until(lambda: before.state is SessionState.EXPIRED, "the role to know")  # noqa: B023 - awaited here
        await until(lambda: role.session is not before, "a new session")  # noqa: B023
        await load.until_more(50)


async def test_the_expiry_of_all_sessions_at_once_loses_nothing(stage: Stage, load: Load) -> None:
    sessions = {role: role.session for role in stage.roles}
    await asyncio.gather(*(stage.expire(role) for role in sessions))
    for role, before in sessions.items():
        await until(lambda: role.session is not before, "a new session")  # noqa: B023 - awaited here


async def test_connections_that_break_again_and_again_lose_nothing_and_run_nothing_twice(
    stage: Stage, load: Load
) -> None:
    for _ in range(10):
        stage.break_connections()
        await load.until_more(20)

    assert len(load.ran.names) == len(set(load.ran.names))


async def test_a_primary_and_a_worker_that_fall_silent_together_are_replaced(stage: Stage, load: Load) -> None:
    worker = await stage.worker({"m:f": lambda number: number})
    await load.until_more(20)
    await stage.abandon(await _active(stage, StagedMaster))
    await stage.abandon(worker)
    await stage.until_gone(layout.worker_path(worker.name))


# --- the server ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def own_stage(own_zookeeper: ChildServer, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Stage]:
    caplog.set_level(logging.INFO, "herdmaster")
    async with Client(own_zookeeper.hosts, session_timeout=4.0) as zk:
        stage = Stage(own_zookeeper.hosts, zk)
        yield stage
        if zk.state.is_final:
            async with Client(own_zookeeper.hosts, session_timeout=4.0) as stage.zk:
                await stage.close()
        else:
            await stage.close()
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


async def start_load(stage: Stage) -> Load:
    await stage.master(SETTINGS)
    await stage.master(SETTINGS, is_primary=False)
    for _ in range(2):
        await stage.worker({"m:f": lambda number: number})
    load = Load(await stage.client())
    await load.until_more(100)
    return load


async def check_all_ended(stage: Stage, load: Load) -> None:
    await load.until_more(100)
    await load.finish()
    async with Client(stage.hosts, session_timeout=4.0) as stage.zk:
        await stage.until_empty()
        await until(lambda: _has_two_inboxes(stage), "inboxes of the living alone")


@pytest.mark.parametrize("how", ["restart", "kill"])
async def test_a_restart_of_zookeeper_under_load_loses_nothing(
    own_zookeeper: ChildServer, own_stage: Stage, how: str
) -> None:
    load = await start_load(own_stage)
    if how == "kill":
        await asyncio.to_thread(own_zookeeper.kill)
        await asyncio.to_thread(own_zookeeper.start)
    else:
        await asyncio.to_thread(own_zookeeper.restart)
    await check_all_ended(own_stage, load)


@pytest.mark.long
async def test_a_server_that_is_away_for_longer_than_every_session_loses_nothing(
    own_zookeeper: ChildServer, own_stage: Stage
) -> None:
    load = await start_load(own_stage)
    await asyncio.to_thread(own_zookeeper.kill)
    sessions = {role: role.session for role in own_stage.roles}
    await until(lambda: all(session.state is SessionState.EXPIRED for session in sessions.values()), "all to expire")
    await asyncio.to_thread(own_zookeeper.start)
    await check_all_ended(own_stage, load)


async def test_a_server_that_stands_still_for_longer_than_the_session_timeout_loses_nothing(
    own_zookeeper: ChildServer, own_stage: Stage
) -> None:
    load = await start_load(own_stage)
    own_zookeeper.pause()
    sessions = [role.session for role in own_stage.roles]
    await until(lambda: all(session.state is SessionState.EXPIRED for session in sessions), "all to give up")
    own_zookeeper.resume()
    await check_all_ended(own_stage, load)


async def test_a_server_that_stands_still_for_a_moment_costs_no_session(
    own_zookeeper: ChildServer, own_stage: Stage
) -> None:
    load = await start_load(own_stage)
    sessions = [role.session for role in own_stage.roles]
    own_zookeeper.pause()
    await asyncio.sleep(TIMEOUT / 4)
    own_zookeeper.resume()
    await check_all_ended(own_stage, load)

    assert [role.session for role in own_stage.roles] == sessions
