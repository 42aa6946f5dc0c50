"""A stream whose scope decides which folders are followed, as that of `/flows` does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from herdmaster.core.flow_scope import PARTS, RUNNING, FlowScope
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.recipes.children import (
    Added,
    ChildChange,
    ChildStream,
    Complete,
    Interrupted,
    Listed,
    Removed,
)
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Proxy, request_of
from tests.zookeeper.recipes.test_children import until

ROOT = "/flows"
F = f"{ROOT}/flow-a"


class Tree:
    """What a reader knows: the folders that are followed, with their names. A name that surprises is a failure."""

    def __init__(self) -> None:
        self.folders: dict[str, set[str]] = {}
        self.changes: list[ChildChange] = []
        self.is_whole = False
        self.scope = FlowScope()

    def __call__(self, change: ChildChange) -> None:
        self.changes.append(change)
        match change:
            case Interrupted():
                self.folders.clear()
                self.is_whole = False
            case Complete():
                self.is_whole = True
            case Listed(folder, names) if names is not None:
                self.folders[folder] = set(names)
            case Added(folder, name):
                assert name not in self.folders[folder]
                self.folders[folder].add(name)
                if name in self.scope.of_creation(folder, name) and f"{folder}/{name}" not in self.folders:
                    self.folders[f"{folder}/{name}"] = set()
            case Removed(folder, name):
                self.folders[folder].remove(name)
                for gone in (name, *self.scope.of_deletion(folder, name)):
                    path = f"{folder}/{gone}"
                    self.folders = {
                        each: names
                        for each, names in self.folders.items()
                        if each != path and not each.startswith(f"{path}/")
                    }

    def take(self) -> list[ChildChange]:
        found, self.changes = self.changes, []
        return found


async def snapshot(zk: Client) -> dict[str, set[str]]:
    """Return what a stream has to know, read without one."""
    scope = FlowScope()
    found: dict[str, set[str]] = {}
    todo = [ROOT]
    while todo:
        folder = todo.pop()
        found[folder] = names = set(await zk.children(folder))
        todo += [f"{folder}/{name}" for name in scope.of_listing(folder, names) if name in names]
    return found


@pytest.fixture
async def zk(namespace: str) -> AsyncIterator[Client]:
    async with Client(namespace, session_timeout=4.0, connect_timeout=15.0) as client:
        await client.create(ROOT)
        yield client


@pytest.fixture
async def reader(namespace: str) -> AsyncIterator[Client]:
    async with Client(namespace, session_timeout=4.0, connect_timeout=15.0) as client:
        yield client


async def start(client: Client) -> tuple[ChildStream, Tree]:
    tree = Tree()
    stream = ChildStream(client, ROOT, tree, scope=FlowScope())
    stream.start()
    await until(lambda: tree.is_whole)
    return stream, tree


async def make_flow(zk: Client, *parts: str, flow: str = F) -> None:
    transaction = zk.transaction().create(flow)
    for part in parts:
        transaction.create(f"{flow}/{part}")
    await transaction.commit()


async def test_a_flow_that_runs_is_listed_to_its_edges(zk: Client, reader: Client) -> None:
    await make_flow(zk, "steps", "results", "failed", "steps/2", "steps/2/0", "steps/0:1", "results/7", "running")
    _, tree = await start(reader)
    assert tree.folders == await snapshot(zk)
    assert tree.folders[f"{F}/steps/2"] == {"0"}
    assert f"{F}/steps/0:1" not in tree.folders


async def test_a_flow_that_does_not_run_is_not_listed(zk: Client, reader: Client) -> None:
    await make_flow(zk, "steps", "results", "failed", "steps/2", "steps/2/0")
    _, tree = await start(reader)
    assert tree.folders == {ROOT: {"flow-a"}, F: {"steps", "results", "failed"}}
    tree.take()
    await zk.create(f"{F}/steps/3")
    await zk.create(f"{ROOT}/flow-b")
    await until(lambda: bool(tree.changes))
    assert tree.take() == [Added(ROOT, "flow-b")]


async def test_a_flow_that_begins_to_run_is_listed_then(zk: Client, reader: Client) -> None:
    await make_flow(zk, "steps", "results", "failed", "steps/2", "steps/2/0")
    _, tree = await start(reader)
    tree.is_whole = False
    await zk.transaction().create(f"{F}/running").create(f"{F}/running/t").create(f"{F}/steps/2/1").commit()
    await until(lambda: tree.is_whole)
    assert tree.folders == await snapshot(zk)
    assert tree.folders[f"{F}/running"] == {"t"}


async def test_nothing_is_listed_for_a_flow_whose_making_is_seen(zk: Client, reader: Client) -> None:
    _, tree = await start(reader)
    tree.take()
    await make_flow(zk, "steps", "results", "failed", "steps/2", "steps/2/0", "running", "running/t")
    await zk.create(f"{F}/end")
    await until(lambda: "end" in tree.folders.get(F, ()))
    assert not [change for change in tree.changes if isinstance(change, Listed)]
    assert tree.folders == await snapshot(zk)


async def test_a_flow_that_ends_is_forgotten_and_listed_when_it_runs_again(zk: Client, reader: Client) -> None:
    await make_flow(zk, "steps", "results", "failed", "steps/2", "steps/2/0", "running")
    stream, tree = await start(reader)
    await zk.delete(f"{F}/running")
    await until(lambda: "running" not in tree.folders[F])
    assert tree.folders == {ROOT: {"flow-a"}, F: {"steps", "results", "failed"}}
    assert set(stream._listed) == {ROOT, F}
    await zk.create(f"{F}/failed/9")  # not seen
    await zk.create(f"{F}/running")
    await until(lambda: tree.folders == {**tree.folders, f"{F}/failed": {"9"}, f"{F}/steps/2": {"0"}})
    assert tree.folders == await snapshot(zk)


async def test_a_flow_that_ends_while_it_is_listed_is_complete_without_it(namespace: str, zk: Client) -> None:
    await make_flow(zk, "steps", "results", "failed", "running", "steps/2")
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as reader:
        tree = Tree()
        stream = ChildStream(reader, ROOT, tree, scope=FlowScope())
        held = proxy.hold_request(request_of(OpCode.MULTI_READ, f"{F}/steps"))
        stream.start()
        await held.happened.wait()
        await zk.delete(f"{F}/running")
        held.go_on.set()
        await until(lambda: tree.is_whole)
        await until(lambda: tree.folders == {ROOT: {"flow-a"}, F: {"steps", "results", "failed"}})
        assert set(stream._listed) == {ROOT, F}


async def test_after_a_reconnect_everything_is_listed_anew(namespace: str, zk: Client) -> None:
    await make_flow(zk, "steps", "results", "failed", "steps/2", "steps/2/0", "running")
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as reader:
        _, tree = await start(reader)
        proxy.refuse()
        await until(lambda: not tree.is_whole)
        await zk.delete(f"{F}/steps/2/0")
        await zk.create(f"{F}/results/0")
        await make_flow(zk, "steps", "results", "failed", "steps/1", "running", flow=f"{ROOT}/flow-b")
        proxy.refuse(refusing=False)
        await until(lambda: tree.is_whole)
        assert tree.folders == await snapshot(zk)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_the_picture_is_that_of_the_server(namespace: str, zk: Client, seed: int) -> None:
    """Flows are made, run, end, run again and go, while connections break and everything is listed again."""
    choose = random.Random(seed)

    async def churn(flow: str) -> None:
        for _ in range(60):
            name = choose.choice([*PARTS, RUNNING, "steps/1", "steps/2!", "steps/1/0", "steps/2!/1", "steps/0:3", ""])
            path = f"{flow}/{name}".rstrip("/")
            try:
                if choose.random() < 0.6:
                    await zk.create(path)
                else:
                    await zk.delete(path)
            except (errors.NoNode, errors.NodeExists, errors.NotEmpty):
                continue

    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as reader:
        stream, tree = await start(reader)
        for turn in range(4):
            churning = [asyncio.ensure_future(churn(f"{ROOT}/flow-{number}")) for number in range(4)]
            if choose.random() < 0.5:
                stream.list_again()
            else:
                proxy.refuse()
                await until(lambda: not tree.is_whole)
                proxy.refuse(refusing=False)
            await asyncio.gather(*churning)
            await zk.create(f"{ROOT}/turn-{turn}")
            await until(lambda name=f"turn-{turn}": tree.is_whole and name in tree.folders[ROOT])  # type: ignore[misc]  # mypy does not know the default
            expected = await snapshot(zk)
            # A flow that was made under the eyes of the stream is followed before it runs.
            early = {each: set(await zk.children(each)) for each in tree.folders.keys() - expected.keys()}
            await until(lambda right={**early, **expected}: tree.is_whole and tree.folders == right)  # type: ignore[misc]  # mypy does not know the default
