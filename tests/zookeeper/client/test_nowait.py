"""Calls with a callback: the contract that `client/nowait.py` states."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.client.nowait import children_of, nodes_of
from herdmaster.zookeeper.model import CreateMode, SessionState, Stat, WatchEvent
from herdmaster.zookeeper.wire.multi import ErrorResult, MultiReply
from herdmaster.zookeeper.wire.records import ChildrenReply, DataReply, EmptyReply, Record
from tests.zookeeper.client.sessions import OwnServer, client_of, wait_until

Ended = tuple[object, Exception | None]
Call = Callable[[Client, Callable[[Any, Exception | None], None]], None]

CALLS: dict[str, Call] = {
    "create": lambda client, done: client.create_nowait("/a/b", b"", done),
    "delete": lambda client, done: client.delete_nowait("/a/b", done),
    "set": lambda client, done: client.set_nowait("/a/b", b"", done),
    "exists": lambda client, done: client.exists_nowait("/a/b", done),
    "get": lambda client, done: client.get_nowait("/a/b", done),
    "children": lambda client, done: client.children_nowait("/a/b", done),
    "multi_read": lambda client, done: client.multi_read_nowait(["/a/b"], done),
    "multi_children": lambda client, done: client.multi_children_nowait(["/a/b"], done),
    "add_watch": lambda client, done: client.add_watch_nowait("/a/b", lambda _event: None, done),
    "transaction": lambda client, done: client.transaction().create("/a/b").commit_nowait(done),
}


class Callbacks(list[Ended]):
    """What the callback was given, call by call."""

    def __call__(self, result: object, error: Exception | None) -> None:
        self.append((result, error))


async def result_of(client: Client, call: Call) -> object:
    callback = Callbacks()
    call(client, callback)
    assert callback == [], "never before the call has returned"
    await wait_until(lambda: bool(callback))
    ((result, error),) = callback
    if error is not None:
        raise error
    return result


async def test_each_call_gives_what_the_awaited_one_returns_below_the_namespace(server: str) -> None:
    async with client_of(server) as client:
        await client.create("/a")
        assert await result_of(client, CALLS["exists"]) is None
        assert await result_of(client, CALLS["create"]) == "/a/b"
        changed = await result_of(client, lambda client, done: client.set_nowait("/a/b", b"1", done, 0))
        assert isinstance(changed, Stat)
        assert changed.version == 1
        assert await result_of(client, CALLS["exists"]) == await client.exists("/a/b")
        assert await result_of(client, CALLS["get"]) == await client.get("/a/b")
        assert await result_of(client, lambda client, done: client.children_nowait("/a", done)) == ("b",)
        paths = ["/a", "/a/b", "/missing"]
        for read in (
            await result_of(client, lambda client, done: client.multi_read_nowait(paths, done)),
            await client.multi_read(paths),
        ):
            assert isinstance(read, list)
            assert read[:2] == [await client.get("/a"), await client.get("/a/b")]
            assert (type(read[2]), read[2].path) == (errors.NoNode, "/missing")
        listed = await result_of(client, lambda client, done: client.multi_children_nowait(paths, done))
        assert isinstance(listed, list)
        assert (listed[:2], type(listed[2])) == ([("b",), ()], errors.NoNode)
        assert await result_of(client, CALLS["delete"]) is None
        assert await client.exists("/a/b") is None


async def test_a_created_znode_has_the_mode_that_was_asked_for(server: str) -> None:
    async with client_of(server) as client:
        mode = CreateMode.EPHEMERAL_SEQUENTIAL
        path = await result_of(client, lambda client, done: client.create_nowait("/n-", b"1", done, mode=mode))
        assert path == "/n-0000000000"
        data, stat = await client.get(path)
        assert (data, stat.ephemeral_owner) == (b"1", client.session_id)


async def test_a_refusal_is_the_error_of_the_awaited_call(server: str) -> None:
    refused = {"create", "delete", "set", "get", "children"}
    async with client_of(server) as client:
        for name in refused:
            with pytest.raises(errors.NoNode) as caught:
                await result_of(client, CALLS[name])
            assert caught.value.path == "/a/b", name
        with pytest.raises(errors.TransactionFailed):
            await result_of(client, CALLS["transaction"])


async def test_callbacks_come_in_the_order_of_the_calls_and_after_the_events_that_they_show(server: str) -> None:
    async with client_of(server) as client:
        seen: list[str] = []

        def watch(event: WatchEvent) -> None:
            seen.append(f"event {event.path}")

        client.add_watch_nowait("/", watch, lambda _result, _error: seen.append("watch"), recursive=True)
        client.create_nowait("/a", b"", lambda path, _error: seen.append(f"created {path}"))
        client.exists_nowait("/a", lambda stat, _error: seen.append(f"exists {stat is not None}"))
        client.transaction().delete("/a").commit_nowait(lambda results, _error: seen.append(f"deleted {results}"))
        client.exists_nowait("/a", lambda stat, _error: seen.append(f"exists {stat is not None}"))
        await wait_until(lambda: len(seen) == 7)
        assert seen == [
            "watch",
            "event /a",
            "created /a",
            "exists True",
            "event /a",
            "deleted (None,)",
            "exists False",
        ]


@pytest.mark.parametrize("name", CALLS)
async def test_what_is_known_to_fail_at_once_is_raised_and_not_called_back(server: str, name: str) -> None:
    callback = Callbacks()
    client = client_of(server)
    with pytest.raises(RuntimeError, match="not open"):
        CALLS[name](client, callback)
    async with client:
        pass
    with pytest.raises(errors.ClientClosed):
        CALLS[name](client, callback)
    await asyncio.sleep(0)
    assert callback == []


async def test_a_path_that_cannot_be_is_raised(server: str) -> None:
    async with client_of(server) as client:
        for call in (client.get_nowait, client.exists_nowait, client.children_nowait, client.delete_nowait):
            with pytest.raises(errors.InvalidPath):
                call("a", Callbacks())
        with pytest.raises(errors.InvalidPath):
            client.multi_read_nowait(["/a", "b"], Callbacks())


async def test_at_the_end_of_the_session_every_callback_is_called_with_its_error(server: str) -> None:
    callback = Callbacks()
    states: list[SessionState] = []
    async with client_of(server) as client:
        client.add_listener(states.append)
        client.add_listener(lambda _state: callback.append((client.state, None)))
        for call in CALLS.values():
            call(client, callback)
        await client.abandon()
    assert states == [SessionState.CLOSED]
    assert callback[0] == (SessionState.CLOSED, None), "the listeners come first"
    assert [(result, type(error)) for result, error in callback[1:]] == [(None, errors.ClientClosed)] * len(CALLS)


@pytest.mark.long
async def test_a_lost_connection_fails_writes_and_repeats_reads(own_server: OwnServer) -> None:
    async with client_of(own_server.hosts) as client:
        await client.create("/a")
        own_server.pause()
        write, read = Callbacks(), Callbacks()
        client.set_nowait("/a", b"1", write)
        client.get_nowait("/a", read)
        await asyncio.sleep(0)  # they leave in this turn
        own_server.kill()
        await own_server.start()
        await wait_until(lambda: bool(write) and bool(read))
        assert [(result, type(error)) for result, error in write] == [(None, errors.ConnectionLoss)]
        ((node, error),) = read
        assert error is None
        assert isinstance(node, tuple)


@pytest.mark.parametrize(
    "results", [(), (ErrorResult(-101), ErrorResult(-101)), (EmptyReply(),)], ids=["few", "many", "other"]
)
def test_a_reply_that_does_not_answer_the_reads_is_an_error_of_the_wire(results: tuple[Record, ...]) -> None:
    for interpret in (nodes_of, children_of):
        with pytest.raises(errors.WireError):
            interpret(["/a"], MultiReply(results, (0,) * len(results)))


def test_data_is_no_listing_and_a_listing_is_no_data() -> None:
    data = MultiReply((DataReply(b"", Stat(*range(11))),), (4,))
    listing = MultiReply((ChildrenReply(("a",)),), (8,))
    with pytest.raises(errors.WireError):
        children_of(["/a"], data)
    with pytest.raises(errors.WireError):
        nodes_of(["/a"], listing)
