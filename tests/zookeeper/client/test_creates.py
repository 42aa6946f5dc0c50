"""Times to live as they are asked for; what servers make of them is in tests/conformance/test_client.py."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.client.creates import MAX_TTL, creation
from herdmaster.zookeeper.model import OPEN_ACL, CreateMode
from herdmaster.zookeeper.wire.records import Create, CreateContainer, CreateTtl
from tests.zookeeper.client.sessions import client_of

TTL, SEQUENTIAL_TTL = CreateMode.PERSISTENT_TTL, CreateMode.PERSISTENT_SEQUENTIAL_TTL


@pytest.mark.parametrize("mode", CreateMode)
def test_without_a_time_to_live_a_mode_is_sent_as_it_is_or_asks_for_one(mode: CreateMode) -> None:
    if mode in (TTL, SEQUENTIAL_TTL):
        with pytest.raises(ValueError, match=f"{mode.name} needs a time to live: say ttl="):
            creation("/a", b"", OPEN_ACL, mode, None)
        return
    kind = CreateContainer if mode is CreateMode.CONTAINER else Create
    assert creation("/a", b"x", OPEN_ACL, mode, None) == kind("/a", b"x", OPEN_ACL, mode)


@pytest.mark.parametrize(
    ("mode", "flags"),
    [
        (CreateMode.PERSISTENT, TTL),
        (TTL, TTL),
        (CreateMode.PERSISTENT_SEQUENTIAL, SEQUENTIAL_TTL),
        (SEQUENTIAL_TTL, SEQUENTIAL_TTL),
    ],
)
def test_a_time_to_live_makes_the_mode_one_that_has_it(mode: CreateMode, flags: CreateMode) -> None:
    assert creation("/a", None, OPEN_ACL, mode, 1.5) == CreateTtl("/a", None, OPEN_ACL, flags, 1500)


@pytest.mark.parametrize("mode", [CreateMode.EPHEMERAL, CreateMode.EPHEMERAL_SEQUENTIAL, CreateMode.CONTAINER])
def test_what_goes_by_itself_takes_no_time_to_live(mode: CreateMode) -> None:
    with pytest.raises(ValueError, match=f"for persistent znodes, sequential or not: {mode.name} takes no ttl"):
        creation("/a", b"", OPEN_ACL, mode, 1.0)


@pytest.mark.parametrize("ttl", [0, -1, 0.0005, MAX_TTL + 0.001, 2.0**63, math.inf, -math.inf, math.nan])
def test_a_time_to_live_that_no_server_takes_is_refused_here(ttl: float) -> None:
    with pytest.raises(ValueError, match=r"it takes seconds, at least 0\.001 and at most 1099511627$"):
        creation("/a", b"", OPEN_ACL, CreateMode.PERSISTENT, ttl)


@given(st.integers(1, 0xFFFFFFFFFF))
def test_whole_milliseconds_arrive_as_they_are(milliseconds: int) -> None:
    request = creation("/a", b"", OPEN_ACL, CreateMode.PERSISTENT, milliseconds / 1000)
    assert isinstance(request, CreateTtl)
    assert request.ttl == milliseconds


async def test_nothing_is_sent_of_what_is_refused_here(server: str) -> None:
    async with client_of(server) as client:
        transaction = client.transaction()
        for mode, ttl in ((CreateMode.EPHEMERAL, 1.0), (TTL, None), (CreateMode.PERSISTENT, 0.0)):
            with pytest.raises(ValueError, match=r"ttl|time to live"):
                await client.create("/a", mode=mode, ttl=ttl)
            with pytest.raises(ValueError, match=r"ttl|time to live"):
                transaction.create("/a", mode=mode, ttl=ttl)
        assert (len(transaction), transaction.size) == (0, 0)
        assert await client.children("/") == ()


def test_the_path_gets_its_namespace() -> None:
    client = Client("127.0.0.1/prod")
    request = client.creation("/", b"", OPEN_ACL, CreateMode.PERSISTENT_SEQUENTIAL, 1.0)
    assert request == CreateTtl("/prod/", b"", OPEN_ACL, SEQUENTIAL_TTL, 1000)
