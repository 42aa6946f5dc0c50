"""The sessions of a Herd, one after the other: what is logged while there is none."""

from __future__ import annotations

import asyncio
import logging

import pytest

from herdmaster.api.session import HerdClient
from herdmaster.roles.client.client import ClientSettings
from herdmaster.testing.embedded import EmbeddedZooKeeper
from herdmaster.zookeeper.client import Client
from tests.authority import Authority
from tests.roles.stage import until


class CountingClient(HerdClient):
    opened = 0

    async def open(self) -> Client:
        self.opened += 1
        return await super().open()


@pytest.mark.long
@pytest.mark.fallback("_RETRY_SECONDS")
async def test_a_fault_of_settings_is_logged_once_over_all_attempts(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedZooKeeper(tls=authority.server.tls(ca=None)) as server:
        client, stop = CountingClient(server.hosts, ClientSettings(connect_timeout=0.2)), asyncio.Event()
        keeping = asyncio.create_task(client.keep(stop))
        await until(lambda: client.opened >= 3, "three attempts")
        stop.set()
        client.stop()
        await keeping
    lines = [text for text in map(logging.LogRecord.getMessage, caplog.records) if "give TLS settings" in text]
    assert [line.partition(":")[0] for line in lines] == [
        "no connection with ZooKeeper",
        f"no session with {server.hosts.partition(':')[0]}",
    ]
