"""Roles in a closed namespace, each with the rights of its identity and no more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.access import Identity, kind_of
from herdmaster.core.members import DRAIN, DRAINED, NO_REQUEST, decode_worker
from herdmaster.core.names import call_name
from herdmaster.core.options import Overrides, RunOptions
from herdmaster.core.outcome import OutcomeState
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.core.queues import QueueSettings
from herdmaster.core.transitions import NewTask
from herdmaster.errors import HerdError
from herdmaster.operations import actions, keys
from herdmaster.operations.access import survey
from herdmaster.operations.workers import ask_worker
from herdmaster.roles.client.client import ClientSettings
from herdmaster.roles.primary.master import MasterSettings
from herdmaster.roles.primary.sweeper import Ages
from herdmaster.roles.shared.access import acl_of_kind, use_policy
from herdmaster.roles.shared.system import System
from herdmaster.roles.worker.worker import WorkerSettings
from herdmaster.running.registration import Function, Registration
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.client.creates import AnyCreate
from tests.closed import POLICY, close_namespace, reopen_namespace, security_of, session_of
from tests.roles.keyed import keyed
from tests.roles.stage import (
    TIMEOUT,
    Gate,
    Ran,
    Stage,
    StagedClient,
    StagedMaster,
    StagedWorker,
    new_call,
    new_call_name,
    until,
)


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


@pytest.fixture
async def stage(namespace: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[ClosedStage]:
    """In a closed namespace; the test looks as a master."""
    caplog.set_level(logging.INFO, "herdmaster")
    hosts = await close_namespace(namespace)
    async with session_of(hosts, Identity.MASTER) as zk:
        await use_policy(zk)
        stage = ClosedStage(hosts, zk)
        try:
            yield stage
        finally:
            async with asyncio.timeout(15 * TIMEOUT):
                await stage.close()
    await reopen_namespace(hosts)


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The path and the ACL of everything that a client in this process has created since."""
    made: dict[str, object] = {}
    original = Client.creation

    def creation(self: Client, path: str, *rest: Any) -> AnyCreate:
        request = original(self, path, *rest)
        made[path] = request.acl
        return request

    monkeypatch.setattr(Client, "creation", creation)
    return made


async def deviating(stage: ClosedStage) -> list[str]:
    return [seen.path async for seen in survey(stage.zk, POLICY) if seen.is_wrong]


def failing_call() -> NewTask:
    options = Overrides(max_attempts=2, backoff=0.0)
    payload = encode_call(Call(1, "m:fail", *encode_arguments((), {}), options=options))
    return NewTask(new_call_name(), payload)


def fail() -> None:
    raise ValueError("it fails")


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "NoAuth" in record.getMessage()]


FUNCTIONS: dict[str, Function | Registration] = {
    "m:f": lambda *args: sum(args),
    "m:fail": Registration(fail, RunOptions()),
}


@pytest.mark.long
async def test_all_features_work_with_nothing_but_the_rights_of_each_identity(
    stage: ClosedStage, created: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    await stage.master()
    worker = await stage.worker(FUNCTIONS)
    client, other = await stage.client(), await stage.client()
    async with session_of(stage.hosts, Identity.MASTER) as operator, session_of(stage.hosts, Identity.CLIENT) as caller:
        for each in (operator, caller):
            await use_policy(each)

        # Plain, delayed, expiring and silent tasks; outcomes by name, and of two clients.
        assert (await client.put_raw().outcome()).state is OutcomeState.DONE
        assert await client.put_call("m:f", 1, 2).result() == 3
        soon = int(time.time() * 1000) + 300
        assert await client.put(msgspec.structs.replace(new_call("m:f", 4), due_ms=soon)).result() == 4
        gate = stage.gate()
        slow = await stage.worker({}, raw=gate, queues=("gated",))
        named = NewTask(call_name("01h" + "0" * 23, "gated"), b"raw")
        first = client.put(msgspec.structs.replace(named, name=new_call_name("gated")))
        del first, named

        # A key: its second task is refused, and a program frees it.
        unique = keyed(due_ms=int(time.time() * 1000) + 600_000)
        await client.put(unique).accepted
        with pytest.raises(HerdError):
            await client.put(keyed()).accepted
        released = await keys.KeyRelease("the key", "m:f").run(caller)
        assert released == unique.name
        assert (await client.put(keyed()).outcome()).state is OutcomeState.DONE

        # Cancelling what waits, is delayed, and runs.
        assert await actions.cancel(caller, unique.name, 5.0) is actions.CancelVerdict.CANCELLED

        # Retries, dead tasks, and their replay.
        task = failing_call()
        assert (await client.put(task).outcome()).state is OutcomeState.FAILED
        await stage.until_exists(layout.dead_path(task.name))
        new_name = new_call_name()
        assert await actions.replay(operator, task.name, new_name)
        await stage.until_exists(layout.dead_path(new_name))
        assert await actions.purge(operator, new_name)

        # Limits of queues.
        await actions.change_queue(operator, "default", lambda _: QueueSettings(paused=True))
        await actions.change_queue(operator, "default", lambda _: QueueSettings(max_running=2))
        assert await client.put_call("m:f", 5).result() == 5
        byname = other.wait_by_name(task.name)
        del byname

        # A drain that an operator asks for.
        await ask_worker(operator, worker.name, DRAIN)

        async def is_drained() -> bool:
            record = decode_worker(await stage.data(layout.worker_path(worker.name)))
            return record is not None and record.state == DRAINED

        await until(is_drained, "the drain")
        await ask_worker(operator, worker.name, NO_REQUEST)
        assert await client.put_call("m:f", 6).result() == 6
        await stage.stop(slow)

    assert created
    assert {path: acl for path, acl in created.items() if acl != acl_of_kind(POLICY, kind_of(path))} == {}
    assert await deviating(stage) == []
    assert refusals(caplog) == []
