"""Tasks that are nowhere: none that moves is taken for one."""

from __future__ import annotations

import asyncio

import pytest

from herdmaster.inspection.missing import find_missing
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.model import OPEN_ACL, Acl, Id, Permission
from tests.roles.stage import Stage, new_raw_name

WRITE_ONLY = (Acl(int(Permission.ALL & ~Permission.READ), Id("world", "anyone")),)


@pytest.mark.parametrize("count", [1, 3000], ids=["asked for one by one", "in listings"])
async def test_a_task_that_moves_all_the_time_is_never_missed(stage: Stage, count: int) -> None:
    name = new_raw_name()
    places = [
        f"/tasks/{name}",
        f"/assign/worker-a/{name}",
        f"/delayed/1700000000000-{name}",
        f"/assign/worker-b/{name}",
    ]
    await make_folders(stage.zk)
    await stage.put(places[0], "/assign/worker-a", "/assign/worker-b")
    done = asyncio.Event()

    async def move() -> None:
        here = 0
        while not done.is_set():
            there = (here + 1) % len(places)
            await stage.zk.transaction().delete(places[here]).create(places[there]).commit()
            here = there

    moving = asyncio.ensure_future(move())
    client = await stage.client()
    others = [new_raw_name() for _ in range(count - 1)]
    for _ in range(15):
        assert await find_missing(client.session, [name, *others]) == others
    done.set()
    await moving


async def test_a_folder_that_cannot_be_listed_is_told_and_its_tasks_are_not_called_missing(stage: Stage) -> None:
    await make_folders(stage.zk)
    await stage.zk.set_acl("/tasks", WRITE_ONLY)
    try:
        with pytest.raises(errors.NoAuth):
            await find_missing(stage.zk, [new_raw_name() for _ in range(3000)])
    finally:
        await stage.zk.set_acl("/tasks", OPEN_ACL)
