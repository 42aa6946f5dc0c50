"""The servers' clock as a master reads it: by writing its own znode, once a minute at most."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from herdmaster.roles.shared.server_clock import FRESH_SECONDS, ServerClock
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.client.connection import boot_clock
from tests.proxy import Proxy
from tests.roles.primary.scripted import STAT, ScriptedClient
from tests.roles.stage import until

PATH = "/record"


class Wakes:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def wakes() -> Wakes:
    return Wakes()


@pytest.fixture
async def clock(zk: Client) -> ServerClock:
    await zk.create(PATH, b"data")
    return ServerClock(zk, PATH, b"data", lambda: 0)


async def test_a_reading_is_the_servers_time_and_keeps_the_data(clock: ServerClock, zk: Client) -> None:
    before = now_ms()
    read = await clock.read()

    assert before - 5 <= read <= now_ms() + 5  # the server runs on this machine
    assert (await zk.get(PATH))[0] == b"data"


async def test_without_a_reading_there_is_no_time_and_each_caller_is_told_once(
    clock: ServerClock, zk: Client, wakes: Wakes
) -> None:
    assert clock.wakeup(1000) is not None
    assert clock.now_ms(wakes) is None
    assert clock.now_ms(wakes) is None
    assert clock.wakeup(1000) is None  # it will be told
    await until(lambda: wakes.count > 0, "the word")

    assert wakes.count == 1
    assert abs((clock.now_ms(wakes) or 0) - now_ms()) < 5000
    assert (await zk.exists(PATH)).version == 1  # type: ignore[union-attr]  # it exists


async def test_a_reading_is_not_used_for_more_than_a_minute(zk: Client, wakes: Wakes) -> None:
    offset = 0.0
    await zk.create(PATH)
    zk._clock = lambda: boot_clock() + offset  # the connection keeps its own, or it would think the session over
    clock = ServerClock(zk, PATH, b"", lambda: 0)
    await clock.read()
    assert clock.now_ms(wakes) is not None
    late, soon = clock.wakeup(now_ms() + 3_600_000), clock.wakeup(now_ms() + 10_000)
    assert late is not None
    assert soon is not None
    assert FRESH_SECONDS - 20 < late - zk.clock() <= FRESH_SECONDS
    assert soon < late
    offset = FRESH_SECONDS - 30
    assert clock.now_ms(wakes) is not None
    offset = 86_400.0
    assert clock.now_ms(wakes) is None
    await until(lambda: wakes.count == 1, "a new reading")

    assert abs((clock.now_ms(wakes) or 0) - now_ms()) < 5000


async def test_a_reading_is_not_used_over_another_connection(namespace: str, wakes: Wakes) -> None:
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=10.0) as zk:
        await zk.create(PATH)
        clock = ServerClock(zk, PATH, b"", lambda: 0)
        await clock.read()
        assert clock.now_ms(wakes) is not None
        proxy.cut()
        await until(lambda: clock.now_ms(wakes) is None, "the end of the connection")
        await until(lambda: wakes.count == 1, "a new reading")
        assert abs((clock.now_ms(wakes) or 0) - now_ms()) < 5000


async def test_a_znode_that_may_not_be_written_is_not_asked_in_a_loop(zk: Client, wakes: Wakes) -> None:
    clock = ServerClock(zk, "/absent", b"", lambda: 0)
    assert clock.now_ms(wakes) is None
    await until(lambda: wakes.count == 1, "the word")
    assert clock.now_ms(wakes) is None
    wakeup = clock.wakeup(0)
    assert wakeup is not None
    assert wakeup - zk.clock() > 1.0
    with pytest.raises(errors.NoNode):
        await clock.read()


def test_one_asks_for_what_is_due_when_its_millisecond_is_over() -> None:
    client, asked = ScriptedClient(), list[None]()
    client.add_listener = lambda _handle: None  # type: ignore[attr-defined]  # nothing happens to the session
    given: Any = client
    clock = ServerClock(given, PATH, b"", lambda: 0)
    assert clock.now_ms(lambda: asked.append(None)) is None
    client.answer("set", msgspec.structs.replace(STAT, mtime=5_000))
    now = clock.now_ms(lambda: None)
    assert (len(asked), now) == (1, 5_000)
    assert clock.wakeup(6_000) == pytest.approx(1.001)
    client.now = 1.001
    assert clock.now_ms(lambda: None) == 6_001
