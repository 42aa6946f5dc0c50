"""One session for one verb."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from herdmaster.cli.options import choose_hosts
from herdmaster.errors import ConfigurationError
from herdmaster.zookeeper.client import Client

T = TypeVar("T")


def in_session(hosts: str | None, connect_timeout: float, work: Callable[[Client], Awaitable[T]]) -> T:
    """What `work` returns. Raises InvalidConnectString, NoServerReachable, ConfigurationError where the namespace does
    not exist, and what `work` raises."""

    async def run() -> T:
        async with Client(choose_hosts(hosts), connect_timeout=connect_timeout) as client:
            if await client.exists("/") is None:
                raise ConfigurationError(
                    f"the namespace in {client.hosts} does not exist: check the connect string, or start a master "
                    "there, which makes it"
                )
            return await work(client)

    return asyncio.run(run())
