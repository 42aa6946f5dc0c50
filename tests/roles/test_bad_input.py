"""Bad input of every kind: one clear error where it belongs, and everything else goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from herdmaster.core import layout
from herdmaster.core.outcome import decode_outcome
from herdmaster.core.payload import MAX_PAYLOAD
from herdmaster.core.recovery import MAX_MOVABLE
from herdmaster.core.transitions import NewTask
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.model import READ_ONLY_ACL, Acl, CreateMode, Id, Permission
from tests.roles.stage import (
    TIMEOUT,
    Ran,
    Stage,
    StagedClient,
    StagedMaster,
    StagedWorker,
    call_payload,
    new_call_name,
    new_raw_name,
    until,
)

NOT_READABLE = (Acl(int(Permission.ALL & ~Permission.READ), Id("world", "anyone")),)


@pytest.fixture
async def client(stage: Stage) -> AsyncIterator[StagedClient]:
    await stage.master()
    await stage.worker({"m:f": lambda: 1})
    client = await stage.client()
    yield client
    # Whatever a test put there, the others are unharmed.
    assert await client.put_call("m:f").result() == 1
    await client.put_raw().outcome()


async def failure(stage: Stage, name: str) -> str:
    """The error's type of a task that no client of ours waits for."""
    await stage.until_exists(layout.status_path(name))
    error = decode_outcome(name, await stage.data(layout.status_path(name))).error
    assert error is not None
    return error.type


@pytest.mark.parametrize("size", [1_048_000, MAX_MOVABLE + 1])
async def test_a_raw_task_that_is_too_large_to_be_moved_is_refused(
    stage: Stage, client: StagedClient, size: int
) -> None:
    name = "task-0000000007"  # put there by another client
    await stage.put(layout.task_path(name), data=b"x" * size)

    assert await failure(stage, name) == "PayloadTooLarge"
    assert await stage.data(layout.status_path(name)) == b"failed: PayloadTooLarge"
    await stage.until_empty(layout.TASKS)


async def test_many_tasks_that_are_too_large_are_refused_one_and_all(stage: Stage, client: StagedClient) -> None:
    names = [f"task-{number:010d}" for number in range(30)]
    for name in names:
        await stage.put(layout.task_path(name), data=b"x" * 1_000_000)

    for name in names:
        assert await failure(stage, name) == "PayloadTooLarge"


async def test_a_payload_of_the_largest_size_runs(stage: Stage, client: StagedClient) -> None:
    submitted = client.put_raw(b"x" * MAX_PAYLOAD)

    assert (await submitted.outcome()).error is None


@pytest.mark.parametrize("data", [b"", b"garbage", call_payload("m:f")[:-3], b"\x00" * 5000, b"[" * 5000])
async def test_garbage_and_truncated_envelopes_end_with_an_error(client: StagedClient, data: bytes) -> None:
    error = (await client.put(NewTask(new_call_name(), data)).outcome()).error

    assert error is not None
    assert error.type == "BadPayload"


@pytest.mark.long
async def test_an_unknown_call_ends_with_an_error(client: StagedClient) -> None:
    error = (await client.put_call("os:system", "true").outcome()).error

    assert error is not None
    assert error.type == "UnknownCall"


async def test_names_that_are_no_tasks_in_tasks_are_told_once_and_left_alone(
    stage: Stage, client: StagedClient, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["garbage", "task-", "task-01.UPPER", "..x"]
    long = "task-" + "x" * 300
    await stage.put(*map(layout.task_path, [*names, long]))
    await client.put_raw().outcome()

    def told(name: str) -> int:
        return caplog.messages.count(f"{name!r:.200} is not a name that Herdmaster uses: left alone")

    await until(lambda: all(told(name) == 1 for name in [*names, long]), "a warning for each")
    assert await stage.names(layout.TASKS) == sorted([*names, long])


async def test_names_that_are_no_workers_are_left_alone(
    stage: Stage, client: StagedClient, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.put("/workers/bob", "/assign/bob/task-0000000001", "/assign/eve")
    await client.put_raw().outcome()
    await until(lambda: any("'bob' is not a name" in message for message in caplog.messages), "a warning")

    assert await stage.names("/assign/bob") == ["task-0000000001"]


@pytest.mark.parametrize("data", [b"", b"garbage", b"{}", b'{"slots":-1}', b'{"slots":"many"}', b"\xff\xfe"])
async def test_a_worker_node_with_garbage_gets_no_tasks(
    stage: Stage, client: StagedClient, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    await stage.put("/assign/worker-bad")
    await stage.put("/workers/worker-bad", data=data)
    for each in [client.put_raw() for _ in range(20)]:
        await each.outcome()

    assert await stage.names("/assign/worker-bad") == []
    assert sum("the znode of worker-bad cannot be used" in message for message in caplog.messages) == 1


async def test_a_worker_that_comes_to_its_senses_gets_tasks(stage: Stage) -> None:
    await stage.master()
    await stage.put("/assign/worker-1a2b")
    await stage.put("/workers/worker-1a2b", data=b"garbage")
    await stage.put(layout.task_path(name := new_raw_name()))
    await stage.zk.set("/workers/worker-1a2b", b"Idle")

    await stage.until_exists(layout.assignment_path("worker-1a2b", name))


async def test_garbage_in_the_znode_of_the_primary_does_no_harm(stage: Stage, client: StagedClient) -> None:
    await stage.zk.set(layout.MASTER, b"\xff garbage")
    await client.put_raw().outcome()


# --- znodes that may not be touched ----------------------------------------------------------------------------------


async def test_a_task_that_may_not_be_read_is_refused_and_not_asked_for_again_and_again(
    stage: Stage, client: StagedClient
) -> None:
    name = new_call_name()
    await stage.zk.create(layout.task_path(name), call_payload("m:f"), acl=NOT_READABLE)
    stage.break_connections()  # no event tells of it, but a listing does

    assert await failure(stage, name) == "BadPayload"


async def test_a_task_that_another_identity_alone_may_read_is_found_and_refused_with_the_reason(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """No event tells of it, nor of its end, and no connection breaks: the number of names does."""
    await stage.put(f"{layout.TASKS}/no task's name")
    await stage.master(MasterSettings(session_timeout=TIMEOUT, recount_seconds=0.1))
    await stage.worker(raw=Ran())
    only_al = (Acl(int(Permission.ALL), Id("digest", "al:x")),)  # what CREATOR_ALL_ACL makes of it
    path = await stage.zk.create(f"{layout.TASKS}/task-", b"x", mode=CreateMode.PERSISTENT_SEQUENTIAL, acl=only_al)
    name = layout.name_of(path)
    await stage.until_exists(layout.status_path(name))

    reason = f"its payload cannot be read: NoAuth on {path}"
    assert await stage.data(layout.status_path(name)) == f"failed: BadPayload: {reason}".encode()
    assert f"refused {name}: {reason}" in caplog.messages
    assert await stage.names(layout.TASKS) == ["no task's name"]


async def test_an_assignment_that_may_not_be_read_ends_with_an_error(stage: Stage, client: StagedClient) -> None:
    (worker,) = await stage.names(layout.WORKERS)
    name = new_call_name()
    await stage.zk.create(layout.assignment_path(worker, name), call_payload("m:f"), acl=NOT_READABLE)
    stage.break_connections()

    assert await failure(stage, name) == "BadPayload"


async def test_an_assignment_of_a_lost_worker_that_may_not_be_read_is_refused(stage: Stage) -> None:
    name = new_raw_name()
    await stage.put("/assign/worker-gone")
    await stage.zk.create(f"/assign/worker-gone/{name}", b"x", acl=NOT_READABLE)
    await stage.master(MasterSettings(session_timeout=TIMEOUT))

    assert await failure(stage, name) == "BadPayload"
    await stage.until_gone("/assign/worker-gone")


async def test_a_task_with_children_is_set_aside(
    stage: Stage, client: StagedClient, caplog: pytest.LogCaptureFixture
) -> None:
    name = new_raw_name()
    await stage.put(layout.task_path(name), layout.task_path(name) + "/child")
    await client.put_raw().outcome()
    await until(lambda: any(name in message and "NotEmpty" in message for message in caplog.messages), "the error")

    assert sum(name in message for message in caplog.messages) == 1


async def test_an_inbox_that_may_not_be_listed_holds_up_no_takeover(stage: Stage) -> None:
    await stage.put("/assign")
    await stage.zk.create("/assign/worker-shut", b"", acl=NOT_READABLE)
    await stage.put("/workers/worker-shut", data=b"Idle")
    await stage.put(layout.task_path(name := new_raw_name()))
    ran = Ran()
    await stage.worker(raw=ran)
    await stage.master()

    await stage.until_exists(layout.status_path(name))


async def test_an_inbox_that_takes_no_tasks_keeps_none_from_other_workers(stage: Stage) -> None:
    await stage.put("/assign")
    await stage.zk.create("/assign/worker-shut", b"", acl=READ_ONLY_ACL)
    await stage.put("/workers/worker-shut", data=b"Idle")
    await stage.master()
    ran = Ran()
    await stage.worker(raw=ran, slots=8)

    async def others_run() -> bool:
        await stage.put(layout.task_path(new_raw_name()))
        return len(ran.names) >= 4

    # The tasks that it was chosen for are set aside for a while.
    await until(others_run, "others to run")


# --- connecting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["master", "worker", "client"])
async def test_a_missing_chroot_is_created(stage: Stage, kind: str) -> None:
    hosts = f"{stage.hosts}/deep/er"
    roles = {"master": StagedMaster(hosts), "worker": StagedWorker(hosts, {}), "client": StagedClient(hosts)}
    role = roles[kind]
    stage.start(role)
    await stage.until_exists("/deep/er/progress")
    await stage.stop(role)


def test_a_bad_connect_string_is_refused_at_once() -> None:
    for bad in ("", "host:port", "127.0.0.1:2181/a//b", "127.0.0.1:99999"):
        with pytest.raises(errors.InvalidConnectString):
            StagedClient(bad)
