"""Watches of every kind, in order with replies, and over reconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import WatchEvent
from tests.zookeeper.client.sessions import Events, client_of, kick, wait_until


async def barrier(client: Client) -> None:
    """After it the client has heard of everything that any client did before."""
    await client.sync()


# --- one-shot --------------------------------------------------------------------------------------------------------


async def test_a_one_shot_watch_tells_of_one_change(server: str) -> None:
    async with client_of(server) as client, client_of(server) as other:
        await other.create("/a")
        data, there, children = Events(), Events(), Events()
        await client.get("/a", data)
        await client.exists("/a", there)
        await client.children("/a", children)
        for _ in range(2):
            await other.set("/a", b"x")
        await other.create("/a/b")
        await other.create("/a/c")
        await barrier(client)
        assert data.seen == there.seen == [("DATA_CHANGED", "/a")]
        assert children.seen == [("CHILDREN_CHANGED", "/a")]


async def test_an_exists_watch_of_a_missing_znode_tells_of_its_creation(server: str) -> None:
    async with client_of(server) as client, client_of(server) as other:
        events = Events()
        assert await client.exists("/a", events) is None
        await other.create("/a")
        await other.delete("/a")
        await barrier(client)
        assert events.seen == [("CREATED", "/a")]


async def test_a_read_that_fails_arms_nothing(server: str) -> None:
    async with client_of(server) as client:
        events = Events()
        for read in (client.get, client.children):
            with pytest.raises(errors.NoNode):
                await read("/a", events)
        await client.create("/a")
        await client.create("/a/b")
        await barrier(client)
        assert events.seen == []


async def test_a_deletion_reaches_every_watcher_once(server: str) -> None:
    async with client_of(server) as client:
        await client.create("/a")
        first, second = Events(), Events()
        await client.get("/a", first)
        await client.exists("/a", first)
        await client.children("/a", first)
        await client.children("/a", second)
        await client.delete("/a")
        assert first.seen == second.seen == [("DELETED", "/a")]


# --- persistent ------------------------------------------------------------------------------------------------------


async def test_a_persistent_watch_tells_of_a_znode_and_its_children(server: str) -> None:
    async with client_of(server) as client, client_of(server) as other:
        events = Events()
        await client.add_watch("/a", events)
        await other.create("/a")
        await other.set("/a", b"x")
        await other.create("/a/b")
        await other.set("/a/b", b"not told")
        await other.delete("/a/b")
        await other.delete("/a")
        await other.create("/a")
        await barrier(client)
        kinds = ["CREATED", "DATA_CHANGED", "CHILDREN_CHANGED", "CHILDREN_CHANGED", "DELETED", "CREATED"]
        assert events.seen == [(kind, "/a") for kind in kinds]


async def test_a_recursive_watch_tells_of_everything_below_but_not_of_neighbours(server: str) -> None:
    async with client_of(server) as client, client_of(server) as other:
        events = Events()
        await client.add_watch("/a", events, recursive=True)
        for path in ("/a", "/ab", "/a/b", "/a/b/c"):
            await other.create(path)
        await other.set("/a/b/c", b"x")
        await other.delete("/a/b/c")
        await barrier(client)
        assert events.seen == [
            ("CREATED", "/a"),
            ("CREATED", "/a/b"),
            ("CREATED", "/a/b/c"),
            ("DATA_CHANGED", "/a/b/c"),
            ("DELETED", "/a/b/c"),
        ]


async def test_a_recursive_watch_of_the_root_ends_at_the_namespace(server: str) -> None:
    async with client_of(server) as outer:
        await outer.create("/app")
        await outer.create("/apple")
        async with client_of(f"{server}/app") as client:
            events = Events()
            await client.add_watch("/", events, recursive=True)
            await outer.create("/apple/pie")
            await outer.create("/app/a")
            await outer.set("/app", b"x")
            await barrier(client)
            assert events.seen == [("CREATED", "/a"), ("DATA_CHANGED", "/")]


async def test_a_watch_that_was_removed_tells_nothing(server: str) -> None:
    async with client_of(server) as client:
        for recursive in (False, True):
            events = Events()
            await client.add_watch("/a", events, recursive=recursive)
            await client.remove_watch("/a", events, recursive=recursive)
            await client.remove_watch("/a", events, recursive=recursive)
            await client.create("/a")
            await client.delete("/a")
            assert events.seen == []


async def test_removing_one_watcher_leaves_the_others(server: str) -> None:
    async with client_of(server) as client:
        first, second, elsewhere = Events(), Events(), Events()
        await client.add_watch("/a", first, recursive=True)
        await client.add_watch("/a", second, recursive=True)
        await client.add_watch("/", elsewhere)
        await client.remove_watch("/a", first, recursive=True)
        await client.create("/a")
        await client.remove_watch("/a", second, recursive=True)
        await client.delete("/a")
        assert (first.seen, second.seen) == ([], [("CREATED", "/a")])
        assert len(elsewhere.seen) == 2


async def test_removing_a_persistent_watch_leaves_a_one_shot_watch_of_the_same_path(server: str) -> None:
    async with client_of(server) as client:
        await client.create("/a")
        persistent, once = Events(), Events()
        await client.add_watch("/a", persistent, recursive=True)
        await client.get("/a", once)
        await client.remove_watch("/a", persistent, recursive=True)
        await client.set("/a", b"x")
        assert (persistent.seen, once.seen) == ([], [("DATA_CHANGED", "/a")])


async def test_a_watch_that_is_removed_while_it_is_being_added_is_gone(server: str) -> None:
    async with client_of(server) as client:
        events = Events()
        adding = asyncio.ensure_future(client.add_watch("/a", events))
        await asyncio.sleep(0)
        await client.remove_watch("/a", events)
        await adding
        await client.create("/a")
        assert events.seen == []


# --- order -----------------------------------------------------------------------------------------------------------


async def test_an_event_comes_before_any_reply_that_shows_the_change(server: str) -> None:
    async with client_of(server) as client, client_of(server) as other:
        seen: set[str] = set()

        def watcher(event: WatchEvent) -> None:
            seen.add(event.path)

        await client.add_watch("/", watcher, recursive=True)

        async def write() -> None:
            for number in range(150):
                await other.create(f"/{number:03d}")

        writing = asyncio.ensure_future(write())
        while not writing.done():
            listed = await client.children("/")
            assert {f"/{name}" for name in listed} <= seen
        await writing


async def test_the_event_of_an_own_write_comes_before_its_reply(server: str) -> None:
    async with client_of(server) as client:
        log: list[str] = []
        await client.add_watch("/", lambda event: log.append(event.path), recursive=True)
        waiting = 20
        for number in range(20):

            def done(_results: object, _error: object, number: int = number) -> None:
                nonlocal waiting
                waiting -= 1
                log.append(f"reply {number}")

            client.transaction().create(f"/{number}").commit_nowait(done)
        await wait_until(lambda: waiting == 0)
        assert log == [line for number in range(20) for line in (f"/{number}", f"reply {number}")]


async def test_a_watcher_that_fails_keeps_the_news_from_no_other(server: str) -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))

    def fail(_event: WatchEvent) -> None:
        raise ZeroDivisionError

    async with client_of(server) as client:
        events = Events()
        await client.add_watch("/a", fail)
        await client.add_watch("/a", events)
        await client.create("/a")
        assert events.seen == [("CREATED", "/a")]
        assert [type(error) for error in reported] == [ZeroDivisionError]


# --- many watches at once --------------------------------------------------------------------------------------------


async def test_creations_of_thousands_of_znodes_are_watched_with_a_few_packets(server: str) -> None:
    async with client_of(server) as client, client_of(server) as other:
        await other.create("/status")
        paths = [f"/status/{number:05d}-{'n' * 60}" for number in range(3000)]
        assert sum(map(len, paths)) > 128 * 1024
        existing, later = paths[100:110], paths[2000:2010]
        for path in existing:
            await other.create(path)
        events = Events()
        await client.watch_created(paths, events)
        assert sorted(events.paths) == existing, "at once where it exists already"
        for path in later:
            await other.create(path)
            await other.delete(path)
            await other.create(path)
        await barrier(client)
        assert events.paths[10:] == later, "and once for each"


async def test_creations_may_be_watched_without_waiting(server: str) -> None:
    async with client_of(server) as client:
        await client.create("/there")
        events = Events()
        client.watch_created_nowait(["/there", "/missing"], events)
        assert events.seen == []
        await client.create("/missing")
        assert events.seen == [("CREATED", "/there"), ("CREATED", "/missing")]


async def test_a_creation_may_be_forgotten(server: str) -> None:
    async with client_of(server) as client:
        events = Events()
        await client.watch_created(["/a", "/b"], events)
        client.forget_created("/a", events)
        await client.create("/a")
        await client.create("/b")
        assert events.seen == [("CREATED", "/b")]


async def test_watching_creations_arms_all_or_nothing(server: str) -> None:
    async with client_of(server) as client:
        events, all_events = Events(), Events()
        await client.add_watch("/", all_events, recursive=True)
        with pytest.raises(errors.InvalidPath):
            await client.watch_created(["/a", "nonsense"], events)
        cancelled = asyncio.ensure_future(client.watch_created(["/a", "/b"], events))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await client.create("/a")
        assert (events.paths, all_events.paths) == ([], ["/a"])


# --- over a reconnect ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_missing", [True, False])
async def test_a_creation_while_the_connection_was_away_is_told(server: str, is_missing: bool) -> None:
    async with client_of(server) as client, client_of(server) as other:
        events = Events()
        if is_missing:
            await client.exists("/a", events)
        else:
            await client.watch_created(["/a"], events)
        kicked = asyncio.ensure_future(kick(server, client))
        await other.create("/a")
        await kicked
        await events.wait()
        await barrier(client)
        assert events.seen == [("CREATED", "/a")]


async def test_one_shot_watches_are_caught_up_and_tell_nothing_that_did_not_happen(server: str) -> None:
    async with client_of(server) as client, client_of(server) as other:
        changed, unchanged = Events(), Events()
        for name in ("changed", "unchanged"):
            await other.create(f"/{name}")
        for events, path in ((changed, "/changed"), (unchanged, "/unchanged")):
            await client.exists(path, events)
            await client.get(path, events)
            await client.children(path, events)
        await change_while_away(server, client, lambda: other.create("/changed/child"))
        await barrier(client)
        assert changed.seen == [("CHILDREN_CHANGED", "/changed")]
        assert unchanged.seen == []
        await other.set("/unchanged", b"x")
        await barrier(client)
        assert unchanged.seen == [("DATA_CHANGED", "/unchanged")]


async def test_persistent_watches_are_armed_again_and_tell_what_happens_from_then_on(server: str) -> None:
    async with client_of(server) as client, client_of(server) as other:
        persistent, recursive = Events(), Events()
        await client.add_watch("/", persistent)
        await other.create("/a")
        await client.add_watch("/a", recursive, recursive=True)
        await kick(server, client)
        await barrier(client)
        persistent.events.clear()
        await other.create("/a/b")
        await other.create("/c")
        await barrier(client)
        assert persistent.seen == [("CHILDREN_CHANGED", "/")]
        assert recursive.seen == [("CREATED", "/a/b")]


async def test_events_of_the_catch_up_come_before_the_reads_that_waited(server: str) -> None:
    async with client_of(server) as client, client_of(server) as other:
        await other.create("/a", b"old")
        log: list[str] = []
        await client.get("/a", lambda event: log.append(event.type.name))

        async def read() -> None:
            log.append(str((await client.get("/a"))[0]))

        reading: list[asyncio.Task[None]] = []

        async def change() -> None:
            await other.set("/a", b"new")
            reading.append(asyncio.ensure_future(read()))

        await change_while_away(server, client, change)
        await reading[0]
        assert log == ["DATA_CHANGED", "b'new'"]


async def change_while_away(server: str, client: Client, change: Callable[[], object]) -> None:
    """Runs the change when the client has lost its connection and before it has the next one."""
    hold = asyncio.Event()
    connection = client._connection
    assert connection is not None
    attempt = connection._connect

    async def wait_and_connect(address: object) -> object:
        await hold.wait()
        return await attempt(address)  # type: ignore[arg-type]  # passed through

    connection._connect = wait_and_connect  # type: ignore[method-assign,assignment]  # so that the test has time
    await kick(server, client, comes_back=False)
    result = change()
    if asyncio.iscoroutine(result):
        await result
    hold.set()
