"""The reference roles on our own client, with their properties: what the originals do in two requests takes two, what
they repeat after a lost connection is repeated, and a known name is not looked at again.

`tests/reference` has the same roles on another client library, and names the source of each property.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Final, TypeVar

from herdmaster.core import layout
from herdmaster.roles.shared.system import System
from herdmaster.simulation.plan.jobs import Job
from herdmaster.simulation.world.process import Process
from herdmaster.simulation.world.task_code import TaskCode
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import CreateMode, EventType, SessionState, WatchEvent

T = TypeVar("T")

_FOLDERS: Final = (layout.WORKERS, layout.ASSIGN, layout.TASKS, layout.STATUS)
_TASK_EXISTS_PAUSE: Final = 0.05
_C_NAME: Final = 15


async def _repeat(request: Callable[[], Awaitable[T]]) -> T:
    """Send a request again after each lost connection, although it may have been applied."""
    while True:
        try:
            return await request()
        except errors.ConnectionLoss:
            continue


async def _ignore(request: Callable[[], Awaitable[object]], *, repeat: bool = True) -> None:
    """Send a request and ignore the answer."""
    try:
        await (_repeat(request) if repeat else request())
    except (errors.ServerError, errors.ConnectionLoss):
        return


class ReferenceRole:
    """A reference program: its process ends with its one session."""

    def __init__(self, hosts: str, session_timeout: float, system: System) -> None:
        self.client = Client(
            hosts, session_timeout=session_timeout, connect_timeout=30.0, clock=system.clock, rng=system.rng
        )
        self.rng = random.Random(system.rng.getrandbits(64))
        self._stopping = asyncio.Event()
        self._actions: dict[asyncio.Task[None], None] = {}

    def stop(self) -> None:
        self._stopping.set()

    def begin(self) -> None:
        """Start the work; called once the client is started."""

    async def run(self) -> None:
        async with self.client:
            self.client.add_listener(self._handle_state)
            self.begin()
            await self._stopping.wait()
            for action in list(self._actions):
                action.cancel()
            await asyncio.gather(*self._actions, return_exceptions=True)

    def _handle_state(self, state: SessionState) -> None:
        if state.is_final:
            self._stopping.set()

    def spawn(self, action: Callable[..., Coroutine[object, object, None]], *args: object) -> None:
        """Run an action on its own, as a callback of the original does."""

        async def run() -> None:
            try:
                await action(*args)
            except (errors.ZooKeeperError, RuntimeError):
                return  # the original only logs it

        task = asyncio.ensure_future(run())
        self._actions[task] = None
        task.add_done_callback(lambda done: self._actions.pop(done, None))


class ReferenceMaster(ReferenceRole):
    """Assigns each new task to a random worker: creates the assignment, then deletes the task.

    `repeats_wrongly`: it repeats a delete at the path `/tasks//tasks/TASK`, which no client library sends."""

    def __init__(self, hosts: str, session_timeout: float, system: System, *, repeats_wrongly: bool = False) -> None:
        super().__init__(hosts, session_timeout, system)
        self._repeats_wrongly = repeats_wrongly
        self._id = f"{self.rng.getrandbits(32):x}".encode()
        self._workers: tuple[str, ...] | None = None
        self._seen: set[str] = set()

    def begin(self) -> None:
        self.spawn(self._start)

    async def _start(self) -> None:
        for folder in _FOLDERS:
            await _ignore(lambda folder=folder: self.client.create(folder))  # type: ignore[misc]  # a default binds the loop's variable
        await self._run_for_master()

    # --- election ----------------------------------------------------------------------------------------------------

    async def _run_for_master(self) -> None:
        while True:
            try:
                await self.client.create(layout.MASTER, self._id, mode=CreateMode.EPHEMERAL)
            except (errors.NodeExists, errors.ConnectionLoss):
                try:
                    data, _ = await _repeat(lambda: self.client.get(layout.MASTER))
                except errors.NoNode:
                    continue
                if data != self._id:  # it does not compare the sessions
                    await self._watch_master()
                    return
            await self._take_over()
            return

    async def _watch_master(self) -> None:
        def changed(event: WatchEvent) -> None:
            if event.type is EventType.DELETED:  # after any other event there is no watch any more
                self.spawn(self._run_for_master)

        if await _repeat(lambda: self.client.exists(layout.MASTER, changed)) is None:
            await self._run_for_master()

    async def _take_over(self) -> None:
        await self._list_workers()
        await self._recover()
        await self._list_tasks()

    # --- workers -----------------------------------------------------------------------------------------------------

    async def _list_workers(self) -> None:
        names = await _repeat(
            lambda: self.client.children(layout.WORKERS, lambda _event: self.spawn(self._list_workers))
        )
        lost = set(self._workers or ()) - set(names)
        self._workers = tuple(sorted(names))
        for worker in sorted(lost):
            held = await _repeat(functools.partial(self.client.children, f"/assign/{worker}"))
            await self._put_back(worker, held, set())

    async def _recover(self) -> None:
        """`/tasks`, `/assign`, `/workers`, each inbox, `/status`, in this order."""
        tasks = set(await _repeat(lambda: self.client.children(layout.TASKS)))
        inboxes = await _repeat(lambda: self.client.children(layout.ASSIGN))
        alive = set(await _repeat(lambda: self.client.children(layout.WORKERS)))
        if not alive:
            return
        assigned: list[str] = []
        for worker in sorted(inboxes):
            names = await _repeat(lambda worker=worker: self.client.children(f"/assign/{worker}"))  # type: ignore[misc]  # a default binds the loop's variable
            if worker in alive:
                assigned += names
            else:
                await self._put_back(worker, names, tasks)
        for name in (*assigned, *await _repeat(lambda: self.client.children(layout.STATUS))):
            if name in tasks:
                await _ignore(lambda name=name: self.client.delete(layout.task_path(name)))  # type: ignore[misc]  # a default binds the loop's variable

    async def _put_back(self, worker: str, names: Iterable[str], tasks: set[str]) -> None:
        for name in sorted(names):
            path = layout.assignment_path(worker, name)
            if name not in tasks:
                await self._recreate(name, path)
                tasks.add(name)
            await _ignore(lambda path=path: self.client.delete(path))  # type: ignore[misc]  # a default binds the loop's variable
        await _ignore(lambda: self.client.delete(layout.inbox_path(worker)))

    async def _recreate(self, name: str, path: str) -> None:
        data, _ = await _repeat(lambda: self.client.get(path))
        while True:
            try:
                await _repeat(lambda: self.client.create(layout.task_path(name), data))
            except errors.NodeExists:  # it assumes that a delete is in flight
                await asyncio.sleep(_TASK_EXISTS_PAUSE)
            else:
                return

    # --- tasks -------------------------------------------------------------------------------------------------------

    async def _list_tasks(self) -> None:
        names = await _repeat(lambda: self.client.children(layout.TASKS, lambda _event: self.spawn(self._list_tasks)))
        new = sorted(set(names) - self._seen)
        self._seen = set(names)
        for name in new:
            self.spawn(self._assign, name)

    async def _assign(self, name: str) -> None:
        data, _ = await _repeat(lambda: self.client.get(layout.task_path(name)))
        if not self._workers:
            return  # skipped for good
        worker = self.rng.choice(self._workers)
        await _repeat(lambda: self.client.create(layout.assignment_path(worker, name), data))
        await _ignore(lambda: self.client.delete(layout.task_path(name)), repeat=not self._repeats_wrongly)


class CMaster(ReferenceMaster):
    """Only assigns. It cuts names at 15 characters, and exits at a task for which there is no worker."""

    async def _take_over(self) -> None:
        await self._list_workers()

    async def _list_workers(self) -> None:
        names = await _repeat(
            lambda: self.client.children(layout.WORKERS, lambda _event: self.spawn(self._list_workers))
        )
        self._workers = tuple(sorted(names))
        await self._list_tasks()

    async def _assign(self, name: str) -> None:
        cut = name[:_C_NAME]
        await _repeat(lambda: self.client.get(layout.task_path(cut)))
        if not self._workers:
            self.stop()
            return
        await super()._assign(cut)


class ReferenceWorker(ReferenceRole):
    """Runs one task after the other, and answers `done` to all: creates the status, then deletes the assignment.

    `repeats_wrongly`: after a lost connection it creates the status again, below the first."""

    def __init__(
        self,
        hosts: str,
        session_timeout: float,
        system: System,
        process: Process,
        code: TaskCode,
        *,
        repeats_wrongly: bool = False,
    ) -> None:
        super().__init__(hosts, session_timeout, system)
        self._repeats_wrongly = repeats_wrongly
        self.name = f"worker-{self.rng.getrandbits(32):x}"
        self._process = process
        self._code = code
        self._seen: set[str] = set()
        self._jobs: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    def begin(self) -> None:
        self.spawn(self._start)

    async def _start(self) -> None:
        inbox = layout.inbox_path(self.name)
        await _ignore(lambda: self.client.create(inbox))
        await _ignore(lambda: self.client.create(layout.worker_path(self.name), b"Idle", mode=CreateMode.EPHEMERAL))
        await self._list_inbox()
        while True:
            name, payload = await self._jobs.get()
            await self._run_job(name, payload)

    async def _list_inbox(self) -> None:
        inbox = layout.inbox_path(self.name)
        names = await _repeat(lambda: self.client.children(inbox, lambda _event: self.spawn(self._list_inbox)))
        new = sorted(set(names) - self._seen)
        self._seen = set(names)
        for name in new:
            data, _ = await _repeat(lambda name=name: self.client.get(f"{inbox}/{name}"))  # type: ignore[misc]  # a default binds the loop's variable
            self._jobs.put_nowait((name, data or b""))

    async def _run_job(self, name: str, payload: bytes) -> None:
        run = self._code.handle_raw(self._process, lambda: self.name)
        try:
            run(name, payload)
        except Exception:  # noqa: BLE001 - the task gets no status and stays in the inbox
            self._code.take_duration()
            return
        duration = self._code.take_duration()
        await (asyncio.sleep(duration) if duration is not None else asyncio.get_running_loop().create_future())
        status = self._create_status(layout.status_path(name))
        delete = self.client.delete(layout.assignment_path(self.name, name))
        await asyncio.gather(status, delete, return_exceptions=True)  # both are sent at once

    async def _create_status(self, path: str) -> None:
        while True:
            try:
                await self.client.create(path, b"done")
            except errors.ConnectionLoss:
                if not self._repeats_wrongly:
                    raise
                path = f"{path}/status"
            else:
                return


class ReferenceClient(ReferenceRole):
    """Creates sequential tasks and waits for their statuses. A repeated create makes a second task."""

    def __init__(
        self,
        hosts: str,
        session_timeout: float,
        system: System,
        process: Process,
        jobs: Iterable[Job],
        submitted: dict[int, None],
    ) -> None:
        super().__init__(hosts, session_timeout, system)
        self._process = process
        self._jobs = [job for job in jobs if job.index not in submitted]
        self._submitted = submitted

    def begin(self) -> None:
        self.spawn(self._submit_all)

    async def _submit_all(self) -> None:
        for job in sorted(self._jobs, key=lambda job: (job.at, job.index)):
            await asyncio.sleep(max(job.at - self._process.loop.now, 0.0))
            self._submitted[job.index] = None
            self.spawn(self._submit, job)

    async def _submit(self, job: Job) -> None:
        data = f"t{job.index}:{'x' * job.size}".encode()
        path = await _repeat(
            lambda: self.client.create(f"{layout.TASKS}/task-", data, mode=CreateMode.PERSISTENT_SEQUENTIAL)
        )
        status = layout.status_path(layout.name_of(path))
        created = asyncio.Event()
        if await _repeat(lambda: self.client.exists(status, lambda _event: created.set())) is None:
            await created.wait()
        await _repeat(lambda: self.client.get(status))
        await _ignore(lambda: self.client.delete(status))
