"""The reference's own scenarios, played by our roles."""

from __future__ import annotations

import asyncio
import logging

import pytest

from herdmaster.core import layout
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.testing.child_server import ChildServer
from herdmaster.zookeeper.client import Client
from tests.roles.stage import TIMEOUT, Ran, Stage, until


async def test_a_master_is_elected(stage: Stage) -> None:
    master = await stage.master()

    _, stat = await stage.zk.get(layout.MASTER)
    assert stat.ephemeral_owner == master.session.session_id
    assert {"assign", "status", "tasks", "workers"} <= set(await stage.zk.children("/"))


async def test_a_master_is_elected_again_after_a_close(stage: Stage) -> None:
    first = await stage.master()
    await stage.stop(first)
    assert not await stage.exists(layout.MASTER)

    second = await stage.master()
    assert second.is_primary
    assert not first.is_primary


async def test_a_closed_primary_is_followed_at_once_by_its_backup(stage: Stage) -> None:
    primary = await stage.master(MasterSettings(session_timeout=4.0))
    backup = await stage.master(MasterSettings(session_timeout=4.0), is_primary=False)
    began = asyncio.get_running_loop().time()
    await stage.stop(primary)
    await until(lambda: backup.is_primary, "the backup to be primary")

    assert asyncio.get_running_loop().time() - began < 2.0  # far below the session timeout


async def test_of_two_masters_exactly_one_is_primary(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    primary = await stage.master()
    backup = await stage.master(is_primary=False)
    await until(lambda: "standing by: another master is primary" in caplog.messages, "the other to stand by")

    assert (primary.is_primary, backup.is_primary) == (True, False)
    await stage.expire(primary)
    await until(lambda: backup.is_primary, "the backup to be primary")
    await until(lambda: not primary.is_primary, "the first one to know")
    assert sum("elected:" in message for message in caplog.messages) == 2


async def test_a_joining_worker_is_noticed_and_a_leaving_one_too(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.master()
    worker = await stage.worker()
    await until(lambda: f"{worker.name} joined" in caplog.messages, "the worker to be noticed")

    await stage.stop(worker)
    await until(lambda: f"{worker.name} has drained" in caplog.messages, "its leaving to be noticed")


async def test_recovery_gives_out_what_waits_and_what_a_lost_worker_held_but_not_what_has_a_status(
    stage: Stage,
) -> None:
    # 001, 002, 003 all in /tasks; worker 001 alive holding 001; worker 002 gone holding 002; a status for 001.
    await stage.put("/tasks/task-001", "/tasks/task-002", "/tasks/task-003", "/status/task-001")
    await stage.put("/workers/worker-001", "/assign/worker-001/task-001", "/assign/worker-002/task-002")
    ran = Ran()
    await stage.worker(raw=ran)
    await stage.master()
    await stage.until_empty(layout.TASKS)
    await stage.until_gone("/assign/worker-002")
    await until(lambda: len(ran.names) >= 2, "both to run")

    assert ran.payloads == {"task-002": b"/tasks/task-002", "task-003": b"/tasks/task-003"}
    assert sorted(ran.names) == ["task-002", "task-003"]
    assert await stage.names("/assign/worker-001") == ["task-001"]


async def test_recovery_runs_nothing_again_that_a_lost_worker_held_and_that_has_a_status(stage: Stage) -> None:
    await stage.put("/tasks/task-001", "/tasks/task-002", "/tasks/task-003", "/status/task-002", "/status/task-003")
    await stage.put("/workers/worker-001", "/assign/worker-001/task-001")
    await stage.put("/assign/worker-002/task-002", "/assign/worker-002/task-003")
    ran = Ran()
    await stage.worker(raw=ran)
    await stage.master()
    await stage.until_empty(layout.TASKS)
    await stage.until_gone("/assign/worker-002")

    assert ran.names == []
    assert await stage.names("/assign/worker-001") == ["task-001"]
    assert await stage.names(layout.STATUS) == ["task-002", "task-003"]


async def test_recovery_runs_what_a_lost_worker_held_and_that_has_no_status(stage: Stage) -> None:
    await stage.put("/tasks/task-001", "/workers/worker-001", "/assign/worker-001/task-001")
    await stage.put("/assign/worker-002/task-002", "/assign/worker-002/task-003")
    ran = Ran()
    await stage.worker(raw=ran)
    await stage.master()
    await stage.until_gone("/assign/worker-002")
    await stage.until_exists("/status/task-002")
    await stage.until_exists("/status/task-003")

    assert sorted(ran.names) == ["task-002", "task-003"]
    assert await stage.names(layout.TASKS) == []
    assert await stage.data("/status/task-002") == b"done"


@pytest.mark.long
async def test_200_tasks_end_when_zookeeper_restarts_and_a_master_is_elected_afterwards(
    own_zookeeper: ChildServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "herdmaster")
    hosts = f"{own_zookeeper.hosts}/scenario"
    async with Client(own_zookeeper.hosts, session_timeout=4.0) as outside:
        await outside.create("/scenario")
    async with Client(hosts, session_timeout=4.0) as before:
        stage = Stage(hosts, before)
        client = await stage.client()
        ran = Ran()
        await stage.worker(raw=ran)
        submitted = [client.put_raw() for _ in range(200)]
        await asyncio.gather(*(each.accepted for each in submitted))
    await asyncio.to_thread(own_zookeeper.restart)
    async with Client(hosts, session_timeout=4.0) as after:
        stage.zk = after
        await stage.master(MasterSettings(session_timeout=TIMEOUT))
        for each in submitted:
            await each.outcome()
        await stage.until_empty()
        await stage.close()

    assert sorted(ran.names) == sorted(each.name for each in submitted)
