"""Closing namespaces, and checking them. What each identity may do is tried on the server, by the table in the
documents."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from herdmaster.core import layout
from herdmaster.core.access import POLICY as POLICY_PATH
from herdmaster.core.access import Identity, Kind, Policy, digest_id, encode_policy, kind_of, letters_of, rights_of
from herdmaster.errors import ConfigurationError
from herdmaster.operations.access import AclSeen, AclState, close_znodes, found_namespace, put_policy, survey
from herdmaster.roles.shared.access import acl_of_kind, read_policy
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Transaction
from herdmaster.zookeeper.model import OPEN_ACL, Acl, Id
from herdmaster.zookeeper.paths import join
from tests.closed import PASSWORD, POLICY, acl_at, close_namespace, reopen, session_of
from tests.docs.links import REPOSITORY

pytestmark = pytest.mark.long

ROW = re.compile(
    r"^\| (?:`(/.*?)`|(any other)) \|(?: ([cdrwa]+|-) \|)(?: ([cdrwa]+|-) \|)(?: ([cdrwa]+|-) \|)(?: ([cdrwa]+|-) \|)$"
)


@pytest.fixture
async def master(namespace: str) -> AsyncIterator[Client]:
    async with session_of(namespace, Identity.MASTER) as client:
        yield client
        await reopen(client)


def example_of(kind: Kind) -> str:
    return "/status/T/stray" if kind is Kind.OTHER else kind.value


async def fill(client: Client) -> None:
    """Create one znode of each kind."""
    await make_folders(client)
    for kind in Kind:
        path = example_of(kind)
        if path not in ("/", POLICY_PATH, *layout.FOLDERS):
            await client.create(path)


async def close(client: Client, policy: Policy = POLICY) -> list[AclSeen]:
    await put_policy(client, policy)
    return [seen async for seen in close_znodes(client, policy)]


async def wrong(client: Client, policy: Policy = POLICY) -> dict[str, AclState]:
    return {seen.path: seen.state async for seen in survey(client, policy) if seen.is_wrong}


def documented() -> dict[tuple[Kind, Identity], str]:
    text = (REPOSITORY / "docs" / "security.md").read_text()
    rows = [match.groups() for match in map(ROW.fullmatch, text.splitlines()) if match is not None]
    return {
        (Kind(path or other), identity): letters
        for path, other, *columns in rows
        for identity, letters in zip(Identity, columns, strict=True)
    }


# --- what each identity may do --------------------------------------------------------------------------------------


async def is_permitted(request: Awaitable[object]) -> bool:
    try:
        await request
    except errors.NoAuth:
        return False
    return True


async def would_pass(transaction: Transaction) -> bool:
    """Whether the server permits the operations. It applies none of them, because the last of them fails."""
    try:
        await transaction.check("/nowhere").commit()
    except errors.TransactionFailed as failure:
        return not isinstance(failure.error, errors.NoAuth)
    raise AssertionError


def attempts(client: Client, path: str) -> dict[str, Callable[[], Awaitable[bool]]]:
    async def administer() -> bool:
        return await is_permitted(client.set_acl(path, acl_of_kind(POLICY, kind_of(path))))

    async def read() -> bool:
        found = {await is_permitted(client.get(path)), await is_permitted(client.children(path))}
        found.add(await would_pass(client.transaction().check(path)))
        (same,) = found
        return same

    child = join(path, "absent")
    return {
        "c": lambda: would_pass(client.transaction().create(child)),
        "d": lambda: would_pass(client.transaction().delete(child)),
        "r": read,
        "w": lambda: would_pass(client.transaction().set(path, b"")),
        "a": administer,
    }


@pytest.mark.parametrize("identity", Identity)
async def test_a_server_permits_an_identity_what_the_documents_say_and_nothing_else(
    identity: Identity, namespace: str, master: Client
) -> None:
    await fill(master)
    await close(master)
    wanted = {kind: letters for (kind, each), letters in documented().items() if each is identity}
    assert wanted.keys() == set(Kind)
    async with session_of(namespace, identity) as client:

        async def found(kind: Kind) -> str:
            tried = attempts(client, example_of(kind))
            passed = await asyncio.gather(*(attempt() for attempt in tried.values()))
            letters = "".join(letter for letter, is_passed in zip(tried, passed, strict=True) if is_passed)
            return letters_of(rights_of(letters))

        assert dict(zip(Kind, await asyncio.gather(*map(found, Kind)), strict=True)) == wanted


async def test_a_session_without_an_identity_may_do_nothing(namespace: str, master: Client) -> None:
    await fill(master)
    await close(master)
    async with session_of(namespace) as client:
        for kind in Kind:
            for attempt in attempts(client, example_of(kind)).values():
                assert not await attempt(), kind


# --- founding, closing, checking ------------------------------------------------------------------------------------


async def test_a_namespace_is_founded_closed(namespace: str, master: Client) -> None:
    hosts = await close_namespace(namespace)
    async with session_of(hosts, Identity.MASTER) as client:
        assert await wrong(client) == {}
        assert await read_policy(client) == POLICY
        assert set(layout.FOLDERS) <= {f"/{name}" for name in await client.children("/")}
    prefix = master.hosts.chroot.prefix
    async with session_of(namespace.removesuffix(prefix), Identity.MASTER) as outside:
        assert not await found_namespace(outside, f"{prefix}/closed", POLICY)
        assert await found_namespace(outside, f"{prefix}/team/closed", POLICY)
        assert await acl_at(outside, f"{prefix}/team") == OPEN_ACL


async def test_a_stranger_founds_nothing(namespace: str, zk: Client) -> None:
    prefix = zk.hosts.chroot.prefix
    async with session_of(namespace.removesuffix(prefix), Identity.WORKER) as outside:
        with pytest.raises(errors.NoAuth):
            await found_namespace(outside, f"{prefix}/closed", POLICY)
    assert await zk.exists("/closed") is None


async def test_an_open_namespace_is_closed_in_steps_that_may_be_repeated(zk: Client, master: Client) -> None:
    await fill(zk)
    await zk.set_acl("/keys/K", (Acl(1, Id("world", "anyone")), Acl(16, Id("world", "anyone"))))
    await zk.create("/of-others")
    before = await wrong(master)
    assert before.pop("/keys/K") is AclState.DIFFERENT
    assert before == dict.fromkeys(
        (example_of(kind) for kind in Kind if kind not in (Kind.POLICY, Kind.KEY)), "open to every session"
    )

    assert await put_policy(master, POLICY)
    after = await wrong(master)
    assert after.keys() == before.keys() - {"/", *layout.FOLDERS} | {"/keys/K"}
    closed = [seen.path async for seen in close_znodes(master, POLICY) if seen.is_wrong]
    assert sorted(closed) == sorted(after)
    assert await wrong(master) == {}
    assert await acl_at(master, "/of-others") == OPEN_ACL

    assert not await put_policy(master, POLICY)
    assert [seen async for seen in close_znodes(master, POLICY) if seen.is_wrong] == []


async def test_what_is_created_meanwhile_is_closed_too(zk: Client, master: Client) -> None:
    await make_folders(zk)
    await zk.create("/tasks/task-1")
    await put_policy(master, POLICY)
    looked = 0
    async for _ in close_znodes(master, POLICY):
        looked += 1
        if looked == 1:  # by a role that has not read the policy yet
            await master.create("/tasks/task-2", acl=OPEN_ACL)
    assert await wrong(master) == {}


async def test_new_ids_replace_the_old_ones(zk: Client, master: Client) -> None:
    await fill(zk)
    await close(master)
    renewed = Policy.of(
        {
            **{each: POLICY.ids_of(each) for each in Identity},
            Identity.WORKER: (f"digest:{digest_id('other', PASSWORD)}", *POLICY.worker),
        }
    )
    assert await put_policy(master, renewed)
    assert (await wrong(master, renewed))["/workers/W"] is AclState.DIFFERENT
    assert [seen async for seen in close_znodes(master, renewed)]
    assert await wrong(master, renewed) == {}


async def test_a_session_that_would_lock_itself_out_changes_nothing(namespace: str, zk: Client) -> None:
    await make_folders(zk)
    async with session_of(namespace, Identity.WORKER) as worker:
        with pytest.raises(ConfigurationError, match="would lock itself out"):
            await put_policy(worker, POLICY)
    assert await zk.exists(POLICY_PATH) is None
    assert await zk.children("/history") == ()
    assert await acl_at(zk, "/") == OPEN_ACL


async def test_hashes_that_a_session_may_not_see_are_no_deviation(namespace: str, master: Client) -> None:
    await close(master)
    async with session_of(namespace, Identity.CLIENT) as client:
        states = await wrong(client)
    assert set(states.values()) == {AclState.UNREADABLE}


async def test_a_policy_of_the_same_ids_is_read_back(zk: Client) -> None:
    await zk.create(POLICY_PATH, encode_policy(POLICY))
    assert await read_policy(zk) == POLICY
