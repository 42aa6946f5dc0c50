"""A stage in a namespace of the test's own, which fails the test for every fault that the roles swallowed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from herdmaster.zookeeper.client import Client
from tests.roles.stage import LONGEST, TIMEOUT, Stage


@pytest.fixture
async def zk(namespace: str) -> AsyncIterator[Client]:
    async with Client(namespace, session_timeout=LONGEST, connect_timeout=15.0) as client:
        yield client


@pytest.fixture
async def stage(namespace: str, zk: Client, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Stage]:
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
    caplog.set_level(logging.INFO, "herdmaster")
    stage = Stage(namespace, zk)
    try:
        yield stage
    finally:
        async with asyncio.timeout(15 * TIMEOUT):
            await stage.close()
            await stage.clear()
    assert faults == []
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
