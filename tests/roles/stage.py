"""Our roles in a test's own event loop, and a plain client beside them that sets scenes and looks."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial

from herdmaster.core import layout
from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.members import MasterRecord, encode_record
from herdmaster.core.names import UlidFactory, call_name, raw_name
from herdmaster.core.outcome import Outcome, OutcomeState, decode_result
from herdmaster.core.payload import BIG, Call, encode_arguments, encode_call
from herdmaster.core.transitions import NewTask
from herdmaster.errors import HerdError
from herdmaster.roles.client.client import ClientSettings, TaskClient
from herdmaster.roles.primary.master import Master, MasterSettings
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.roles.shared.role import Role
from herdmaster.roles.worker.worker import Worker, WorkerSettings
from herdmaster.running.execution import RawHandler
from herdmaster.running.hooks import Hooks
from herdmaster.running.registration import Function, Registration
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import SessionState
from herdmaster.zookeeper.paths import join

TIMEOUT = 2.0
"""Seconds, of sessions: short, and far above what a busy machine takes for a request."""
LONGEST = 4.0
"""The longest session that the servers of the tests grant."""
PATIENCE = 30.0
"""Seconds that a test waits for what is to happen: far above what a busy machine takes, below the limit of a test."""

OURS = encode_record(MasterRecord("master-x", "host", 1, 0))
REFERENCE = b"1a2b3c4d"
"""What stands in `/master`."""

_ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom)


def new_raw_name() -> str:
    return raw_name(_ulids.new())


def new_call_name(queue: str = "default", *, big: bool = False) -> str:
    return call_name(_ulids.new(), queue, big=big)


def call_payload(function: str, *args: object, deliveries: int = 0, started: str | None = None) -> bytes:
    return encode_call(Call(1, function, *encode_arguments(args, {}), deliveries=deliveries, started=started))


def new_call(function: str, *args: object, queue: str = "default") -> NewTask:
    payload = call_payload(function, *args)
    return NewTask(new_call_name(queue, big=len(payload) > BIG), payload)


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str, seconds: float = PATIENCE) -> None:
    """Looks a hundred times a second. TimeoutError, naming what was waited for, after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain for {what}")
        await asyncio.sleep(0.01)


class StagedMaster(Master):
    session: Client

    async def open(self) -> Client:
        self.session = await super().open()
        return self.session


class StagedWorker(Worker):
    session: Client

    async def open(self) -> Client:
        self.session = await super().open()
        return self.session


class Submitted:
    """What the client has been told of one task; each once, or the test fails."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def handle_accepted(self, _task: NewTask, error: HerdError | None) -> None:
        if error is None:
            self.accepted.set_result(None)
        else:
            self.accepted.set_exception(error)
            self.accepted.exception()  # a test may look at it or not

    def handle_ended(self, _name: str, outcome: Outcome | None, error: HerdError | None) -> bool:
        if outcome is not None:
            self.ended.set_result(outcome)
        else:
            assert error is not None
            self.ended.set_exception(error)
            self.ended.exception()
        return True

    async def outcome(self, seconds: float = PATIENCE) -> Outcome:
        async with asyncio.timeout(seconds):
            await self.accepted
            return await self.ended

    async def result(self) -> object:
        outcome = await self.outcome()
        assert outcome.error is None, outcome.error
        return decode_result(outcome)


class StagedClient(TaskClient):
    session: Client

    async def open(self) -> Client:
        self.session = await super().open()
        return self.session

    def put(self, task: NewTask) -> Submitted:
        submitted = Submitted(task.name)
        self.submit(task, submitted.handle_accepted, partial(self._handle_ended, submitted))
        return submitted

    def put_raw(self, data: bytes = b"payload") -> Submitted:
        return self.put(NewTask(new_raw_name(), data))

    def put_call(self, function: str, *args: object, queue: str = "default") -> Submitted:
        return self.put(new_call(function, *args, queue=queue))

    def wait_by_name(self, name: str) -> Submitted:
        submitted = Submitted(name)
        submitted.accepted.set_result(None)
        self.attach(name, partial(self._handle_ended, submitted))
        return submitted

    def _handle_ended(self, submitted: Submitted, name: str, outcome: Outcome | None, error: HerdError | None) -> bool:
        """Answer the requests to cancel the task, too, as a Herd does: its status is collected now."""
        is_taken = submitted.handle_ended(name, outcome, error)
        self.cancels.settle(name, is_cancelled=outcome is not None and outcome.state is OutcomeState.CANCELLED)
        return is_taken


class Ran:
    """A raw handler that remembers what it ran, and in whose hands."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.payloads: dict[str, bytes] = {}

    def __call__(self, name: str, payload: bytes) -> None:
        self.payloads[name] = payload
        self.names.append(name)  # last: a test in another thread waits for the name


class Gate:
    """A raw handler that is told when to go on, so that a test knows what is running. Opened at the end in any case."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self._open = threading.Event()

    def __call__(self, name: str, _payload: bytes) -> None:
        self.entered.append(name)
        self._open.wait(30)

    def open(self) -> None:
        self._open.set()


class Stage:
    """Starts roles, and stops what a test did not stop itself."""

    def __init__(self, hosts: str, zk: Client) -> None:
        self.hosts = hosts
        self.zk = zk
        self._running: dict[Role, asyncio.Task[None]] = {}
        self._gates: list[Gate] = []

    def start(self, role: Role) -> None:
        self._running[role] = asyncio.ensure_future(role.run())

    @property
    def roles(self) -> list[StagedMaster | StagedWorker | StagedClient]:
        """Those that run."""
        return [role for role in self._running if isinstance(role, (StagedMaster, StagedWorker, StagedClient))]

    def gate(self) -> Gate:
        self._gates.append(Gate())
        return self._gates[-1]

    async def master(
        self,
        settings: MasterSettings | None = None,
        *,
        hosts: str | None = None,
        is_primary: bool = True,
        task_ended: Callable[[AttemptEnd], object] | None = None,
    ) -> StagedMaster:
        """Waits until it is primary; with `is_primary=False` only until its session is there."""
        role = StagedMaster(hosts or self.hosts, settings or MasterSettings(session_timeout=TIMEOUT))
        role.task_ended = task_ended
        self.start(role)
        if is_primary:
            await until(lambda: role.is_primary, "a primary")
        else:
            await until(lambda: hasattr(role, "session"), "a session")
        return role

    async def worker(
        self,
        functions: Mapping[str, Function | Registration] | None = None,
        *,
        raw: RawHandler | None = None,
        hosts: str | None = None,
        slots: int | None = 4,
        queues: tuple[str, ...] = ("default",),
        drain_timeout: float = 10.0,
        session_timeout: float = TIMEOUT,
        app: str | None = None,
        hooks: Hooks | None = None,
    ) -> StagedWorker:
        """Waits until it is registered."""
        settings = WorkerSettings(
            session_timeout=session_timeout, drain_timeout=drain_timeout, slots=slots, queues=queues
        )
        role = StagedWorker(hosts or self.hosts, functions or {}, settings, raw or Ran(), app=app, hooks=hooks)
        self.start(role)
        await self.until_registered(role)
        return role

    async def until_registered(self, role: StagedWorker, *, unlike: str = "") -> None:
        async def is_registered() -> bool:
            return role.name not in {"", unlike} and await self.exists(layout.worker_path(role.name))

        await until(is_registered, "a registered worker")

    async def play_primary(self, data: bytes = OURS) -> None:
        """Puts a primary there that does nothing, so that the test can."""
        await make_folders(self.zk)
        try:
            await self.zk.create(layout.MASTER, data)
        except errors.NodeExists:
            await self.zk.set(layout.MASTER, data)

    async def client(self, hosts: str | None = None, *, outcome_ttl: float = 3600.0) -> StagedClient:
        role = StagedClient(hosts or self.hosts, ClientSettings(session_timeout=TIMEOUT, outcome_ttl=outcome_ttl))
        self.start(role)
        await until(lambda: hasattr(role, "session"), "a session")
        return role

    async def stop(self, role: Role) -> None:
        """Returns when it has ended in good order."""
        role.stop()
        await self._running.pop(role)

    async def abandon(self, role: StagedMaster | StagedWorker | StagedClient) -> None:
        """As if its process had been killed: nothing is said to the server, and its session lapses."""
        await role.session.abandon()
        running = self._running.pop(role)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    async def expire(self, role: StagedMaster | StagedWorker | StagedClient) -> None:
        """Ends the role's session from outside, as its expiry would."""
        await end_session(role.session, self.hosts)

    def break_connections(self) -> None:
        """Of all roles; they come back with the same sessions, and list everything anew."""
        for role in self.roles:
            connection = role.session._connection
            assert connection is not None
            if connection._link is not None:
                connection._link.abort()

    async def close(self) -> None:
        for gate in self._gates:
            gate.open()
        for role in list(self._running):
            role.stop()
        await asyncio.gather(*self._running.values())

    async def clear(self, folder: str = "/") -> None:
        """Deletes a folder (of the namespace: what is in it) with few requests, where others do it node by node.

        What roles write or what lapses between the listing and the transaction makes that fail: it is tried again.
        """
        for _ in range(5):
            with suppress(errors.TransactionFailed):
                await self._clear_once(folder)
                return

    async def _clear_once(self, folder: str) -> None:
        level, paths = [folder], [folder] if folder != "/" else []
        while level:
            found = await asyncio.gather(*(self.names(path) for path in level))
            level = [join(path, name) for path, names in zip(level, found, strict=True) for name in names]
            paths += level
        paths.reverse()
        for start in range(0, len(paths), 500):
            transaction = self.zk.transaction()
            for path in paths[start : start + 500]:
                transaction.delete(path)
            await transaction.commit()

    # --- looking ---------------------------------------------------------------------------------------------------

    async def exists(self, path: str) -> bool:
        return await self.zk.exists(path) is not None

    async def names(self, folder: str) -> list[str]:
        """Sorted; none for a folder that does not exist, or that may not be read."""
        try:
            return sorted(await self.zk.children(folder))
        except (errors.NoNode, errors.NoAuth):
            return []

    async def data(self, path: str) -> bytes:
        return (await self.zk.get(path))[0] or b""

    async def put(self, *paths: str, data: bytes | None = None) -> None:
        """Creates them, and their parents; their data is what is given, else their own paths."""
        for parent in sorted({parent for path in paths for parent in _ancestors(path)} - set(paths)):
            with suppress(errors.NodeExists):
                await self.zk.create(parent)
        transaction = self.zk.transaction()
        for path in sorted(paths):
            transaction.create(path, path.encode() if data is None else data)
        await transaction.commit()

    async def leftovers(self) -> list[str]:
        """Every task that is still somewhere, statuses included."""
        folders = ["/tasks", "/status", "/delayed", "/dead", *(f"/assign/{w}" for w in await self.names("/assign"))]
        return [f"{folder}/{name}" for folder in folders for name in await self.names(folder)]

    async def until_exists(self, path: str) -> None:
        await until(lambda: self.exists(path), path)

    async def until_gone(self, path: str, seconds: float = PATIENCE) -> None:
        async def is_gone() -> bool:
            return not await self.exists(path)

        await until(is_gone, f"the end of {path}", seconds)

    async def until_empty(self, *folders: str, seconds: float = PATIENCE) -> None:
        """Without folders: no task is anywhere any more."""

        async def is_empty() -> bool:
            if not folders:
                return not await self.leftovers()
            return not any([await self.names(folder) for folder in folders])

        await until(is_empty, f"nothing more in {', '.join(folders) or 'the folders of tasks'}", seconds)


def _ancestors(path: str) -> list[str]:
    """All but the root."""
    parts = path.split("/")[1:-1]
    return ["/" + "/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


async def end_session(client: Client, hosts: str) -> None:
    """Attaches with the session's id and password and closes it. The session's own connection may be quicker and take
    the session back; then it is done again."""
    identity = client.client_id
    while True:
        other = Client(hosts, session_timeout=client.timeout)
        other._session.client_id, other._session._heard_at = identity, other.clock()
        try:
            await other.open()
        except errors.SessionExpired:
            return
        await other.close()
        if client.state is SessionState.EXPIRED:
            return
