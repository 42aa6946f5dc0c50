"""What the tests of the client run against: today Apache's server, by these fixtures alone."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from herdmaster.testing.apache import ApacheZooKeeper
from tests.zookeeper.client.sessions import OwnServer, client_of

_numbers = itertools.count()


@pytest.fixture
def server(namespace: str) -> str:
    """The connect string of a running server, with a namespace of this test's own."""
    return namespace


@pytest.fixture(scope="module")
def _private_apache(apache: ApacheZooKeeper) -> Iterator[ApacheZooKeeper]:
    # Asking for `apache` as well skips or fails where there is none.
    with ApacheZooKeeper() as server:
        yield server


@pytest.fixture
async def own_server(_private_apache: ApacheZooKeeper) -> AsyncIterator[OwnServer]:
    """A server that the test may stop, restart and pause, with a namespace of the test's own."""
    namespace = f"/own-{next(_numbers)}"
    async with client_of(_private_apache.hosts) as client:
        await client.create(namespace)
    yield OwnServer(_private_apache, namespace)
    if _private_apache.is_running:
        _private_apache.resume()
    else:
        _private_apache.start()
