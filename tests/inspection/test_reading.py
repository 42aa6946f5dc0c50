"""Listings of a namespace in which some znodes may not be read: the rest is listed, and what is left out is told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from herdmaster.core import layout
from herdmaster.core.keys import hash_key
from herdmaster.core.names import call_name, raw_name
from herdmaster.inspection.overview import OverviewReader
from herdmaster.inspection.queues import look_at_queues
from herdmaster.inspection.reading import ListingReader, Unreadable
from herdmaster.inspection.task_seen import TaskFilter, TaskState
from herdmaster.inspection.tasks import Inspector
from herdmaster.operations.keys import find_key, list_keys
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.client.presented import NOTHING
from herdmaster.zookeeper.model import OPEN_ACL, Acl, Id, Permission

ONLY_AL = (Acl(int(Permission.ALL), Id("digest", "al:x")),)
CALL = call_name("01jd0000000000000000000002", "mail")
SECRET = call_name("01jd0000000000000000000003", "mail")
RAW = raw_name("01jd0000000000000000000001")
OPEN_WORKER, SECRET_WORKER = "worker-a", "worker-b"
RECORD = b'{"slots":2,"queues":["mail"]}'


@pytest.fixture
async def client(namespace: str) -> AsyncIterator[Client]:
    """In a namespace where another identity keeps to itself an inbox, a worker, a queue, a raw task and a dead task."""
    async with Client(namespace) as client:
        await make_folders(client)
        await client.create(layout.task_path(CALL), b"{}")
        await client.create(layout.task_path(RAW), b"x", acl=ONLY_AL)
        await client.create(layout.dead_path(SECRET), b"{}", acl=ONLY_AL)
        for worker, acl in ((OPEN_WORKER, OPEN_ACL), (SECRET_WORKER, ONLY_AL)):
            for path in (layout.worker_path(worker), layout.inbox_path(worker)):
                await client.create(path, RECORD, acl=acl)
        await client.create(layout.queue_path("mail"), b'{"paused":true}', acl=ONLY_AL)
        yield client
        await delete_unreadable(client)


async def delete_unreadable(client: Client) -> None:
    """What removes the namespace after the test lists each znode first. To delete one, it need not be read."""
    paths = [layout.task_path(RAW), layout.dead_path(SECRET), layout.queue_path("mail")]
    paths += [layout.worker_path(SECRET_WORKER), layout.inbox_path(SECRET_WORKER)]
    for path in paths:
        await client.delete(path)


def refused(path: str) -> errors.NoAuth:
    return errors.NoAuth(path, f"READ on {path}", str(NOTHING))


async def test_queues_are_counted_without_what_cannot_be_read(client: Client) -> None:
    unreadable = Unreadable()
    found = {seen.name: seen for seen in await look_at_queues(client, unreadable)}
    assert (found["mail"].pending, found["mail"].workers) == (1, 1)
    left_out = {layout.inbox_path(SECRET_WORKER), layout.worker_path(SECRET_WORKER), layout.queue_path("mail")}
    assert len(unreadable) == len(left_out)
    assert str(unreadable) == (
        f"3 znodes were left out, because they cannot be read; the first: {refused(layout.inbox_path(SECRET_WORKER))}"
    )


async def test_tasks_that_cannot_be_read_are_listed_by_their_names(client: Client) -> None:
    unreadable = Unreadable()
    inspector = Inspector(client, unreadable)
    seen = [(each.name, each.state) async for each in inspector.list_tasks(TaskFilter())]
    assert seen == [(RAW, TaskState.PENDING), (CALL, TaskState.PENDING), (SECRET, TaskState.DEAD)]
    assert str(unreadable) == (
        f"1 znode was left out, because it cannot be read: {refused(layout.inbox_path(SECRET_WORKER))}"
    )


async def test_a_task_that_cannot_be_read_is_found_with_what_is_wrong(client: Client) -> None:
    for name, path in ((SECRET, layout.dead_path(SECRET)), (RAW, layout.task_path(RAW))):
        found = await Inspector(client).find(name)
        assert found is not None
        assert found.fault == f"it cannot be read: {refused(path)}"


async def test_an_overview_shows_what_can_be_read(client: Client) -> None:
    unreadable = Unreadable()
    overview = await OverviewReader(client, unreadable).look()
    assert [worker.name for worker in overview.workers] == [OPEN_WORKER]
    assert (overview.tasks.backlog, overview.tasks.dead) == (2, 1)
    assert unreadable


async def test_keys_are_listed_without_those_that_cannot_be_read(client: Client) -> None:
    unreadable = Unreadable()
    for key, acl in (("open", OPEN_ACL), ("secret", ONLY_AL)):
        await client.create(layout.key_path(hash_key(key)), CALL.encode(), acl=acl)
    assert [seen.hash async for seen in list_keys(client, unreadable)] == [hash_key("open")]
    assert len(unreadable) == 1
    with pytest.raises(errors.NoAuth):
        await find_key(client, "secret")
    await client.delete(layout.key_path(hash_key("secret")))


async def test_what_is_gone_is_not_told_as_unreadable(client: Client) -> None:
    unreadable = Unreadable()
    reader = ListingReader(client, unreadable)
    assert await reader.names("/missing") == ()
    assert await reader.count("/missing") == 0
    assert await reader.stats(["/missing"]) == [None]
    assert await reader.nodes(["/missing"]) == {}
    assert not unreadable
    assert str(unreadable) == "nothing was left out"
