"""Sweeps: what has outlived its time goes, and what has not stays."""

from __future__ import annotations

import asyncio

import pytest

from herdmaster.core import layout
from herdmaster.roles.bootstrap import make_folders
from herdmaster.roles.caretaker import Ages
from herdmaster.roles.master import MasterSettings
from herdmaster.zookeeper.model import CreateMode
from tests.roles.stage import TIMEOUT, Stage, new_call_name, new_raw_name, until

SHORT = MasterSettings(session_timeout=TIMEOUT, ages=Ages(outcome=0.5, dead=0.5, journal=0.5))
LONG = MasterSettings(session_timeout=TIMEOUT, ages=Ages(outcome=0.5, dead=3600.0, journal=3600.0))


def test_rounds_are_a_tenth_of_the_shortest_age_but_neither_too_often_nor_too_seldom() -> None:
    assert Ages(outcome=100.0).interval == 10.0
    assert Ages(outcome=0.1).interval == 0.2
    assert Ages().interval == 600.0


async def test_statuses_past_their_time_to_live_expire_and_younger_ones_stay(stage: Stage) -> None:
    await stage.master(SHORT)
    old = [new_raw_name() for _ in range(450)]  # more than one batch
    await stage.put(*map(layout.status_path, old))
    await stage.until_empty(layout.STATUS)

    settings = MasterSettings(session_timeout=TIMEOUT, ages=Ages(outcome=3600.0, dead=0.5, journal=0.5))
    await stage.close()
    await stage.master(settings)
    await stage.put(layout.status_path(new_raw_name()), layout.dead_path(new_raw_name()))
    await stage.until_empty(layout.DEAD)
    assert len(await stage.names(layout.STATUS)) == 1


async def test_an_age_is_that_of_the_znode_not_of_the_name(stage: Stage) -> None:
    """A name that left and came back is as young as its new znode."""
    await stage.master(MasterSettings(session_timeout=TIMEOUT, ages=Ages(outcome=2.0, dead=2.0, journal=2.0)))
    name = new_raw_name()
    path = layout.status_path(name)
    await stage.put(path)
    first = await stage.zk.exists(path)
    await asyncio.sleep(1.2)  # rounds have seen it
    await stage.zk.delete(path)
    await stage.put(path)
    second = await stage.zk.exists(path)
    assert first is not None
    assert second is not None
    while True:
        now = await stage.zk.set("/workers", b"")
        if await stage.zk.exists(path) is None:
            break
        await asyncio.sleep(0.02)

    assert now.mtime - second.ctime >= 2000 - 300


async def test_dead_tasks_past_their_time_go(stage: Stage) -> None:
    await stage.master(SHORT)
    await stage.put(layout.dead_path(new_call_name()), layout.dead_path(new_raw_name()))

    await stage.until_empty(layout.DEAD)


async def test_names_that_are_no_tasks_are_left_alone(stage: Stage) -> None:
    await stage.master(SHORT)
    await stage.put("/status/garbage", "/dead/garbage", "/clients/garbage", layout.status_path(new_raw_name()))

    async def only_garbage() -> bool:
        return await stage.names(layout.STATUS) == ["garbage"]

    await until(only_garbage, "the others to go")
    assert await stage.names(layout.DEAD) == await stage.names(layout.CLIENTS) == ["garbage"]


async def test_a_journal_goes_a_while_after_its_last_session_went(stage: Stage) -> None:
    await make_folders(stage.zk)
    await stage.put("/clients/client-gone")
    await stage.zk.create("/clients/client-here")
    await stage.zk.create("/clients/client-here/alive-0000000000000001", mode=CreateMode.EPHEMERAL)
    await stage.master(SHORT)
    await stage.until_gone("/clients/client-gone")
    assert await stage.names(layout.CLIENTS) == ["client-here"]

    await stage.zk.delete("/clients/client-here/alive-0000000000000001")
    await stage.until_gone("/clients/client-here")


async def test_a_journal_that_shows_a_sign_of_life_begins_its_time_anew(stage: Stage) -> None:
    await stage.put("/clients/client-c")
    await stage.master(MasterSettings(session_timeout=TIMEOUT, ages=Ages(journal=1.0)))
    for _ in range(5):
        await asyncio.sleep(0.5)
        await stage.zk.set("/clients/client-c", b"")

    assert await stage.exists("/clients/client-c")
    await stage.until_gone("/clients/client-c")


async def test_a_client_whose_journal_was_swept_goes_on_under_another(stage: Stage) -> None:
    await stage.master(SHORT)
    await stage.worker()
    client = await stage.client()
    await client.put_raw().outcome()
    (journal,) = await stage.names(layout.CLIENTS)
    for alive in await stage.names(layout.client_path(journal)):
        await stage.zk.delete(f"{layout.client_path(journal)}/{alive}")
    await stage.until_gone(layout.client_path(journal))

    await client.put_raw().outcome()
    assert await stage.names(layout.CLIENTS) not in ([], [journal])


@pytest.mark.parametrize("primary", [b"1a2b3c4d", b"\xff"])
async def test_under_a_reference_primary_the_oldest_of_our_masters_sweeps(stage: Stage, primary: bytes) -> None:
    await make_folders(stage.zk)
    await stage.zk.create(layout.MASTER, primary, mode=CreateMode.EPHEMERAL)
    await stage.put(layout.MASTERS + "/master-old")  # neither alive nor ours, so it keeps nobody from sweeping
    oldest = await stage.master(LONG, is_primary=False)
    await stage.until_exists(layout.MASTERS)
    await until(lambda: _count(stage, 2), "the first master's record")
    younger = await stage.master(SHORT, is_primary=False)
    await until(lambda: _count(stage, 3), "the second master's record")
    await stage.put(layout.status_path(new_raw_name()), layout.dead_path(new_raw_name()))
    await stage.until_empty(layout.STATUS)
    assert await stage.names(layout.DEAD) != []  # the younger one, which would take it away, does not sweep

    await stage.stop(oldest)
    await stage.until_empty(layout.DEAD)
    assert not younger.is_primary


async def _count(stage: Stage, count: int) -> bool:
    return len(await stage.names(layout.MASTERS)) == count


async def test_a_backup_of_a_primary_of_ours_does_not_sweep(stage: Stage) -> None:
    primary = await stage.master(LONG)
    await stage.master(SHORT, is_primary=False)
    await stage.put(layout.dead_path(new_raw_name()))
    await asyncio.sleep(1.2)
    assert await stage.names(layout.DEAD) != []

    await stage.stop(primary)
    await stage.until_empty(layout.DEAD)


async def test_a_round_that_is_refused_something_is_told_and_followed_by_the_next(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.master(SHORT)
    name = new_raw_name()
    await stage.put(layout.status_path(name) + "/child")  # so it cannot be deleted
    await stage.put(layout.dead_path(new_raw_name()))
    await stage.until_empty(layout.DEAD)
    await until(lambda: any(name in message for message in caplog.messages), "the word")

    await stage.zk.delete(layout.status_path(name) + "/child")
    await stage.until_empty(layout.STATUS)
