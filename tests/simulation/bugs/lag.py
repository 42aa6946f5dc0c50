"""Planted bugs that only servers which lag behind each other show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import msgspec

from herdmaster.roles.client import submission_journal
from herdmaster.roles.shared import bootstrap
from herdmaster.simulation.plan.drawing import draw_plan
from herdmaster.simulation.plan.faults import CutInMessage, When
from herdmaster.simulation.plan.plan import Kind, Plan
from herdmaster.zookeeper.client import Client


class _WithoutSync:
    """A client whose `sync` does nothing."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def sync(self, _path: str = "/") -> None:
        return None


def _without_sync(target: object, name: str, place: int) -> Any:
    """Call a coroutine function with such a client at a place of its arguments."""
    function = getattr(target, name)

    async def call(*args: Any, **options: Any) -> Any:
        return await function(*args[:place], _WithoutSync(args[place]), *args[place + 1 :], **options)

    return patch.object(target, name, call)


def journal_read_without_sync() -> Any:
    """The journal is read after a reconnect without a sync, so on another server it may be an old one."""
    return _without_sync(submission_journal.SubmissionJournal, "_settle_doubt", 1)


def folders_looked_for_without_sync() -> Any:
    """The folders of a namespace that another session has just made are looked for without a sync."""

    class Unsynced(Client):
        async def sync(self, _path: str = "/") -> None:
            return None

    return patch.object(bootstrap, "Client", Unsynced)


def inbox_listed_without_sync() -> Any:
    """A worker lists its inbox after a reconnect without a sync, so it may find what it has just taken out."""
    return patch.object(Client, "sync_nowait", lambda _self, _path="/": None)


def with_lost_replies(seed: int) -> Plan:
    """Return a plan in which workers lose many replies, and servers lag as far behind as they ever do."""
    plan = draw_plan(seed)
    workers = [program.name for program in plan.programs if program.kind is Kind.WORKER and not program.reference]
    faults = tuple(
        CutInMessage(when=When(transaction=20 + 7 * number), program=workers[number % len(workers)], up=False)
        for number in range(30)
    )
    addresses = ("zk1:2181", "zk2:2181", "zk3:2181")
    return msgspec.structs.replace(plan, addresses=addresses, lags=(1.5, 1.5), faults=faults)


BUGS: dict[str, Callable[[], Any]] = {
    bug.__name__: bug for bug in (journal_read_without_sync, folders_looked_for_without_sync, inbox_listed_without_sync)
}
