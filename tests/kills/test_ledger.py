"""The ledger of these tests counts exactly, also over a lost connection and a lost session."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from herdmaster.core import layout
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.client import Client
from tests.kills.ledger import Ledger
from tests.proxy import Proxy
from tests.roles.stage import until

pytestmark = pytest.mark.long


async def commit(client: Client, *tasks: str) -> None:
    for task in tasks:
        await client.create(layout.status_path(task))


async def collect(client: Client, *tasks: str) -> None:
    for task in tasks:
        await client.delete(layout.status_path(task))


@pytest.mark.parametrize("is_session_lost", [False, True], ids=["connection", "session"])
async def test_what_is_committed_while_the_connection_is_away_is_counted(namespace: str, is_session_lost: bool) -> None:
    async with Client(namespace) as client, Proxy(namespace) as proxy:
        await make_folders(client)
        await commit(client, "before")
        ledger = Ledger(proxy.hosts, session_timeout=0.5 if is_session_lost else 4.0)
        await asyncio.to_thread(ledger.__enter__)
        await commit(client, "a", "b")
        await collect(client, "a", "before")
        await until(lambda: ledger.committed.total() == 2, "the events")
        looks = ledger.looks
        proxy.refuse()
        await commit(client, "c", "d", "e")
        await collect(client, "b", "c", "d")
        if is_session_lost:
            await until(lambda: ledger.lost_sessions == 1, "the end of the session")
        proxy.refuse(refusing=False)
        await until(lambda: ledger.looks > looks, "another look")
        await commit(client, "f")
        tasks = ["a", "b", "c", "d", "e", "f"]
        await asyncio.to_thread(ledger.check, tasks)
        assert ledger.committed == Counter(["a", "b", "e", "f"])
        assert ledger.unnamed == 2
        await commit(client, "c")
        await until(lambda: ledger.committed["c"] == 1, "the event")
        with pytest.raises(AssertionError):
            ledger.check(tasks)
        await asyncio.to_thread(ledger.__exit__, None, None, None)
