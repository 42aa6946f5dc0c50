"""Monitoring over a real connection, in the loop of its process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from herdmaster import forks
from herdmaster.errors import ConfigurationError
from herdmaster.monitoring.metrics import Metrics
from herdmaster.monitoring.server import bind, serve
from herdmaster.monitoring.web import make_app
from herdmaster.zookeeper import errors


class Process:
    """What is monitored, as a test wants it."""

    def __init__(self) -> None:
        self.missing: str | None = None
        self.wanted: int | errors.ZooKeeperError = 7
        self.asked: list[str | None] = []

    def not_ready(self) -> str | None:
        return self.missing

    async def slots_wanted(self, queue: str | None, /) -> int:
        self.asked.append(queue)
        if isinstance(self.wanted, errors.ZooKeeperError):
            raise self.wanted
        return self.wanted


@asynccontextmanager
async def served(process: Process) -> AsyncIterator[int]:
    listening = bind("127.0.0.1:0")
    serving = asyncio.ensure_future(serve(make_app(process, Metrics()), listening))
    try:
        yield listening.getsockname()[1]
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def ask(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


async def test_health_and_metrics_are_answered() -> None:
    process = Process()
    async with served(process) as port:
        assert await ask(port, "/livez") == (200, "ok\n")
        assert await ask(port, "/readyz") == (200, "ok\n")
        process.missing = "no session with ZooKeeper"
        assert await ask(port, "/readyz") == (503, "no session with ZooKeeper\n")
        assert await ask(port, "/livez") == (200, "ok\n")
        status, text = await ask(port, "/metrics")
        assert (status, "herd_zookeeper_session_expirations_total 0.0" in text) == (200, True)
        assert (await ask(port, "/nosuch"))[0] == 404


async def test_the_scale_is_that_of_the_queue_that_is_asked_for() -> None:
    process = Process()
    async with served(process) as port:
        status, body = await ask(port, "/scale?queue=mail")
        assert (status, json.loads(body)) == (200, {"queue": "mail", "slots_wanted": 7})
        assert json.loads((await ask(port, "/scale"))[1]) == {"queue": None, "slots_wanted": 7}
        assert process.asked == ["mail", None]
        process.wanted = errors.ConnectionLoss("lost")
        assert (await ask(port, "/scale"))[0] == 503


async def test_signals_stay_with_the_role() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with served(Process()) as port:
        await ask(port, "/livez")
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


async def test_its_life_is_no_news_for_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with served(Process()) as port:
        await ask(port, "/livez")

    assert [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")] == []


async def test_its_port_is_free_again_when_it_ends() -> None:
    async with served(Process()) as port:
        await ask(port, "/livez")
    bind(f"127.0.0.1:{port}").close()


@pytest.mark.parametrize("address", ["", "localhost", "1234", "127.0.0.1:x", "127.0.0.1:99999", "nosuch.invalid:80"])
def test_an_address_that_cannot_be_used_is_one_clear_error(address: str) -> None:
    with pytest.raises(ConfigurationError, match="listen on"):
        bind(address)


def test_a_port_that_is_taken_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigurationError, match="in use"):
        bind(f":{taken.getsockname()[1]}")


def test_a_host_whose_name_cannot_be_one_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not the name of a host"):
        bind("a..b:9100")


def test_a_forked_child_does_not_keep_the_address_in_use() -> None:
    listening = bind("127.0.0.1:0")
    address = listening.getsockname()
    from_child, to_parent = os.pipe()
    from_parent, to_child = os.pipe()
    child = os.fork()
    if not child:
        os.close(to_child)
        os.write(to_parent, b"1")
        os.read(from_parent, 1)
        os._exit(0)
    try:
        os.read(from_child, 1)  # it has begun
        forks.discard_fd(listening.fileno())
        listening.close()
        with bind(f"127.0.0.1:{address[1]}") as again:
            forks.discard_fd(again.fileno())
    finally:
        os.close(to_child)
        os.waitpid(child, 0)
        for fd in (from_child, to_parent, from_parent):
            os.close(fd)
