from __future__ import annotations

import asyncio

import pytest

from chaos.remains import Scene, diverging, look, remains
from herdmaster.core.layout import FOLDERS
from herdmaster.zookeeper.client import Client
from tests.cli.processes import connect

TASK = "task-00000000000000000000000000.default"
WORKER = "worker-00000000000000aa"


def scene(hosts: str, *paths: str, ephemeral: str = "", data: bytes = b"") -> Scene:
    """What is seen when these are there, with the data, beside the folders."""
    with connect(hosts) as znodes:
        for path in (*FOLDERS, *paths):
            znodes.ensure_path(path)
        for path in paths:
            znodes.set(path, data)
        if ephemeral:
            znodes.create(ephemeral, ephemeral=True)

        async def see() -> Scene:
            async with Client(hosts, session_timeout=4.0, connect_timeout=20.0) as client:
                return await look(client)

        return asyncio.run(see())


def test_of_an_empty_namespace_nothing_is_left(namespace: str) -> None:
    assert scene(namespace) == Scene(None, 0, 0, (), 0, 0)


@pytest.mark.parametrize(
    "path",
    [
        f"/tasks/{TASK}",
        f"/delayed/0000000000001-{TASK}",
        f"/status/{TASK}",
        f"/cancel/{TASK}",
        f"/dead/{TASK}",
        "/keys/abc",
        f"/assign/{WORKER}/{TASK}",
    ],
)
def test_what_no_role_will_delete_is_left(namespace: str, path: str) -> None:
    assert scene(namespace, path).left == (path,)


def test_an_outcome_that_was_read_by_name_is_swept_and_not_left(namespace: str) -> None:
    assert scene(namespace, f"/status/{TASK}", f"/waiters/{TASK}", data=b"read").left == ()
    with connect(namespace) as znodes:
        znodes.set(f"/waiters/{TASK}", b"")
    assert scene(namespace).left == (f"/status/{TASK}",)


def test_an_assignment_of_a_living_worker_is_left_too(namespace: str) -> None:
    found = scene(namespace, f"/assign/{WORKER}/{TASK}", ephemeral=f"/workers/{WORKER}")
    assert found.left == (f"/assign/{WORKER}/{TASK}",)
    assert (found.workers, found.empty_inboxes) == (1, 0)


def test_an_empty_inbox_without_a_worker_is_counted(namespace: str) -> None:
    found = scene(namespace, f"/assign/{WORKER}")
    assert (found.left, found.empty_inboxes) == ((), 1)


def test_a_journal_is_left_by_who_is_there_and_counted_of_who_is_gone(namespace: str) -> None:
    found = scene(namespace, "/clients/client-1", "/clients/client-2/alive-0000000000000001")
    assert found.left == ("/clients/client-2",)
    assert found.orphaned_journals == 1


def shows(*left: str, orphaned_journals: int = 0) -> Scene:
    return Scene(1, 2, 4, left, orphaned_journals, 0)


def test_what_most_servers_show_is_left() -> None:
    scenes = [shows("/a", "/b"), shows("/a"), None]
    assert remains(scenes, 0) == ("/a",)
    assert diverging(scenes) == {0: ("/b",)}


def test_servers_that_agree_do_not_diverge() -> None:
    assert diverging([shows("/a"), shows("/a"), shows("/a")]) == {}


def test_more_journals_than_clients_were_killed_are_left() -> None:
    scenes = [shows(orphaned_journals=1)] * 3
    assert remains(scenes, 1) == ()
    assert remains(scenes, 0) == ("the journal of a client that was not killed",)
