"""A worker: registers, runs what comes into its inbox, and drains when told to stop.

One session is one worker: after an expiry it starts again under a new id, because the primary has given the old one's
tasks to others.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from herdmaster import __version__
from herdmaster.core import layout
from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.codec import Codecs
from herdmaster.core.history import EndState
from herdmaster.core.history_recorder import Recorder
from herdmaster.core.members import DRAINING, FLOWS, MAX_SLOTS, NO_REQUEST, READY, STOP, WorkerRecord, encode_record
from herdmaster.core.names import DEFAULT_QUEUE, check_queue, worker_name
from herdmaster.core.options import PoolKind
from herdmaster.core.printable import escaped, indented
from herdmaster.core.signing import SignedOnly
from herdmaster.errors import ConfigurationError
from herdmaster.greenlets import refuse_patched
from herdmaster.pools.folder import Folder
from herdmaster.pools.outlets import wait_for_room
from herdmaster.roles.shared.bootstrap import restore_folders
from herdmaster.roles.shared.history_writer import HistoryWriter
from herdmaster.roles.shared.primary_kind import PrimaryKind, primary_is_ours
from herdmaster.roles.shared.role import Role, run_until_first
from herdmaster.roles.shared.system import System
from herdmaster.roles.worker.draining import Draining
from herdmaster.roles.worker.equipment import Equipment
from herdmaster.roles.worker.error_calls import ErrorCalls
from herdmaster.roles.worker.next_move import NextMoves
from herdmaster.roles.worker.own_znode import OwnZnode
from herdmaster.roles.worker.pools import Capacity
from herdmaster.roles.worker.progress_writer import ProgressWriter
from herdmaster.roles.worker.requested_drain import RequestedDrain
from herdmaster.roles.worker.task_log import TaskLog
from herdmaster.roles.worker.worker_hooks import WorkerHooks
from herdmaster.roles.worker.worker_session import WorkerSession
from herdmaster.running.child import Setting
from herdmaster.running.execution import Executor, RawHandler
from herdmaster.running.hooks import Hooks
from herdmaster.running.program import Program
from herdmaster.running.registration import Function, Registration
from herdmaster.tracing import find_spans
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import CreateMode, SessionState
from herdmaster.zookeeper.recipes.server_time import ServerTime

_LONG_WAIT_SECONDS: Final = 2.0
"""A prefetched task that waits longer than this for a slot is handed back, so that an idle worker can run it."""

_TIME_SECONDS: Final = 60.0
"""Between two readings of the servers' time."""

_COROUTINES: Final = 1000

_log = logging.getLogger("herdmaster.worker")


def default_slots() -> int:
    return min(32, (os.cpu_count() or 1) + 4)


def print_raw(name: str, data: bytes) -> None:
    """Print a raw task, as the reference's worker does. The default raw handler."""
    wait_for_room()
    text = indented(escaped(data.decode("utf-8", "replace")))
    print(f"{name}: {text}\n", end="", flush=True)  # noqa: T201 - its purpose. One write: several threads print.


class WorkerSettings(msgspec.Struct, frozen=True):
    """Times in seconds. `slots`: how many tasks run at a time; by default a little more than there are processors,
    and 1,000 where all tasks are coroutines. Of these, so many at most run on `threads` (all; beside coroutines a
    little more than there are processors), and so many in `processes` (as many as there are processors). `features`
    are the kinds of tasks that primaries give only to workers that know them.
    """

    session_timeout: float = 10.0
    connect_timeout: float | None = 30.0
    drain_timeout: float = 25.0
    queues: tuple[str, ...] = (DEFAULT_QUEUE,)
    slots: int | None = None
    threads: int | None = None
    processes: int | None = None
    features: tuple[str, ...] = (FLOWS,)


def capacity_of(settings: WorkerSettings, pools: Collection[PoolKind]) -> Capacity:
    """Return the capacity by the settings, with defaults for tasks in these pools. Raises ConfigurationError."""
    only_coroutines = set(pools) == {PoolKind.ASYNCIO}
    most_threads = default_slots() if PoolKind.ASYNCIO in pools else MAX_SLOTS  # slots for coroutines cost nothing
    slots = settings.slots if settings.slots is not None else _COROUTINES if only_coroutines else default_slots()
    threads = settings.threads if settings.threads is not None else min(slots, most_threads)
    processes = settings.processes if settings.processes is not None else min(slots, os.cpu_count() or 1)
    for name, value in (("slots", slots), ("threads", threads), ("processes", processes)):
        if not 1 <= value <= MAX_SLOTS:
            raise ConfigurationError(f"a worker has from 1 to {MAX_SLOTS} {name}, not {value}")
    return Capacity(slots, min(threads, slots), min(processes, slots))


def _check_queues(queues: tuple[str, ...]) -> None:
    if not queues:
        raise ConfigurationError("a worker serves at least one queue: name it, or leave `queues` out")
    for queue in queues:
        check_queue(queue)


class Worker(Role):
    """A role that runs tasks: the `functions` by their names in calls, and what `allow_import` lets it import. Nothing
    else is ever run or imported because of a payload.

    `stop` drains: what runs may end within `drain_timeout`, and the rest is handed back.
    """

    def __init__(
        self,
        hosts: str,
        functions: Mapping[str, Function | Registration],
        settings: WorkerSettings | None = None,
        raw_handler: RawHandler = print_raw,
        system: System | None = None,
        *,
        app: str | None = None,
        codecs: Codecs | None = None,
        hooks: Hooks | None = None,
        imports: Iterable[str] = (),
        allow_import: Iterable[str] = (),
        trace_parent: bool = False,
        signed_only: SignedOnly | None = None,
    ) -> None:
        """`app` is where the functions come from, as `module:attribute`: tasks in processes need it, and these import
        the modules `imports` after it. `allow_import` are prefixes of modules whose functions may be run without having
        been registered. `trace_parent` is as for `Herd`; with `signed_only` it refuses tasks that are not signed.

        Raises InvalidConnectString, InvalidName for a queue, ConfigurationError.
        """
        super().__init__("worker", hosts, system)
        self._program = Program(functions, prefixes=allow_import, codecs=codecs, hooks=hooks, signed_only=signed_only)
        self._child, self._settings = Setting(app, self._program.prefixes, tuple(imports)), settings or WorkerSettings()
        self._capacity = capacity_of(self._settings, self._program.pools)
        self._raw_handler, self._trace_parent = raw_handler, trace_parent
        self._error_calls = ErrorCalls(self._program.hooks)
        self._context = contextvars.Context()  # each task runs in a copy
        self._folder = Folder()
        self._session: WorkerSession | None = None
        self._time = ServerTime(self.system.clock, self.system.unix_ms)
        self._recorder = Recorder(self.kind, self.system.host, self.system.unix_ms(), pid=self.system.pid)
        self._history = HistoryWriter(self._recorder, self.system, self._server_ms)
        self._task_log = TaskLog()
        self._since = 0
        self._is_leaving = self._is_registered_now = False
        self._changed = asyncio.Event()
        self._request, self.name = NO_REQUEST, ""  # a request of an operator outlives sessions
        _check_queues(self._settings.queues)

    async def run(self) -> None:
        """Run between the start hooks and the stop hooks. Raises as `Role.run`, HookFailed, and ConfigurationError in a
        process that gevent or eventlet has patched."""
        refuse_patched()
        hooks = WorkerHooks(self._program.hooks.on_worker_start, self._program.hooks.on_worker_stop)
        if not await hooks.start(self._stopping):
            return
        self._error_calls.context = self._context = contextvars.copy_context()
        self._folder = Folder()  # the hooks may have changed the working directory
        self._trace()
        try:
            if self._program.signed_only is not None:
                self._program.signed_only.keyring.load()  # tasks must not fail for a key that this worker cannot get
            await super().run()
        finally:
            self._task_log.close()
            await self._error_calls.finish()
            await hooks.stop()

    def _trace(self) -> None:
        """Make spans from now on if the app, or one of its hooks, has set a provider of OpenTelemetry."""
        spans = find_spans(are_children=self._trace_parent)
        self._program.trace_with(spans)
        if spans is not None:
            self._raw_handler = spans.around_raw(self._raw_handler)

    def meanwhile(self) -> str:
        return "nothing is started until it is back"

    def not_ready(self) -> str | None:
        found = super().not_ready()
        return found if found is not None or self._is_registered_now else "the worker is not registered yet"

    async def open(self) -> Client:
        settings = self._settings
        return await self.open_session(settings.session_timeout, settings.connect_timeout)

    @property
    def running(self) -> list[str]:
        """The names of the tasks whose code runs now."""
        return _names(self._session) if self._session is not None else []

    async def serve(self, client: Client) -> None:
        """Run one session, under a new id."""
        self.name = worker_name(self.system.new_id())
        self._recorder.writer = self.name
        self._is_leaving = False
        system = self.system
        self._since = system.unix_ms()
        self._time = ServerTime(client.clock, system.unix_ms)
        session = self._session = self._make_session(client)
        own = OwnZnode(client, self.name)
        drain = RequestedDrain(
            client, session, own, record_of=self._record, changed=self._changed, is_over=lambda: self.is_stopping
        )
        try:
            await self._register(client)  # a drain that begins from here on finds the session, and deletes the inbox
            self._is_registered_now = True
            session.start()
            _log.info("%s is ready: %d slots, queues %s", self.name, self._capacity.slots, ", ".join(self._queues))
            await run_until_first(
                self._take_requests(own, drain),
                session.wait_lost(),
                self._look_after(client, session, own, drain),
                drain.run(),
                ProgressWriter(client, self.name, session, system.unix_ms).run(),
                self._history.run(client),
            )
            if self._is_leaving:
                await asyncio.Event().wait()  # the drain has deleted the znode, and cancels this at its end
            if not self.is_stopping:
                _log.warning("%s or its inbox was taken away although its session lives: starting again", self.name)
        finally:
            session.close()
            self._session = None
            self._is_registered_now = False

    def _make_session(self, client: Client) -> WorkerSession:
        def may_start() -> bool:
            # The worker's fence: past the deadline another worker may already have been given the task.
            return client.state is SessionState.CONNECTED and client.clock() < client.deadline

        system = self.system
        executor = Executor(self._raw_handler, may_start, self._time.now_ms, system.unix_ms)
        return WorkerSession(
            client,
            self.name,
            program=self._program,
            executor=executor,
            moves=NextMoves(
                self.name,
                self._program.names,
                self._time.now_ms,
                system.rng.uniform,
                self._error_calls.call,
                app=self._child.app,
                keyring=None if self._program.signed_only is None else self._program.signed_only.keyring,
            ),
            equipment=Equipment(executor, system.make_pool, self._child, self._context, self._folder),
            capacity=self._capacity,
            changed=self._changed.set,
            ask_primary=PrimaryKind(client).ask,
            log_start=self._task_log.started,
            report=self._report,
        )

    def _server_ms(self) -> int:
        return self._time.now_ms()

    def _report(self, end: AttemptEnd) -> None:
        self._task_log.ended(end)
        if end.result is not EndState.DONE:
            self._error_calls.call_final(end)
        self._recorder.attempt_ended(end)
        self.system.instruments.attempt_ended(end)

    @property
    def _queues(self) -> tuple[str, ...]:
        return self._settings.queues

    def _record(self, state: str) -> bytes:
        system = self.system
        record = WorkerRecord(
            slots=self._capacity.slots,
            queues=self._queues,
            state=state,
            host=system.host,
            pid=system.pid,
            since=self._since,
            version=__version__,
            calls=self._program.runs_calls,
            app=self._child.app,
            features=self._settings.features,
            request=STOP if self.is_stopping else self._request,
        )
        return encode_record(record)

    async def _register(self, client: Client) -> None:
        """Create inbox and membership in one transaction, so that no other role sees one without the other."""
        path = layout.worker_path(self.name)
        while True:
            transaction = client.transaction().create(layout.inbox_path(self.name))
            state = DRAINING if self._request else READY
            transaction.create(path, self._record(state), mode=CreateMode.EPHEMERAL)
            try:
                await transaction.commit()
            except (errors.ConnectionLoss, errors.TransactionFailed) as error:
                if await self._is_registered(client):
                    return  # the transaction was applied, and its reply lost
                if isinstance(error, errors.TransactionFailed):
                    raise error.error from None
            else:
                await self._is_registered(client)
                return

    async def _is_registered(self, client: Client) -> bool:
        """Return whether the worker's znode is there. It was just written, so its stat shows the servers' time."""
        stat = await client.exists(layout.worker_path(self.name))
        if stat is None or stat.ephemeral_owner != client.session_id:
            return False
        self._time.synchronize(stat.mtime)
        return True

    async def _take_requests(self, own: OwnZnode, drain: RequestedDrain) -> None:
        """Do what operators ask of this worker. Return when its znode is gone although the session lives."""
        drain.set_wanted(is_wanted=self._request != NO_REQUEST)
        while (request := await own.wait_request(self._request)) is not None:
            self._request = request
            if self.is_stopping:
                continue  # it drains for good already
            _log.info("%s: %s by an operator", self.name, f"asked to {request}" if request else "told to go on")
            drain.set_wanted(is_wanted=request != NO_REQUEST)
            if request == STOP:
                self.stop()

    async def _look_after(self, client: Client, session: WorkerSession, own: OwnZnode, drain: RequestedDrain) -> None:
        """Log stalls of the event loop, hand back tasks that wait too long for a slot, and make deleted folders again.

        The loop can stall because pool threads share the interpreter with the heartbeat of the session.
        """
        interval = client.timeout / 12
        told_at = client.clock()
        while True:
            running = _names(session)
            before = client.clock()
            await asyncio.sleep(interval)
            stalled = client.clock() - before - interval
            if stalled > client.timeout / 3:
                _log.warning(
                    "the event loop stood still for %.1f s (the session times out after %.1f s); tasks running: %s",
                    stalled, client.timeout, ", ".join(running) or "none",
                )  # fmt: skip
            if session.report_missing_folder():
                await restore_folders(client)
            session.look_again()
            waiting_since = asyncio.get_running_loop().time() - _LONG_WAIT_SECONDS
            if session.has_waiting(waiting_since) and await primary_is_ours(client):
                session.hand_back(waiting_since=waiting_since)
            if client.clock() - told_at > _TIME_SECONDS and self._time.is_used and not self.is_stopping:
                told_at = client.clock()
                stat = await own.write(self._record(drain.state))
                if stat is not None:
                    self._time.synchronize(stat.mtime)  # the servers' time

    # --- the end -------------------------------------------------------------------------------------------------

    async def drain(self, client: Client) -> None:
        if self._session is not None:
            draining = Draining(
                client,
                self._session,
                self.name,
                record=self._record(DRAINING),
                changed=self._changed,
                leaving=self._set_leaving,
            )
            await draining.run(self._settings.drain_timeout)
            await self._history.finish(client)

    def _set_leaving(self) -> None:
        self._is_leaving = True


def _names(session: WorkerSession) -> list[str]:
    return [task.name for task in session.running]
