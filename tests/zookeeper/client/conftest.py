"""What the tests of the client run against, by these fixtures alone."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from herdmaster.testing.child_server import ChildServer
from tests.zookeeper.client.sessions import OwnServer, client_of

_numbers = itertools.count()


@pytest.fixture
def server(namespace: str) -> str:
    """The connect string of a running server, with a namespace of this test's own."""
    return namespace


@pytest.fixture(scope="module")
def _private_server(new_zookeeper: Callable[..., ChildServer]) -> Iterator[ChildServer]:
    with new_zookeeper() as server:
        yield server


@pytest.fixture
async def own_server(_private_server: ChildServer) -> AsyncIterator[OwnServer]:
    """A server that the test may stop, restart and pause, with a namespace of the test's own."""
    namespace = f"/own-{next(_numbers)}"
    async with client_of(_private_server.hosts) as client:
        await client.create(namespace)
    yield OwnServer(_private_server, namespace)
    if _private_server.is_running:
        _private_server.resume()
    else:
        _private_server.start()
