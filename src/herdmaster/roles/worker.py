"""A worker: registers, runs what comes into its inbox, and drains when told to stop.

One session is one worker: after an expiry it starts again under a new id, because the primary has given the old one's
tasks to others.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Mapping
from typing import Final

import msgspec

from herdmaster import __version__
from herdmaster.core import layout
from herdmaster.core.members import DRAINING, MAX_SLOTS, READY, WorkerRecord, decode_master, encode_record
from herdmaster.core.names import DEFAULT_QUEUE, check_queue, worker_name
from herdmaster.errors import ConfigurationError
from herdmaster.roles.bootstrap import make_folders, open_client
from herdmaster.roles.execution import Executor, Function, RawHandler
from herdmaster.roles.lifecycle import Role, run_until_first
from herdmaster.roles.shift import Shift
from herdmaster.roles.system import System
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import CreateMode, SessionState
from herdmaster.zookeeper.recipes.membership import wait_member_lost

_LONG_WAIT_SECONDS: Final = 2.0
"""A prefetched task that waits longer than this for a slot goes back, so that an idle worker can have it."""

_log = logging.getLogger("herdmaster.worker")


def default_slots() -> int:
    return min(32, (os.cpu_count() or 1) + 4)


def print_raw(name: str, data: bytes) -> None:
    """The raw handler of a worker that was given none: what the reference's worker does."""
    # With its line end in one write: several threads print.
    print(f"{name}: {data.decode('utf-8', 'replace')}\n", end="", flush=True)  # noqa: T201 - its purpose


class WorkerSettings(msgspec.Struct, frozen=True):
    """Times in seconds."""

    session_timeout: float = 10.0
    connect_timeout: float | None = 30.0
    drain_timeout: float = 25.0
    slots: int = msgspec.field(default_factory=default_slots)
    queues: tuple[str, ...] = (DEFAULT_QUEUE,)


def _check_settings(settings: WorkerSettings) -> None:
    if not 1 <= settings.slots <= MAX_SLOTS:
        raise ConfigurationError(f"a worker has from 1 to {MAX_SLOTS} slots, not {settings.slots}")
    if not settings.queues:
        raise ConfigurationError("a worker serves at least one queue: name it, or leave `queues` out")
    for queue in settings.queues:
        check_queue(queue)


def _check_functions(functions: Mapping[str, Function]) -> None:
    for name, function in functions.items():
        if inspect.iscoroutinefunction(function):
            raise ConfigurationError(f"{name} is an `async def`, which workers cannot run yet: make it a plain `def`")


class Worker(Role):
    """`functions` by the name that a call gives; nothing else is ever run, and nothing imported because a payload says
    so. `stop` drains: what runs may end within `drain_timeout`, the rest is handed back."""

    def __init__(
        self,
        hosts: str,
        functions: Mapping[str, Function],
        settings: WorkerSettings | None = None,
        raw_handler: RawHandler = print_raw,
        system: System | None = None,
    ) -> None:
        """Raises InvalidConnectString, InvalidName for a queue, ConfigurationError."""
        super().__init__("worker", hosts, system)
        self._functions = functions
        self._settings = settings or WorkerSettings()
        self._raw_handler = raw_handler
        self._shift: Shift | None = None
        self._changed = asyncio.Event()
        self.name = ""
        _check_settings(self._settings)
        _check_functions(functions)

    async def open(self) -> Client:
        settings = self._settings
        return await open_client(
            self.hosts,
            self.system,
            session_timeout=settings.session_timeout,
            connect_timeout=settings.connect_timeout,
        )

    @property
    def running(self) -> list[str]:
        """The names of the tasks whose code runs now."""
        return self._shift.running if self._shift is not None else []

    async def serve(self, client: Client) -> None:
        """One session under one id."""
        self.name = worker_name(self.system.new_id())

        def may_start() -> bool:
            # The client's own fence: past its deadline another worker may already have been given the task.
            return client.state is SessionState.CONNECTED and client.clock() < client.deadline

        executor = Executor(self._functions, self._raw_handler, self.name, may_start, unix_ms=self.system.unix_ms)
        await self._register(client)
        shift = self._shift = Shift(
            client,
            self.name,
            executor,
            slots=self._settings.slots,
            changed=self._changed.set,
            make_pool=self.system.make_pool,
        )
        try:
            shift.start()
            _log.info("%s is ready: %d slots, queues %s", self.name, self._settings.slots, ", ".join(self._queues))
            await run_until_first(
                wait_member_lost(client, layout.worker_path(self.name)),
                shift.wait_lost(),
                self._look_after(client, shift),
            )
            if not self.is_stopping:
                _log.warning("%s or its inbox was taken away although its session lives: starting again", self.name)
        finally:
            shift.close()
            self._shift = None

    @property
    def _queues(self) -> tuple[str, ...]:
        return self._settings.queues

    def _record(self, state: str) -> bytes:
        system = self.system
        record = WorkerRecord(
            slots=self._settings.slots,
            queues=self._queues,
            state=state,
            host=system.host,
            pid=system.pid,
            since=system.unix_ms(),
            version=__version__,
            calls=bool(self._functions),
        )
        return encode_record(record)

    async def _register(self, client: Client) -> None:
        """Inbox and membership in one transaction: nobody ever sees one without the other."""
        path = layout.worker_path(self.name)
        while True:
            transaction = client.transaction().create(layout.inbox_path(self.name))
            transaction.create(path, self._record(READY), mode=CreateMode.EPHEMERAL)
            try:
                await transaction.commit()
            except (errors.ConnectionLoss, errors.TransactionFailed) as error:
                stat = await client.exists(path)
                if stat is not None and stat.ephemeral_owner == client.session_id:
                    return  # it was applied, and only the reply was lost
                if isinstance(error, errors.TransactionFailed):
                    raise error.error from None
            else:
                return

    async def _look_after(self, client: Client, shift: Shift) -> None:
        """Says so when something holds up the event loop, hands back what waits too long for a slot, and makes folders
        that somebody took away.

        Pool threads share the interpreter with the heartbeat of the session.
        """
        interval = client.timeout / 12
        while True:
            running = shift.running
            before = client.clock()
            await asyncio.sleep(interval)
            stalled = client.clock() - before - interval
            if stalled > client.timeout / 3:
                _log.warning(
                    "the event loop stood still for %.1f s (the session times out after %.1f s); tasks running: %s",
                    stalled, client.timeout, ", ".join(running) or "none",
                )  # fmt: skip
            if shift.is_folder_missing:
                shift.is_folder_missing = False
                await make_folders(client)
            waiting_since = asyncio.get_running_loop().time() - _LONG_WAIT_SECONDS
            if shift.has_waiting(waiting_since) and await self._primary_is_ours(client):
                shift.hand_back(waiting_since=waiting_since)

    async def _primary_is_ours(self, client: Client) -> bool:
        """A primary of the reference's never looks at a task's name twice, so nothing can be handed back to it."""
        try:
            data, _ = await client.get(layout.MASTER)
        except errors.NoNode:
            return True
        return decode_master(data) is not None

    # --- the end -------------------------------------------------------------------------------------------------

    async def drain(self, client: Client) -> None:
        """Finishes what runs, hands back the rest, takes the inbox away."""
        shift = self._shift
        if shift is None:
            return
        _log.info("%s drains: %d tasks are running", self.name, len(shift.running))
        shift.stop_starting()
        # The inbox of a worker under a primary of the reference's stays: that primary moves what is in there when the
        # session is gone.
        ours = await self._primary_is_ours(client)
        if ours:
            await self._announce_draining(client)
        limit = client.clock() + self._settings.drain_timeout
        while not await self._is_done(client, shift, ours):
            remaining = limit - client.clock()
            if remaining <= 0:
                await self._give_up(client, shift, ours)
                return
            await self._wait_changed(min(remaining, 1.0))
        _log.info("%s has drained", self.name)

    async def _announce_draining(self, client: Client) -> None:
        while True:
            try:
                await client.set(layout.worker_path(self.name), self._record(DRAINING))
            except errors.ConnectionLoss:
                continue
            except errors.NoNode:  # it was taken away: nothing is assigned to it any more
                return
            return

    async def _is_done(self, client: Client, shift: Shift, ours: bool) -> bool:
        self._changed.clear()
        if ours:
            shift.hand_back()
            return shift.is_empty and await self._deregister(client, shift)
        return not shift.is_busy

    async def _give_up(self, client: Client, shift: Shift, ours: bool) -> None:
        _log.warning("%s gives up waiting for: %s", self.name, ", ".join(shift.running) or "its transactions")
        limit = client.clock() + client.timeout
        while ours and client.clock() < limit:
            self._changed.clear()
            shift.hand_back(running=True)
            if shift.is_empty and await self._deregister(client, shift):
                return
            await self._wait_changed(0.1)

    async def _deregister(self, client: Client, shift: Shift) -> bool:
        """False when the primary was quicker to assign another task."""
        # The inbox first: its event comes first, by which the primary tells a drained worker from a lost one.
        transaction = client.transaction().delete(layout.inbox_path(self.name))
        transaction.delete(layout.worker_path(self.name))
        try:
            await transaction.commit()
        except errors.TransactionFailed as failure:
            if isinstance(failure.error, errors.NotEmpty) and shift.is_empty:
                _log.warning("the inbox of %s is left behind: what it holds are no tasks", self.name)
                return True
            return isinstance(failure.error, errors.NoNode)
        except errors.ConnectionLoss:
            return False
        return True

    async def _wait_changed(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return
