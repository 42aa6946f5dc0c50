"""A stage in a closed namespace, whose roles have the rights of their identities and no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from herdmaster.core.access import Identity
from herdmaster.roles.client.client import ClientSettings
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.roles.primary.sweeper import Ages
from herdmaster.roles.shared.access import use_policy
from herdmaster.roles.shared.system import System
from herdmaster.roles.worker.worker import WorkerSettings
from herdmaster.running.registration import Function, Registration
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.client.creates import AnyCreate
from tests.closed import close_namespace, deviations, reopen_namespace, security_of, session_of
from tests.roles.stage import TIMEOUT, Gate, Ran, Stage, StagedClient, StagedMaster, StagedWorker, until


class ClosedStage(Stage):
    """A stage whose roles present the identities of their kinds."""

    def __init__(self, hosts: str, zk: Client) -> None:
        super().__init__(hosts, zk)
        self.ages = Ages()

    async def master(  # type: ignore[override]  # fewer options
        self, *, is_primary: bool = True, identity: Identity | None = Identity.MASTER
    ) -> StagedMaster:
        settings = MasterSettings(session_timeout=TIMEOUT, ages=self.ages)
        role = StagedMaster(self.hosts, settings, system_of(identity))
        self.start(role)
        if is_primary:
            await until(lambda: role.is_primary, "a primary")
        else:
            await until(lambda: hasattr(role, "session"), "a session")
        return role

    async def worker(  # type: ignore[override]  # fewer options
        self,
        functions: dict[str, Function | Registration] | None = None,
        *,
        raw: Ran | Gate | None = None,
        identity: Identity | None = Identity.WORKER,
        queues: tuple[str, ...] = ("default", "slow"),
    ) -> StagedWorker:
        settings = WorkerSettings(session_timeout=TIMEOUT, drain_timeout=5.0, slots=4, queues=queues)
        role = StagedWorker(self.hosts, functions or {}, settings, raw or Ran(), system=system_of(identity))
        self.start(role)
        await self.until_registered(role)
        return role

    async def client(  # type: ignore[override]  # fewer options
        self, *, identity: Identity | None = Identity.CLIENT
    ) -> StagedClient:
        role = StagedClient(self.hosts, ClientSettings(session_timeout=TIMEOUT), system_of(identity))
        self.start(role)
        await until(lambda: hasattr(role, "session"), "a session")
        return role


def system_of(identity: Identity | None) -> System:
    return System() if identity is None else System(security=security_of(identity))


@asynccontextmanager
async def closed_stage(namespace: str) -> AsyncIterator[ClosedStage]:
    """A stage in a new closed namespace, which looks as a master."""
    hosts = await close_namespace(namespace)
    async with session_of(hosts, Identity.MASTER) as zk:
        await use_policy(zk)
        stage = ClosedStage(hosts, zk)
        try:
            yield stage
        finally:
            async with asyncio.timeout(15 * TIMEOUT):
                await stage.close()
    await reopen_namespace(hosts, is_checked=True)


def note_creations(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Return the path and the ACL of everything that a client in this process creates from now on."""
    made: dict[str, object] = {}
    original = Client.creation

    def creation(self: Client, path: str, *rest: Any) -> AnyCreate:
        request = original(self, path, *rest)
        made[path] = request.acl
        return request

    monkeypatch.setattr(Client, "creation", creation)
    return made


async def deviating(stage: ClosedStage) -> list[str]:
    return await deviations(stage.zk)


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "NoAuth" in record.getMessage()]
