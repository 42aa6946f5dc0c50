"""Overdue tasks under a reference primary: they are too long in `/tasks`, or in the inbox of a worker that is gone.

The oldest of our masters assigns and recovers them. A Java master never looks again at a task that it saw while there
was no worker; a C master cannot read the names of our tasks, and recovers nothing.

- The dispatcher decides, as under a primary of ours, from a picture of the overdue tasks alone. Every move is one
  transaction with its guard.
- The times must be longer than any takeover and any move of the primary: otherwise a task that it is about to move
  could be lost (`tests/model/stand_in.py`). So nothing is done while the primary itself is younger than that.
- Empty inboxes stay: a Java master that takes over waits for ever if one vanishes.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.core.conditions import is_conditional
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.members import worker_state
from herdmaster.core.names import parse_task_name, parse_worker_name
from herdmaster.core.picture import Listing
from herdmaster.core.queues import decode_queue, parse_queue_name
from herdmaster.core.recovery import MAX_DELIVERIES, Recovery
from herdmaster.roles.primary.dispatch import Dispatch
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.shared.lacked_rights import LackedRights
from herdmaster.roles.shared.server_clock import ServerClock
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.paths import sequence_of
from herdmaster.zookeeper.recipes.ownership import wait_unless_over

OVERDUE_SECONDS: Final = 120.0
_MAX_INTERVAL: Final = 15.0
_SHORT_INTERVAL: Final = 1.0
_MAX_AT_ONCE: Final = 1000
_READ_AT_ONCE: Final = 200

_log = logging.getLogger("herdmaster.master")


class Patience(msgspec.Struct, frozen=True):
    """How long a task may stand in `/tasks`, and an inbox without its worker, in seconds."""

    task: float = OVERDUE_SECONDS
    inbox: float = OVERDUE_SECONDS


class Overdue:
    """Assigns and recovers what is overdue, for one session, while its master stands in."""

    def __init__(
        self,
        client: Client,
        server_clock: ServerClock,
        report: PrimaryLog,
        patience: Patience,
        max_deliveries: int = MAX_DELIVERIES,
    ) -> None:
        self._client = client
        self._server_clock = server_clock
        self._patience = patience
        self._recovery = Recovery(max_deliveries)
        self._report = report
        self._lacked = LackedRights()
        self._primary: tuple[int, str] | None = None
        self._primary_seen = 0
        self._waiting: dict[str, int] = {}  # tasks: since when each has stood in `/tasks`, as far as is known
        self._gone: dict[str, int] = {}  # inboxes: since when each has been seen without its worker

    async def run(self) -> None:
        """Look in rounds until the session is over. Raises SessionExpired then."""
        interval = min(self._patience.task / 4, self._patience.inbox / 4, _MAX_INTERVAL)
        seconds = interval
        while True:
            await asyncio.sleep(seconds)
            seconds = interval
            try:
                if await self._round():
                    seconds = min(interval, _SHORT_INTERVAL)
            except errors.ConnectionLoss:
                continue
            except errors.ServerError as error:
                if self._lacked.is_news(error):
                    _log.warning("could not look for overdue tasks: %s", error)

    async def _round(self) -> bool:
        """Return whether something was overdue."""
        now = await self._server_clock.read()
        is_young = now - await self._primary_since(now) < max(self._patience.task, self._patience.inbox) * 1000
        tasks = await self._find_tasks(now)
        alive, gone = await self._find_inboxes(now)
        if is_young:
            return False
        tasks = await self._still_old([(name, layout.task_path(name)) for name in tasks], now, self._patience.task)
        left = {worker: await self._find_assignments(worker, now) for worker in gone}
        left = {worker: names for worker, names in left.items() if names}
        if not tasks and not left:
            return False
        _log.info(
            "the primary is a reference program; overdue tasks in /tasks: %d, in inboxes of lost workers: %d",
            len(tasks), sum(map(len, left.values())),
        )  # fmt: skip
        dispatcher = Dispatcher(orphan_inbox_seconds=math.inf)
        changed = asyncio.Event()
        dispatch = Dispatch(
            self._client,
            dispatcher,
            self._server_clock,
            recovery=self._recovery,
            report=self._report,
            wake=changed.set,
            list_again=lambda: None,  # the next round looks anew
        )
        # Headers first, while no worker is known: they are one decision, and what follows from them another.
        dispatcher.replace_tasks(filter(is_conditional, tasks))
        await self._decide(dispatcher, dispatch, changed)
        for name in tasks:
            dispatcher.add_task(name)
        await self._tell_workers(dispatcher, alive, left)
        await self._tell_queues(dispatcher)
        await self._tell_statuses(dispatcher, tasks)
        await self._decide(dispatcher, dispatch, changed)
        return True

    async def _decide(self, dispatcher: Dispatcher, dispatch: Dispatch, changed: asyncio.Event) -> None:
        """Carry out one set of decisions. The picture does not change meanwhile, so nothing is decided twice."""
        for listing in Listing:
            dispatcher.complete(listing)
        dispatch.step()
        while dispatcher.under_way:
            await wait_unless_over(self._client, changed)
            changed.clear()

    # --- what is overdue ---------------------------------------------------------------------------------------------

    async def _primary_since(self, now: int) -> int:
        """Return since when this primary has been seen, in unix milliseconds.

        Of Curator masters the one with the lowest sequence number is primary.
        """
        found: tuple[int, str] | None = None
        stat = await self._client.exists(layout.MASTER)
        if stat is not None:
            candidates = await self._names(layout.MASTER) if stat.num_children else ()
            found = stat.czxid, min(candidates, key=sequence_of, default="")
        if found is None or found != self._primary:
            self._primary, self._primary_seen = found, now
        return self._primary_seen

    async def _find_tasks(self, now: int) -> list[str]:
        """Return the tasks that every listing has shown for so long; most do not stay for two listings."""
        names = {name for name in await self._client.children(layout.TASKS) if parse_task_name(name) is not None}
        self._waiting = {name: self._waiting.get(name, now) for name in names}
        limit = now - self._patience.task * 1000
        return sorted(name for name, since in self._waiting.items() if since <= limit)[:_MAX_AT_ONCE]

    async def _find_inboxes(self, now: int) -> tuple[list[str], list[str]]:
        """Return the inboxes of workers that are alive, and those whose workers have been gone too long."""
        inboxes = [name for name in await self._client.children(layout.ASSIGN) if parse_worker_name(name) is not None]
        workers = set(await self._client.children(layout.WORKERS))
        alive = [name for name in inboxes if name in workers]
        self._gone = {name: self._gone.get(name, now) for name in inboxes if name not in workers}
        limit = now - self._patience.inbox * 1000
        return alive, sorted(name for name, since in self._gone.items() if since <= limit)

    async def _find_assignments(self, worker: str, now: int) -> list[str]:
        """Return the overdue assignments: a primary that does not know yet may have assigned to the worker just now."""
        paths = [(name, layout.assignment_path(worker, name)) for name in await self._names(layout.inbox_path(worker))]
        return await self._still_old(paths[:_MAX_AT_ONCE], now, self._patience.inbox)

    async def _still_old(self, found: list[tuple[str, str]], now: int, seconds: float) -> list[str]:
        """Return the names whose znodes are that old; a name may have left and come back. `found`: names with paths."""
        times = await self._times([path for _, path in found])
        limit = now - seconds * 1000
        return [name for (name, _), time in zip(found, times, strict=True) if time is not None and time <= limit]

    # --- the rest of the picture -------------------------------------------------------------------------------------

    async def _tell_workers(self, dispatcher: Dispatcher, alive: Collection[str], left: dict[str, list[str]]) -> None:
        clock = self._client.clock
        dispatcher.replace_inboxes([*alive, *left], clock())
        for worker in alive:
            dispatcher.replace_assignments(worker, await self._names(layout.inbox_path(worker)), clock())
        for worker, names in left.items():
            dispatcher.replace_assignments(worker, names, clock())
        dispatcher.replace_workers(alive, clock())
        for worker, data in await self._read({worker: layout.worker_path(worker) for worker in alive}):
            dispatcher.set_worker_state(worker, worker_state(data))

    async def _tell_queues(self, dispatcher: Dispatcher) -> None:
        """Tell the limits of queues. A queue whose running tasks are limited is paused while an inbox of a lost worker
        holds tasks, because the picture has only those that are overdue."""
        is_incomplete = await self._hold_lost_workers_tasks()
        queues = [name for name in await self._names(layout.QUEUES) if parse_queue_name(name) is not None]
        for queue, data in await self._read({queue: layout.queue_path(queue) for queue in queues}):
            settings = decode_queue(data)
            if is_incomplete and settings is not None and settings.max_running is not None:
                settings = msgspec.structs.replace(settings, paused=True)
            dispatcher.set_limits(queue, settings, self._client.clock())

    async def _hold_lost_workers_tasks(self) -> bool:
        for worker in self._gone:
            if list(await self._names(layout.inbox_path(worker))):
                return True
        return False

    async def _tell_statuses(self, dispatcher: Dispatcher, tasks: list[str]) -> None:
        times = await self._times(list(map(layout.status_path, tasks)))
        dispatcher.add_statuses([name for name, time in zip(tasks, times, strict=True) if time is not None])

    # --- reading what may be gone at any moment ----------------------------------------------------------------------

    async def _names(self, folder: str) -> Iterable[str]:
        try:
            return await self._client.children(folder)
        except errors.NoNode:
            return ()

    async def _times(self, paths: list[str]) -> list[int | None]:
        """Return when each was created: None where there is no znode, 0 where it may not be read."""

        async def look(path: str) -> int | None:
            try:
                stat = await self._client.exists(path)
            except errors.NoAuth:
                return 0
            return None if stat is None else stat.ctime

        found: list[int | None] = []
        for start in range(0, len(paths), _READ_AT_ONCE):
            found += await asyncio.gather(*map(look, paths[start : start + _READ_AT_ONCE]))
        return found

    async def _read(self, paths: dict[str, str]) -> list[tuple[str, bytes | None]]:
        found = []
        for name, path in paths.items():
            try:
                found.append((name, (await self._client.get(path))[0]))
            except (errors.NoNode, errors.NoAuth):
                continue
        return found
