"""A stage in a namespace of the test's own, which fails the test for every fault that the roles swallowed."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from herdmaster.zookeeper.client import Client
from tests.roles.stage import LONGEST, TIMEOUT, Stage


@pytest.fixture(autouse=True)
def threads_of_others() -> set[threading.Thread]:
    """What ran before the test: roles that other tests of this process share, for one."""
    return set(threading.enumerate()) - {threading.current_thread()}


@pytest.fixture
def caplog(
    caplog: pytest.LogCaptureFixture, threads_of_others: set[threading.Thread]
) -> Iterator[pytest.LogCaptureFixture]:
    """Without the records of other tests' threads, which complain when the machine is busy."""

    def is_ours(_record: logging.LogRecord) -> bool:
        return threading.current_thread() not in threads_of_others

    caplog.handler.addFilter(is_ours)
    yield caplog
    caplog.handler.removeFilter(is_ours)


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
