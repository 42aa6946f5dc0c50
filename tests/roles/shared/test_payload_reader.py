from __future__ import annotations

import asyncio

import pytest

from herdmaster.roles.shared.payload_reader import MAX_READ, MAX_READS, PayloadReader
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Acl, Id, Permission, Stat
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Proxy, request_of
from tests.roles.stage import Stage, end_session, new_call_name, new_raw_name, until

NOT_READABLE = (Acl(int(Permission.ALL & ~Permission.READ), Id("world", "anyone")),)


class Found:
    def __init__(self) -> None:
        self.order: list[str] = []
        self.data: dict[str, bytes | None] = {}
        self.errors: dict[str, Exception | None] = {}

    def __call__(self, name: str, data: bytes | None, stat: Stat | None, error: Exception | None) -> None:
        assert (data is None) == (stat is None) == (error is not None)
        self.order.append(name)
        self.data[name] = data
        self.errors[name] = error


async def read(client: Client, *names: str) -> Found:
    found = Found()
    PayloadReader(client).read(((name, name, f"/tasks/{name}") for name in names), found)
    await until(lambda: len(found.order) == len(names), "every name to be answered once")
    return found


class Counter:
    """Of a proxy: how many payloads each request asked for, and how many requests were under way at most."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, opcode: int, body: bytes) -> bool:
        if opcode == OpCode.MULTI_READ:
            self.sizes.append(body.count(b"/tasks/"))
        return False


@pytest.mark.parametrize(
    ("kind", "count", "sizes"),
    [("call", 450, [200, 200, 50]), ("raw", 60, [25, 25, 10]), ("big", 9, [4, 4, 1])],
)
async def test_reads_are_bounded_by_the_sizes_that_names_reveal(
    namespace: str, stage: Stage, kind: str, count: int, sizes: list[int]
) -> None:
    names = [new_raw_name() if kind == "raw" else new_call_name(big=kind == "big") for _ in range(count)]
    await stage.put(*(f"/tasks/{name}" for name in names))
    counter = Counter()
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as client:
        proxy.lose_request(counter)
        found = await read(client, *names)

    assert counter.sizes == sizes
    assert found.order == names
    assert found.data == {name: f"/tasks/{name}".encode() for name in names}


async def test_only_so_much_is_read_at_a_time(namespace: str, stage: Stage) -> None:
    names = [new_call_name(big=True) for _ in range(60)]
    await stage.put(*(f"/tasks/{name}" for name in names))
    counter = Counter()
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as client:
        proxy.lose_request(counter)
        proxy.hold(replies=True)
        reading = asyncio.ensure_future(read(client, *names))
        await until(lambda: len(counter.sizes) == MAX_READS // MAX_READ, "as many as may be under way")
        await asyncio.sleep(0.1)
        assert len(counter.sizes) == MAX_READS // MAX_READ
        proxy.pass_on()
        await reading

    assert sum(counter.sizes) == 60


async def test_each_that_cannot_be_read_has_its_own_error_and_the_others_are_read(stage: Stage) -> None:
    here, gone, shut = (new_call_name() for _ in range(3))
    await stage.put(f"/tasks/{here}", data=b"")
    await stage.zk.create(f"/tasks/{shut}", b"x", acl=NOT_READABLE)
    found = await read(stage.zk, gone, here, shut)

    assert found.data == {gone: None, here: b"", shut: None}
    assert isinstance(found.errors[gone], errors.NoNode)
    assert isinstance(found.errors[shut], errors.NoAuth)


async def test_a_lost_connection_loses_no_answer(namespace: str, stage: Stage) -> None:
    names = [new_call_name() for _ in range(600)]
    await stage.put(*(f"/tasks/{name}" for name in names))
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as client:
        lost = proxy.lose_reply(request_of(OpCode.MULTI_READ, names[300]))
        found = await read(client, *names)
        assert lost.happened.is_set()

    assert found.order == names


async def test_at_the_end_of_the_session_everything_is_answered_also_what_waited_its_turn(
    namespace: str, stage: Stage
) -> None:
    names = [new_call_name(big=True) for _ in range(200)]
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as client:
        proxy.hold(replies=True)
        reading = asyncio.ensure_future(read(client, *names))
        await asyncio.sleep(0)
        await end_session(client, namespace)
        proxy.cut()
        proxy.pass_on()
        found = await reading

    assert all(isinstance(error, errors.SessionExpired) for error in found.errors.values())
    again = Found()
    PayloadReader(client).read([("a", new_raw_name(), "/tasks/a")], again)
    assert isinstance(again.errors["a"], errors.SessionExpired)
