"""The observer sees everything, also what is not ours, and changes nothing."""

from __future__ import annotations

import asyncio

import pytest

from herdmaster.core import layout
from herdmaster.core.members import MasterRecord, WorkerRecord, encode_record
from herdmaster.errors import ConfigurationError
from herdmaster.inspection.overview import MasterSeen, OverviewReader, TaskCounts, WorkerSeen
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import CreateMode

EPHEMERAL = CreateMode.EPHEMERAL


async def since(client: Client, path: str) -> int:
    stat = await client.exists(path)
    assert stat is not None
    return stat.ctime


async def all_paths(client: Client, path: str = "/") -> list[str]:
    found = [path]
    for name in await client.children(path):
        found += await all_paths(client, f"{path.rstrip('/')}/{name}")
    return found


async def test_an_empty_namespace_has_no_member_and_stays_empty(namespace: str) -> None:
    async with Client(namespace) as client:
        overview = await OverviewReader(client).look()
        assert (overview.primary, overview.backups, overview.workers) == (None, (), ())
        assert (overview.tasks, overview.clients) == (TaskCounts(), 0)
        assert await all_paths(client) == ["/"]


async def test_a_namespace_that_does_not_exist_is_an_error_and_is_not_made(namespace: str) -> None:
    with pytest.raises(ConfigurationError, match=r"/absent does not exist"):
        async with Client(f"{namespace}/absent") as client:
            await OverviewReader(client).look()
    async with Client(namespace) as client:
        assert await client.children("/") == ()


async def test_the_session_that_owns_master_is_primary_and_the_others_are_backups(namespace: str) -> None:
    async with Client(namespace) as one, Client(namespace) as two:
        await make_folders(one)
        records = {}
        for client, name in ((one, "master-1"), (two, "master-2")):
            records[name] = encode_record(MasterRecord(name, "host", 7, 5))
            await client.create(layout.master_record_path(name), records[name], mode=EPHEMERAL)
        # The data claims to be the other one: it is the session that counts.
        await two.create(layout.MASTER, records["master-1"], mode=EPHEMERAL)
        overview = await OverviewReader(one).look()
        assert overview.primary == MasterSeen("master-1", await since(one, layout.MASTER), "host", 7)
        path = layout.master_record_path("master-1")
        assert overview.backups == (MasterSeen("master-1", await since(one, path), "host", 7),)


async def test_roles_of_the_reference_are_seen_as_what_they_wrote(namespace: str) -> None:
    async with Client(namespace) as client:
        await make_folders(client)
        await client.create(layout.MASTER, b"1f\x1b[2J3", mode=EPHEMERAL)
        await client.create(layout.inbox_path("worker-1"))
        await client.create(layout.assignment_path("worker-1", "task-1"), b"data")
        await client.create(layout.worker_path("worker-1"), b"Idle", mode=EPHEMERAL)
        overview = await OverviewReader(client).look()
        when = await since(client, layout.MASTER)
        assert overview.primary == MasterSeen("0x31661b5b324a33", when, program="Java or C")
        when = await since(client, layout.worker_path("worker-1"))
        assert overview.workers == (WorkerSeen("worker-1", when, "Idle", 1, 1, ("default",)),)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"6b8b", "6b8b"),  # the C program: the first four digits of its id
        (b"6b8\0", "6b8"),
        (b"\x67\xc6\xff\x6b", "0x67c6ff6b"),
        (b"host-1:2181", "host-1:2181"),
        (b"\0\0\0\0", "(no id)"),
        (None, "(no id)"),
    ],
)
async def test_the_id_of_a_master_of_the_reference_is_made_readable(
    data: bytes | None, name: str, namespace: str
) -> None:
    async with Client(namespace) as client:
        await client.create(layout.MASTER, data, mode=EPHEMERAL)
        primary = (await OverviewReader(client).look()).primary
        assert primary is not None
        assert primary.name == name


async def test_of_curator_masters_the_one_with_the_lowest_number_is_primary(namespace: str) -> None:
    async with Client(namespace) as client:
        await client.create(layout.MASTER)
        second = await client.create(f"{layout.MASTER}/_c_a-latch-", b"", mode=CreateMode.EPHEMERAL_SEQUENTIAL)
        await client.create(f"{layout.MASTER}/_c_c-latch-", b"host-2:99", mode=CreateMode.EPHEMERAL_SEQUENTIAL)
        overview = await OverviewReader(client).look()
        assert overview.primary is not None
        assert (overview.primary.name, overview.primary.program) == (layout.name_of(second), "Curator")
        assert [(each.name, each.program) for each in overview.backups] == [("host-2:99", "Curator")]
        assert not overview.master_is_left
        for name in await client.children(layout.MASTER):
            await client.delete(f"{layout.MASTER}/{name}")
        overview = await OverviewReader(client).look()

    assert (overview.primary, overview.backups, overview.master_is_left) == (None, (), True)


@pytest.mark.parametrize("data", [None, b"", b"\xff\0garbage", b"{", b'{"slots": -1}', b"[" * 10_000, b"x" * 100_000])
async def test_a_worker_that_says_nothing_usable_is_unknown(data: bytes | None, namespace: str) -> None:
    async with Client(namespace) as client:
        await make_folders(client)
        await client.create(layout.worker_path("worker-1"), data, mode=EPHEMERAL)
        await client.create(layout.MASTER, data, mode=EPHEMERAL)
        overview = await OverviewReader(client).look()
        (worker,) = overview.workers
        assert (worker.name, worker.state, worker.slots) == ("worker-1", "unknown", None)
        assert overview.primary is not None
        assert len(overview.primary.name) <= 100
        assert overview.primary.name.isprintable()


async def test_tasks_are_counted_by_where_they_are(namespace: str) -> None:
    async with Client(namespace) as client:
        await make_folders(client)
        record = WorkerRecord(3, ("default", "mail"), "draining", "host", 7, 5, "0.1.0")
        await client.create(layout.worker_path("worker-1"), encode_record(record), mode=EPHEMERAL)
        for worker in ("worker-1", "worker-gone"):
            await client.create(layout.inbox_path(worker))
        paths = [layout.task_path("task-1"), layout.delayed_path(5, "task-2"), layout.delayed_path(6, "task-3")]
        paths += [layout.assignment_path("worker-1", f"task-a{n}") for n in range(3)]
        paths += [layout.assignment_path("worker-gone", f"task-b{n}") for n in range(4)]
        paths += [layout.status_path(f"task-c{n}") for n in range(5)]
        paths += [layout.dead_path("task-d"), layout.client_path("client-1")]
        await asyncio.gather(*map(client.create, paths))
        overview = await OverviewReader(client).look()
        assert overview.tasks == TaskCounts(backlog=1, delayed=2, assigned=3, recovering=4, ended=5, dead=1)
        assert overview.clients == 1
        when = await since(client, layout.worker_path("worker-1"))
        assert overview.workers == (
            WorkerSeen("worker-1", when, "draining", 3, 3, ("default", "mail"), "host", 7, "0.1.0", calls=True),
        )


async def test_names_that_no_role_has_are_left_out(namespace: str) -> None:
    async with Client(namespace) as client:
        await make_folders(client)
        for path in ("/workers/someone", "/masters/someone", "/assign/someone", "/assign/someone/task-1"):
            await client.create(path)
        overview = await OverviewReader(client).look()
        assert (overview.primary, overview.backups, overview.workers) == (None, (), ())
        assert overview.tasks == TaskCounts()


@pytest.mark.long
async def test_more_members_than_are_read_at_once_are_all_seen(namespace: str) -> None:
    async with Client(namespace) as client:
        await make_folders(client)
        await asyncio.gather(*(client.create(layout.worker_path(f"worker-{n}"), b"Idle") for n in range(450)))
        assert len((await OverviewReader(client).look()).workers) == 450


async def test_a_look_sees_what_another_session_has_just_done(namespace: str) -> None:
    async with Client(namespace) as one, Client(namespace) as two:
        await make_folders(one)
        observer = OverviewReader(two)
        for number in range(1, 20):
            await one.create(layout.task_path(f"task-{number}"))
            assert (await observer.look()).tasks.backlog == number
