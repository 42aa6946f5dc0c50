"""ZooKeeper's operations, one by one."""

from __future__ import annotations

import asyncio
import base64
import hashlib

import pytest

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.client.credentials import Digest
from herdmaster.zookeeper.model import (
    CREATOR_ALL_ACL,
    OPEN_ACL,
    READ_ONLY_ACL,
    Acl,
    ClientInfo,
    CreateMode,
    Id,
    Permission,
)
from herdmaster.zookeeper.wire.framing import MAX_FRAME
from tests.zookeeper.client.sessions import client_of

AL = Digest("al", "pw")
BO = Digest("bo", "pa:ss")


# --- znodes ----------------------------------------------------------------------------------------------------------


async def test_a_znode_lives_from_create_to_delete(server: str) -> None:
    async with client_of(server) as client:
        assert await client.exists("/a") is None
        assert await client.create("/a", b"one") == "/a"
        data, stat = await client.get("/a")
        assert (data, stat.version, stat.data_length) == (b"one", 0, 3)
        assert (await client.set("/a", b"three")).version == 1
        assert await client.get("/a") == (b"three", await client.exists("/a"))
        await client.delete("/a")
        assert await client.exists("/a") is None


async def test_null_and_empty_data_stay_apart(server: str) -> None:
    async with client_of(server) as client:
        await client.create("/null", None)
        await client.create("/empty", b"")
        assert (await client.get("/null"))[0] is None
        assert (await client.get("/empty"))[0] == b""
        await client.set("/empty", None)
        assert (await client.get("/empty"))[0] is None


async def test_a_version_guards_set_and_delete(server: str) -> None:
    async with client_of(server) as client:
        await client.create("/a")
        with pytest.raises(errors.BadVersion):
            await client.set("/a", b"", version=1)
        await client.set("/a", b"", version=0)
        with pytest.raises(errors.BadVersion):
            await client.delete("/a", version=0)
        await client.delete("/a", version=1)


async def test_refusals_say_what_and_where(server: str) -> None:
    async with client_of(server) as client:
        await client.create("/a")
        await client.create("/a/b")
        with pytest.raises(errors.NodeExists, match="NodeExists: /a"):
            await client.create("/a")
        with pytest.raises(errors.NotEmpty):
            await client.delete("/a")
        for call in (client.get("/x"), client.set("/x", b""), client.delete("/x"), client.children("/x")):
            with pytest.raises(errors.NoNode) as caught:
                await call
            assert caught.value.path == "/x"
        with pytest.raises(errors.NoNode):
            await client.create("/x/y")


async def test_children_come_by_name(server: str) -> None:
    async with client_of(server) as client:
        await client.create("/a")
        for name in ("x", "y", "é漢"):
            await client.create(f"/a/{name}")
        assert sorted(await client.children("/a")) == ["x", "y", "é漢"]
        names, stat = await client.children_and_stat("/a")
        assert (len(names), stat.num_children, stat.cversion) == (3, 3, 3)
        assert await client.count_descendants("/") == 4


async def test_a_sequential_znode_gets_a_number_even_at_the_root_of_a_namespace(server: str) -> None:
    async with client_of(server) as client:
        first = await client.create("/task-", mode=CreateMode.PERSISTENT_SEQUENTIAL)
        second = await client.create("/", mode=CreateMode.EPHEMERAL_SEQUENTIAL)
        assert (first, second) == ("/task-0000000000", "/0000000001")
        await client.create("/in")
        assert await client.create("/in/", mode=CreateMode.PERSISTENT_SEQUENTIAL) == "/in/0000000000"
        assert sorted(await client.children("/")) == ["0000000001", "in", "task-0000000000"]


async def test_an_ephemeral_belongs_to_its_session_and_goes_with_it(server: str) -> None:
    async with client_of(server) as observer:
        async with client_of(server) as owner:
            await owner.create("/e", mode=CreateMode.EPHEMERAL)
            await owner.create("/ephemeral", mode=CreateMode.EPHEMERAL)
            assert (await observer.get("/e"))[1].ephemeral_owner == owner.session_id
            assert sorted(await owner.ephemerals()) == ["/e", "/ephemeral"]
            assert await owner.ephemerals("/ep") == ("/ephemeral",)
            assert await observer.ephemerals() == ()
            for prefix in ("", "e", "uct/e"):
                with pytest.raises(errors.InvalidPath, match="must start with '/'"):
                    await owner.ephemerals(prefix)
            with pytest.raises(errors.NoChildrenForEphemerals):
                await observer.create("/e/child")
        assert await observer.exists("/e") is None


async def test_a_container_is_created(server: str) -> None:
    async with client_of(server) as client:
        assert await client.create("/c", mode=CreateMode.CONTAINER) == "/c"
        await client.transaction().create("/d", mode=CreateMode.CONTAINER).create("/d/e").commit()
        assert await client.exists("/d/e")


@pytest.mark.parametrize("path", ["", "a", "/a/", "//a", "/a/../b", "/a\0", "/\U0001f600"])
async def test_an_invalid_path_is_refused_here(server: str, path: str) -> None:
    async with client_of(server) as client:
        for call in (client.get, client.create, client.delete, client.exists, client.children, client.sync):
            with pytest.raises(errors.InvalidPath):
                await call(path)
        with pytest.raises(errors.InvalidPath):
            client.transaction().delete(path)
        assert await client.children("/") == ()


async def test_what_no_server_would_take_is_refused_here_and_costs_no_connection(server: str) -> None:
    async with client_of(server) as client:
        await client.create("/a")
        with pytest.raises(errors.RequestTooLarge, match="the limit of a frame is 1048575"):
            await client.set("/a", bytes(MAX_FRAME))
        assert (await client.set("/a", bytes(1_000_000))).data_length == 1_000_000
        assert (await client.get("/a"))[0] == bytes(1_000_000)


async def test_a_listing_may_be_longer_than_a_request(server: str) -> None:
    async with client_of(server) as client:
        names = {f"{number:04d}-{'n' * 895}" for number in range(1200)}
        creates, deletes = [client.transaction()], [client.transaction()]
        for name in names:
            creates[-1].create(f"/{name}")
            deletes[-1].delete(f"/{name}")
            if len(creates[-1]) == 400:
                creates.append(client.transaction())
                deletes.append(client.transaction())
        for transaction in creates:
            await transaction.commit()
        assert sum(map(len, names)) > MAX_FRAME
        assert set(await client.children("/")) == names
        for transaction in deletes:  # faster than the fixture would
            await transaction.commit()


async def test_requests_are_answered_in_order_and_see_each_other(server: str) -> None:
    async with client_of(server) as client:
        await client.create("/a")
        writes = [asyncio.ensure_future(client.set("/a", str(number).encode())) for number in range(300)]
        await asyncio.sleep(0)  # they are asked in this order
        reads = []
        for _ in range(3):
            reads.append(asyncio.ensure_future(client.get("/a")))
            await asyncio.sleep(0)
        assert [stat.version for stat in await asyncio.gather(*writes)] == list(range(1, 301))
        assert {data for data, _ in await asyncio.gather(*reads)} == {b"299"}


async def test_sync_makes_reads_see_what_was_written_before(server: str) -> None:
    async with client_of(server) as writer, client_of(server) as reader:
        await writer.create("/a", b"new")
        await reader.sync()
        assert (await reader.get("/a"))[0] == b"new"


async def test_many_znodes_are_read_at_once_each_with_its_own_result(server: str) -> None:
    async with client_of(server) as client:
        await client.create("/a", b"one")
        await client.create("/b", None)
        one, missing, null, again = await client.multi_read(["/a", "/missing", "/b", "/a"])
        assert one == again == await client.get("/a")
        assert null == (None, await client.exists("/b"))
        assert isinstance(missing, errors.NoNode)
        assert missing.path == "/missing"
        assert await client.multi_read([]) == []
        assert len(await client.multi_read(f"/{name}" for name in "ab" * 200)) == 400


# --- namespaces ------------------------------------------------------------------------------------------------------


async def test_a_namespace_hides_its_neighbours(server: str) -> None:
    async with client_of(server) as outer:
        for folder in ("/app", "/apple"):
            await outer.create(folder)
        async with client_of(f"{server}/app") as app, client_of(f"{server}/apple") as apple:
            assert await app.create("/a") == "/a"
            assert await apple.create("/e", mode=CreateMode.EPHEMERAL) == "/e"
            assert await app.children("/") == ("a",)
            assert await outer.children("/app") == ("a",)
            assert await app.ephemerals() == ()
            assert await apple.ephemerals() == ("/e",)
            with pytest.raises(errors.NoNode, match=r"^NoNode: /e$"):
                await app.get("/e")
            assert [str(error) for error in await app.multi_read(["/e"])] == ["NoNode: /e"]


async def test_a_namespace_must_exist(server: str) -> None:
    async with client_of(f"{server}/absent") as client:
        with pytest.raises(errors.NoNode):
            await client.create("/a")
        assert await client.exists("/") is None


# --- access ----------------------------------------------------------------------------------------------------------


async def test_an_acl_is_read_and_set_with_a_version_of_its_own(server: str) -> None:
    async with client_of(server) as client:
        await client.create("/a")
        acl, stat = await client.get_acl("/a")
        assert (acl, stat.aversion) == (OPEN_ACL, 0)
        assert (await client.set_acl("/a", READ_ONLY_ACL, version=0)).aversion == 1
        assert (await client.get_acl("/a"))[0] == READ_ONLY_ACL
        with pytest.raises(errors.NoAuth):
            await client.set("/a", b"")
        with pytest.raises(errors.NoAuth):
            await client.set_acl("/a", OPEN_ACL)


async def test_an_acl_version_guards(server: str) -> None:
    async with client_of(server) as client:
        await client.create("/a")
        with pytest.raises(errors.BadVersion):
            await client.set_acl("/a", OPEN_ACL, version=7)
        with pytest.raises(errors.InvalidAcl):
            await client.set_acl("/a", ())


async def test_a_digest_opens_what_it_closed(server: str) -> None:
    async with client_of(server, auth=AL) as al, client_of(server) as stranger:
        await al.create("/al", b"secret", acl=CREATOR_ALL_ACL)
        digest = base64.b64encode(hashlib.sha1(b"al:pw").digest()).decode()
        assert (await al.get_acl("/al"))[0] == (Acl(Permission.ALL, Id("digest", f"al:{digest}")),)
        with pytest.raises(errors.NoAuth):
            await stranger.get("/al")
        await stranger.add_credential("digest", b"al:pw")
        assert (await stranger.get("/al"))[0] == b"secret"
        await al.delete("/al")  # the fixture could not look into it


async def test_several_credentials_count_together(server: str) -> None:
    async with client_of(server, auth=(AL, BO)) as both, client_of(server, auth=BO) as bo:
        await both.create("/both", acl=CREATOR_ALL_ACL)
        assert len((await both.get_acl("/both"))[0]) == 2
        await bo.get("/both")
        await bo.delete("/both")
        assert set(await both.who_am_i()) >= {ClientInfo("digest", "al"), ClientInfo("digest", "bo")}


async def test_an_acl_needs_a_user_where_it_says_creator(server: str) -> None:
    async with client_of(server) as client:
        with pytest.raises(errors.InvalidAcl):
            await client.create("/a", acl=CREATOR_ALL_ACL)


async def test_the_user_of_an_acl_may_have_any_characters(server: str) -> None:
    # A server in Java writes a character outside the first 65,536 in a way of its own.
    acl = (Acl(int(Permission.ALL), Id("digest", "smile\U0001f600é:hash")), *OPEN_ACL)
    async with client_of(server) as client:
        await client.create("/a", acl=acl)
        assert (await client.get_acl("/a"))[0] == acl


async def test_a_credential_of_an_unknown_scheme_is_refused_when_the_client_opens(server: str) -> None:
    class Nonsense(Digest):
        scheme = "nonsense"

    with pytest.raises(errors.AuthenticationFailed, match="'nonsense'"):
        await client_of(server, auth=Nonsense("al", "pw")).open()


async def test_a_credential_that_is_refused_later_ends_the_session(server: str) -> None:
    async with client_of(server) as client:
        with pytest.raises(errors.AuthenticationFailed):
            await client.add_credential("nonsense", b"")
        with pytest.raises(errors.AuthenticationFailed):
            await client.get("/")


# --- an object and its life ------------------------------------------------------------------------------------------


async def test_a_client_works_only_while_it_is_open(server: str) -> None:
    client = client_of(server)
    with pytest.raises(RuntimeError, match="not open"):
        await client.get("/")
    with pytest.raises(RuntimeError, match="not been established"):
        _ = client.session_id
    async with client:
        await client.get("/")
    with pytest.raises(errors.ClientClosed):
        await client.get("/")
    with pytest.raises(errors.ClientClosed):
        client.transaction().check("/").commit_nowait(lambda _results, _error: None)


async def test_one_object_is_one_session(server: str) -> None:
    async with client_of(server) as client:
        with pytest.raises(RuntimeError, match="make a new one"):
            await client.open()
    with pytest.raises(RuntimeError, match="make a new one"):
        await client.open()


async def test_closing_is_idempotent_and_may_be_done_by_two_at_once(server: str) -> None:
    client = await client_of(server).open()
    await asyncio.gather(client.close(), client.close())
    await client.close()
    await client_of(server).close()


@pytest.mark.parametrize("timeout", [0, -1, 3e6, float("nan"), float("inf")])
def test_a_timeout_that_the_protocol_cannot_carry_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="session_timeout"):
        Client("127.0.0.1", session_timeout=timeout)


async def test_the_server_has_the_last_word_on_the_timeout(server: str) -> None:
    async with client_of(server, session_timeout=100) as patient, client_of(server, session_timeout=0.001) as hasty:
        assert (patient.timeout, hasty.timeout) == (4.0, 0.4)
        assert patient.clock() < patient.deadline <= patient.clock() + 4.0
