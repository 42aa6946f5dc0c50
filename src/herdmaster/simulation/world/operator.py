"""The program of an operator: runs one errand, which may be a mistake."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Protocol

from herdmaster.core import layout
from herdmaster.core.names import UlidFactory, renewed_name
from herdmaster.core.queues import UNLIMITED, QueueSettings
from herdmaster.errors import HerdError
from herdmaster.operations import actions
from herdmaster.operations import keys as held_keys
from herdmaster.operations.actions import CancelVerdict
from herdmaster.roles.shared.system import System
from herdmaster.simulation.plan.faults import Limit, Mistake
from herdmaster.simulation.world.errands import (
    AddSchedule,
    CancelTask,
    DeleteStepOf,
    EditFlow,
    EditSchedule,
    Errand,
    LimitQueueFor,
    ReleaseKey,
    ReplayDead,
)
from herdmaster.simulation.world.flow_operator import change_flow, delete_step
from herdmaster.simulation.world.process import Process
from herdmaster.simulation.world.schedule_operator import run_errand
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

_LITTER: Final = (
    "/tasks/no-task",
    "/tasks/task-",
    "/tasks/task-x.y.z",
    "/assign/none",
    "/status/no-task",
    "/workers/none",
    "/workers/worker-of-none",
    "/delayed/tomorrow",
    "/clients/none",
    "/masters/none",
    "/dead/no-task",
    "/litter",
)
LITTER: Final = b"what is this?"
_TIMEOUT: Final = 4.0
_PATIENCE: Final = 20.0
_PAUSE_SECONDS: Final = 1.0
_WITHOUT_KEY: Final = 0.5
_SETTINGS: Final = {
    Limit.PAUSED: QueueSettings(paused=True),
    Limit.ONE: QueueSettings(max_running=1),
    Limit.SLOW: QueueSettings(rate=2.0),
}


class OperatorReports(Protocol):
    """Takes what operators are told."""

    def cancel_answered(self, task: str, verdict: CancelVerdict) -> None: ...

    def was_replayed(self, task: str, new_task: str, *, with_key: bool) -> None: ...


class Operator:
    """Runs one errand."""

    def __init__(self, hosts: str, system: System, process: Process, reports: OperatorReports) -> None:
        self._hosts = hosts
        self._system = system
        self._process = process
        self._reports = reports

    async def do(self, errand: Errand) -> None:
        if isinstance(errand, LimitQueueFor):
            await self._limit(errand)
            return
        with contextlib.suppress(errors.ZooKeeperError, HerdError):  # tried once
            async with self._client() as client:
                if isinstance(errand, CancelTask):
                    verdict = await actions.cancel(client, errand.task, _PATIENCE)
                    self._reports.cancel_answered(errand.task, verdict)
                elif isinstance(errand, ReleaseKey):
                    await held_keys.release(client, errand.hash)
                elif isinstance(errand, ReplayDead):
                    await self._replay(client)
                elif isinstance(errand, AddSchedule | EditSchedule):
                    await run_errand(client, self._process, errand)
                elif isinstance(errand, EditFlow):
                    await change_flow(client, errand)
                elif isinstance(errand, DeleteStepOf):
                    await delete_step(client, errand, self._process.rng)
                else:
                    await self._make_mistake(client, errand)

    def _client(self) -> Client:
        clock, rng = self._system.clock, self._system.rng
        return Client(self._hosts, session_timeout=_TIMEOUT, connect_timeout=_TIMEOUT, clock=clock, rng=rng)

    async def _limit(self, errand: LimitQueueFor) -> None:
        await self._set(errand.queue, _SETTINGS[errand.limit])
        await asyncio.sleep(errand.seconds)
        await self._set(errand.queue, UNLIMITED)

    async def _set(self, queue: str, settings: QueueSettings) -> None:
        while True:
            try:
                async with self._client() as client:
                    await actions.change_queue(client, queue, lambda _before: settings)
                    return
            except errors.ZooKeeperError:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _replay(self, client: Client) -> None:
        ulids = UlidFactory(self._process.unix_ms, self._process.rng.randbytes)
        for task in sorted(await client.children(layout.DEAD)):
            new, with_key = renewed_name(task, ulids.new()), True
            try:
                is_replayed = await actions.replay(client, task, new)
            except actions.KeyHeld:
                if self._process.rng.random() >= _WITHOUT_KEY:
                    continue
                with_key = False
                is_replayed = await actions.replay(client, task, new, with_key=False)
            if is_replayed:
                self._reports.was_replayed(task, new, with_key=with_key)

    # --- mistakes ---------------------------------------------------------------------------------------------------

    async def _make_mistake(self, client: Client, what: Mistake) -> None:
        if what is Mistake.LITTER:
            for path in _LITTER:
                with contextlib.suppress(errors.ServerError):
                    await client.create(path, LITTER)
            return
        paths = await self._targets(client, what)
        if paths:
            await client.delete(self._process.rng.choice(paths))

    async def _targets(self, client: Client, what: Mistake) -> list[str]:
        match what:
            case Mistake.OUST_PRIMARY:
                return [layout.MASTER]
            case Mistake.OUST_WORKER:
                return [f"{layout.WORKERS}/{name}" for name in sorted(await client.children(layout.WORKERS))]
            case Mistake.OUST_MASTER:
                return [f"{layout.MASTERS}/{name}" for name in sorted(await client.children(layout.MASTERS))]
            case _:
                clients = [f"{layout.CLIENTS}/{name}" for name in sorted(await client.children(layout.CLIENTS))]
                return [f"{path}/{name}" for path in clients for name in sorted(await client.children(path))]
