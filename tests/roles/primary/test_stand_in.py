"""Who does what a primary of the reference leaves undone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from herdmaster.core import layout
from herdmaster.core.members import MasterRecord, encode_record
from herdmaster.roles.primary.stand_in import StandIn, Standing
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import CreateMode
from tests.roles.stage import Stage, end_session

OURS = encode_record(MasterRecord("master-x", "host", 1, 0))


async def announce(client: Client, name: str) -> StandIn:
    await client.create(layout.master_record_path(name), mode=CreateMode.EPHEMERAL)
    return StandIn(client, layout.master_record_path(name))


@pytest.fixture
async def other(namespace: str, stage: Stage) -> AsyncIterator[Client]:
    await make_folders(stage.zk)
    async with Client(namespace, session_timeout=4.0, connect_timeout=15.0) as client:
        yield client


async def test_no_master_stands_in_while_none_or_one_of_ours_is_primary(stage: Stage, other: Client) -> None:
    mine, theirs = await announce(stage.zk, "master-a"), await announce(other, "master-b")
    assert await mine.look() is await theirs.look() is Standing.BACKUP
    await stage.zk.create(layout.MASTER, OURS, mode=CreateMode.EPHEMERAL)

    assert await mine.look() is Standing.PRIMARY
    assert await theirs.look() is Standing.BACKUP


async def test_under_a_reference_primary_it_is_the_oldest_that_lives(stage: Stage, other: Client) -> None:
    await stage.zk.create(layout.MASTERS + "/master-0")  # persistent, so no master's
    older, younger = await announce(other, "master-b"), await announce(stage.zk, "master-a")
    await stage.zk.create(layout.MASTER, b"1a2b3c4d")
    assert await older.look() is Standing.STAND_IN
    assert await younger.look() is Standing.BACKUP
    await other.close()

    await younger.wait(wanted=True)
    assert await younger.look() is Standing.STAND_IN


async def test_standing_in_ends_when_the_primary_goes(stage: Stage, other: Client) -> None:
    stand_in = await announce(other, "master-a")
    await stage.zk.create(layout.MASTER, b"1a2b3c4d")
    await stand_in.wait(wanted=True)
    ending = asyncio.ensure_future(stand_in.wait(wanted=False))
    await asyncio.sleep(0.1)
    assert not ending.done()
    await stage.zk.delete(layout.MASTER)
    await ending

    await stage.zk.create(layout.MASTER, b"5e6f")
    await stand_in.wait(wanted=True)


async def test_waiting_ends_with_the_session(stage: Stage, other: Client) -> None:
    stand_in = await announce(other, "master-a")
    waiting = asyncio.ensure_future(stand_in.wait(wanted=True))
    await asyncio.sleep(0.1)
    await end_session(other, stage.hosts)

    with pytest.raises(errors.SessionExpired):
        await waiting
