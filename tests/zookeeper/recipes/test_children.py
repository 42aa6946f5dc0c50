from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import OPEN_ACL, Acl, Id, Permission
from herdmaster.zookeeper.recipes.children import (
    Added,
    Changed,
    ChildChange,
    ChildStream,
    Complete,
    Failed,
    Interrupted,
    Listed,
    Removed,
)
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Proxy, request_of

NOT_READABLE = (Acl(int(Permission.ALL & ~Permission.READ), Id("world", "anyone")),)


class Picture:
    """What a reader of the stream knows, checked at every step, and every change."""

    def __init__(self) -> None:
        self.changes: list[ChildChange] = []
        self.folders: dict[str, set[str]] = {}
        self.is_whole = False

    def __call__(self, change: ChildChange) -> None:
        self.changes.append(change)
        match change:
            case Listed(folder, None):
                self.folders.pop(folder, None)
            case Listed(folder, names):
                self.folders[folder] = set(names or ())
                if folder == "/f":
                    here = {"/f", *(f"/f/{name}" for name in names or ())}
                    self.folders = {folder: names for folder, names in self.folders.items() if folder in here}
            case Added(folder, name):
                assert name not in self.folders[folder]
                self.folders[folder].add(name)
                if folder == "/f":
                    self.folders[f"/f/{name}"] = set()
            case Removed(folder, name):
                self.folders[folder].remove(name)
                if folder == "/f":
                    self.folders.pop(f"/f/{name}", None)
            case Complete():
                self.is_whole = True
            case Interrupted():
                self.is_whole = False

    def take(self) -> list[ChildChange]:
        found, self.changes = self.changes, []
        return found


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def zk(namespace: str) -> AsyncIterator[Client]:
    async with Client(namespace, session_timeout=4.0, connect_timeout=15.0) as client:
        await client.create("/f")
        yield client


@pytest.fixture(autouse=True)
async def no_faults() -> AsyncIterator[None]:
    """Fails the test for what its picture found wrong."""
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
    yield
    assert faults == []


@pytest.fixture
async def reader(namespace: str) -> AsyncIterator[Client]:
    async with Client(namespace, session_timeout=4.0, connect_timeout=15.0) as client:
        yield client


async def start(client: Client, depth: int = 1) -> tuple[ChildStream, Picture]:
    picture = Picture()
    stream = ChildStream(client, "/f", picture, depth=depth)
    stream.start()
    await until(lambda: picture.is_whole)
    return stream, picture


async def test_the_stream_begins_with_a_listing(zk: Client, reader: Client) -> None:
    await zk.create("/f/a")
    _, picture = await start(reader)

    assert picture.take() == [Listed("/f", ("a",)), Complete("/f")]


async def test_single_changes_follow(zk: Client, reader: Client) -> None:
    _, picture = await start(reader)
    picture.take()
    await zk.create("/f/a")
    await zk.set("/f/a", b"x")
    await zk.create("/f/a/b")  # deeper than asked for
    await zk.delete("/f/a/b")
    await zk.delete("/f/a")
    await until(lambda: len(picture.changes) == 3)

    assert picture.take() == [Added("/f", "a"), Changed("/f", "a"), Removed("/f", "a")]


async def test_the_changes_of_one_transaction_come_in_its_order(zk: Client, reader: Client) -> None:
    await zk.create("/f/a")
    _, picture = await start(reader)
    picture.take()
    await zk.transaction().delete("/f/a").create("/f/b").commit()
    await until(lambda: len(picture.changes) == 2)

    assert picture.take() == [Removed("/f", "a"), Added("/f", "b")]


async def test_with_depth_2_grandchildren_are_given_too(zk: Client, reader: Client) -> None:
    await zk.create("/f/a")
    await zk.create("/f/a/1")
    _, picture = await start(reader, depth=2)
    assert picture.folders == {"/f": {"a"}, "/f/a": {"1"}}
    await zk.create("/f/b")
    await zk.create("/f/b/2")
    await zk.delete("/f/a/1")
    await zk.delete("/f/a")
    await until(lambda: picture.folders == {"/f": {"b"}, "/f/b": {"2"}})


async def test_after_every_reconnect_there_is_an_interruption_and_a_fresh_listing(namespace: str, zk: Client) -> None:
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as reader:
        await zk.create("/f/a")
        _, picture = await start(reader, depth=2)
        for number in range(3):
            picture.take()
            proxy.refuse()
            await until(lambda: not picture.is_whole)
            await zk.create(f"/f/{number}")
            proxy.refuse(refusing=False)
            await until(lambda: picture.is_whole)
            assert picture.changes[0] == Interrupted()
            assert str(number) in picture.folders["/f"]
        await zk.create("/f/later")
        await until(lambda: "later" in picture.folders["/f"])


async def test_a_name_that_left_and_came_back_unseen_is_in_the_listing(namespace: str, zk: Client) -> None:
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as reader:
        await zk.create("/f/a")
        _, picture = await start(reader)
        proxy.refuse()
        await until(lambda: not picture.is_whole)
        await zk.delete("/f/a")
        await zk.create("/f/a")
        picture.take()
        proxy.refuse(refusing=False)
        await until(lambda: picture.is_whole)

        assert picture.take() == [Listed("/f", ("a",)), Complete("/f")]


@pytest.mark.parametrize("opcode", [OpCode.ADD_WATCH, OpCode.GET_CHILDREN], ids=lambda opcode: opcode.name)
@pytest.mark.parametrize("lose", ["lose_request", "lose_reply"])
async def test_a_start_that_is_interrupted_begins_again(namespace: str, zk: Client, opcode: OpCode, lose: str) -> None:
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as reader:
        lost = getattr(proxy, lose)(request_of(opcode))
        _, picture = await start(reader)
        await lost.happened.wait()
        await until(lambda: picture.is_whole)
        await zk.create("/f/a")
        await until(lambda: picture.folders["/f"] == {"a"})


async def test_whatever_happens_while_it_lists_the_picture_is_right_in_the_end(zk: Client, reader: Client) -> None:
    async def churn(number: int) -> None:
        for step in range(40):
            await zk.create(f"/f/{number}")
            await zk.create(f"/f/{number}/{step}")
            await zk.delete(f"/f/{number}/{step}")
            await zk.delete(f"/f/{number}")

    churning = [asyncio.ensure_future(churn(number)) for number in range(5)]
    stream, picture = await start(reader, depth=2)
    while not all(task.done() for task in churning):
        stream.list_again()
        await until(lambda: picture.is_whole)
    await asyncio.gather(*churning)
    await zk.create("/f/end")
    await until(lambda: picture.folders == {"/f": {"end"}, "/f/end": set()})


# --- folders that are not there, or not to be seen -------------------------------------------------------------------


async def test_a_folder_that_is_not_there_is_listed_as_such_and_its_making_is_seen(namespace: str) -> None:
    async with Client(namespace, session_timeout=4.0) as zk:
        _, picture = await start(zk)
        assert picture.take() == [Listed("/f", None), Complete("/f")]
        await zk.create("/f")
        picture.folders["/f"] = set()
        await zk.create("/f/a")
        await until(lambda: picture.folders == {"/f": {"a"}, "/f/a": set()})


async def test_a_folder_that_goes_is_told(zk: Client, reader: Client) -> None:
    _, picture = await start(reader)
    picture.take()
    await zk.delete("/f")
    await until(lambda: bool(picture.changes))

    assert picture.take() == [Listed("/f", None)]


async def test_a_child_that_goes_while_it_is_being_listed_is_absent_and_remembered_nowhere(
    namespace: str, zk: Client
) -> None:
    await zk.create("/f/a")
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as reader:
        picture = Picture()
        stream = ChildStream(reader, "/f", picture, depth=2)
        held = proxy.hold_request(request_of(OpCode.GET_CHILDREN, "/f/a"))
        stream.start()
        await held.happened.wait()
        assert not picture.is_whole
        await zk.delete("/f/a")
        held.go_on.set()
        await until(lambda: picture.is_whole)

        assert picture.folders == {"/f": set()}
        assert stream._listed == {"/f": set()}


async def test_a_child_that_may_not_be_listed_counts_as_absent(zk: Client, reader: Client) -> None:
    await zk.create("/f/shut", acl=NOT_READABLE)
    await zk.create("/f/open")
    _, picture = await start(reader, depth=2)

    (failed,) = (change for change in picture.changes if isinstance(change, Failed))
    assert failed.folder == "/f/shut"
    assert "NoAuth" in str(failed.error)
    assert picture.folders == {"/f": {"shut", "open"}, "/f/open": set()}
    await zk.delete("/f/shut")


async def test_a_folder_that_may_not_be_listed_is_told(zk: Client, reader: Client) -> None:
    await zk.set_acl("/f", NOT_READABLE)
    _, picture = await start(reader)

    assert isinstance(picture.changes[0], Failed)
    await zk.set_acl("/f", OPEN_ACL)


async def test_a_stopped_stream_gives_nothing_more(zk: Client, reader: Client) -> None:
    stream, picture = await start(reader)
    await stream.stop()
    picture.take()
    await zk.create("/f/a")
    await reader.sync()
    stream.list_again()
    await reader.sync()

    assert picture.take() == []
