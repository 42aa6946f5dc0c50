from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from herdmaster.core import layout, transitions
from herdmaster.core.access import POLICY, Identity, Kind, Policy, encode_policy
from herdmaster.errors import BadPolicy
from herdmaster.roles.shared.access import Access, PolicyAcls, acl_of_kind, read_policy, use_policy
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.roles.shared.committer import Committer, Fate, Settlement
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import OPEN_ACL, READ_ONLY_ACL, CreateMode
from tests.closed import POLICY as POLICY_OF_ALL
from tests.closed import acl_at, reopen, session_of
from tests.roles.stage import until


@pytest.fixture
async def master(namespace: str) -> AsyncIterator[Client]:
    async with session_of(namespace, Identity.MASTER) as client:
        yield client
        await reopen(client)


async def put_policy(client: Client, data: bytes = encode_policy(POLICY_OF_ALL)) -> None:
    """With an open ACL, so that the fixture can delete it."""
    await client.create(POLICY, data, acl=OPEN_ACL)


async def test_without_a_policy_everything_is_open(zk: Client) -> None:
    assert await read_policy(zk) is None
    await use_policy(zk)
    await zk.create("/tasks")
    assert await acl_at(zk, "/tasks") == OPEN_ACL


async def test_every_way_to_create_gives_a_znode_the_acl_of_its_kind(zk: Client, master: Client) -> None:
    await make_folders(zk)
    await put_policy(zk)
    await use_policy(master)
    await master.create("/keys/K")
    await master.create("/masters/M", mode=CreateMode.EPHEMERAL)
    await master.create("/tasks/task-", mode=CreateMode.PERSISTENT_SEQUENTIAL)
    await master.transaction().create("/status/T").create("/assign/W").create("/assign/W/T").commit()
    created: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
    master.create_nowait("/clients/C", b"", lambda path, _error: created.set_result(path))
    assert await created == "/clients/C"
    made = {
        "/keys/K": Kind.KEY,
        "/masters/M": Kind.MASTER_RECORD,
        "/tasks/task-0000000000": Kind.TASK,
        "/status/T": Kind.OUTCOME,
        "/assign/W": Kind.INBOX,
        "/assign/W/T": Kind.ASSIGNMENT,
        "/clients/C": Kind.JOURNAL,
    }
    for path, kind in made.items():
        assert await acl_at(master, path) == acl_of_kind(POLICY_OF_ALL, kind)


async def test_an_acl_that_is_given_stays(zk: Client) -> None:
    zk.default_acls = PolicyAcls(POLICY_OF_ALL)
    await zk.create("/tasks", acl=READ_ONLY_ACL)
    assert await acl_at(zk, "/tasks") == READ_ONLY_ACL


async def test_a_session_uses_a_policy_that_comes_later(zk: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "herdmaster")
    access = Access()
    await access.begin(zk)
    following = asyncio.ensure_future(access.follow(zk))
    await put_policy(zk)
    await until(lambda: zk.default_acls is not None, "the policy")
    await zk.set(POLICY, encode_policy(Policy.of(dict.fromkeys(Identity, POLICY_OF_ALL.master))))
    await until(lambda: isinstance(acls := zk.default_acls, PolicyAcls) and acls.policy != POLICY_OF_ALL, "the next")
    known = zk.default_acls
    await zk.set(POLICY, b"no policy")
    await until(lambda: "goes on with the policy that it knows" in caplog.text, "the fault to be logged")
    assert zk.default_acls is known
    await zk.delete(POLICY)
    await until(lambda: zk.default_acls is None, "no policy")
    following.cancel()
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "ERROR", "WARNING"]


@pytest.mark.usefixtures("master")
async def test_a_session_without_an_identity_is_told(zk: Client) -> None:
    await zk.create(POLICY, encode_policy(POLICY_OF_ALL), acl=acl_of_kind(POLICY_OF_ALL, Kind.POLICY))
    with pytest.raises(errors.NoAuth, match="the right READ on /access; it has presented no credential"):
        await use_policy(zk)


async def test_a_policy_that_cannot_be_read_makes_no_namespace_open(zk: Client) -> None:
    await put_policy(zk, b"{}")
    with pytest.raises(BadPolicy):
        await use_policy(zk)


async def test_where_a_policy_is_a_missing_folder_waits_for_a_master(zk: Client, master: Client) -> None:
    await make_folders(zk)
    await zk.delete(layout.HISTORY)
    await put_policy(zk)
    await zk.set_acl("/", acl_of_kind(POLICY_OF_ALL, Kind.NAMESPACE))
    async with session_of(str(zk.hosts), Identity.WORKER) as worker:
        for client in (worker, master):
            await use_policy(client)
        assert await make_folders(worker) == []
        assert await make_folders(master) == [layout.HISTORY]


async def test_moves_that_lack_a_right_are_refused_together_and_logged_once(
    zk: Client, caplog: pytest.LogCaptureFixture
) -> None:
    await make_folders(zk)
    names = [f"task-{number}" for number in range(5)]
    for name in names:
        await zk.create(layout.task_path(name))
    await zk.set_acl(layout.STATUS, READ_ONLY_ACL)
    settled: list[Settlement] = []
    committer = Committer(zk)
    for _ in range(2):
        committer.commit([transitions.refuse(name, b"", None) for name in names], settled.append)
    await until(lambda: len(settled) == 10, "the answers")
    assert {each.fate for each in settled} == {Fate.REFUSED}
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage() == (
        "refuse of task-0 was refused: operation 1 of the transaction: NoAuth: /status/task-0: "
        "this session lacks the right CREATE on /status; it has presented no credential: give it the credentials of an "
        "identity that has this right (docs/security.md lists them)"
    )
