"""Fencing is the session: who is primary or a worker is a matter of sessions, and when one ends, so do its deeds."""

from __future__ import annotations

import asyncio
import threading

import pytest

from herdmaster.core import layout
from herdmaster.core.members import MasterRecord, encode_record
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.model import SessionState
from tests.proxy import Proxy
from tests.roles.stage import TIMEOUT, Stage, new_raw_name, until


async def test_a_primary_is_who_owns_the_znode_whatever_its_data_says(stage: Stage) -> None:
    first = await stage.master()
    data = await stage.data(layout.MASTER)
    second = await stage.master(is_primary=False)
    await stage.stop(first)
    await until(lambda: second.is_primary, "the second to be primary")
    await stage.zk.set(layout.MASTER, data)  # the first one's name, but the second one's session

    await stage.worker()
    client = await stage.client()
    await client.put_raw().outcome()
    assert second.is_primary


async def test_a_znode_with_a_masters_own_data_but_another_session_makes_no_primary(stage: Stage) -> None:
    await make_folders(stage.zk)
    await stage.zk.create(layout.MASTER, encode_record(MasterRecord("master-x", "host", 1, 0)))
    master = await stage.master(is_primary=False)
    client = await stage.client()
    submitted = client.put_raw()
    await stage.worker()
    await submitted.accepted
    await asyncio.sleep(0.2)

    assert not master.is_primary
    assert await stage.names(layout.TASKS) == [submitted.name]
    await stage.zk.delete(layout.MASTER)
    await submitted.outcome()


async def test_a_primary_whose_znode_is_taken_away_starts_again_with_a_new_session(stage: Stage) -> None:
    master = await stage.master()
    session = master.session
    await stage.zk.delete(layout.MASTER)
    await until(lambda: master.session is not session, "a new session")
    await until(lambda: master.is_primary, "it to be primary again")

    assert session.state is SessionState.CLOSED  # so nothing late of it can land
    await stage.worker()
    client = await stage.client()
    await client.put_raw().outcome()


async def test_a_master_whose_own_record_is_taken_away_starts_again(stage: Stage) -> None:
    master = await stage.master()
    (name,) = await stage.names(layout.MASTERS)
    await stage.zk.delete(layout.master_record_path(name))
    await until(lambda: _has_other_record(stage, name), "another record")

    await until(lambda: master.is_primary, "it to be primary again")


async def _has_other_record(stage: Stage, name: str) -> bool:
    return await stage.names(layout.MASTERS) not in ([], [name])


async def test_a_worker_starts_nothing_while_it_is_disconnected(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        gate = stage.gate()
        worker = await stage.worker(raw=gate, slots=1, hosts=proxy.hosts)
        first, second = new_raw_name(), new_raw_name()
        await stage.put(layout.assignment_path(worker.name, first))
        await until(lambda: gate.entered == [first], "it to run")
        await stage.put(layout.assignment_path(worker.name, second))
        session = worker._session
        assert session is not None
        await until(lambda: len(session._tasks) == 2, "the second to be prefetched")
        proxy.refuse()
        await until(lambda: worker.session.state is SessionState.DISCONNECTED, "the loss of the connection")
        gate.open()
        await until(lambda: not session.running, "the first to end")
        await asyncio.sleep(0.1)
        assert gate.entered == [first]
        proxy.refuse(refusing=False)
        await stage.until_exists(layout.status_path(second))

        assert gate.entered == [first, second]
        assert await stage.exists(layout.status_path(first))
        await stage.stop(worker)


@pytest.mark.long
async def test_a_worker_that_the_server_hears_no_more_stops_starting_before_its_session_can_lapse(
    namespace: str, stage: Stage
) -> None:
    """Half-open: the connection stands, but nothing passes."""
    async with Proxy(namespace) as proxy:
        started: list[float] = []
        go_on = threading.Event()
        clock = asyncio.get_running_loop().time

        def note(_name: str, _payload: bytes) -> None:
            started.append(clock())
            go_on.wait(0.05)

        worker = await stage.worker(raw=note, slots=1, hosts=proxy.hosts)
        await stage.put(*(layout.assignment_path(worker.name, new_raw_name()) for _ in range(200)))
        await until(lambda: len(started) > 3, "some to run")
        proxy.hold(requests=True, replies=True)
        held_at = clock()
        await stage.until_gone(layout.worker_path(worker.name))
        lapsed_at = clock()
        count = len(started)
        await asyncio.sleep(0.3)
        proxy.pass_on()

        assert started[count - 1] <= held_at + TIMEOUT + 0.3  # a thread may be late to note it
        assert started[-1] < lapsed_at
        await stage.stop(worker)


async def test_a_primary_decides_nothing_while_it_is_disconnected(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        master = await stage.master(hosts=proxy.hosts)
        await stage.worker()
        client = await stage.client()
        await client.put_raw().outcome()
        proxy.refuse()
        await until(lambda: master.session.state is SessionState.DISCONNECTED, "the loss of the connection")
        submitted = client.put_raw()
        await submitted.accepted
        assert await stage.names(layout.TASKS) == [submitted.name]
        proxy.refuse(refusing=False)
        await submitted.outcome()
        await stage.stop(master)
