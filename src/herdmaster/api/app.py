"""`Herd`: one deployment of Herdmaster as a program sees it."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import logging
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import ParamSpec, Protocol, Self, TypeVar, overload

from herdmaster.api.future import Future
from herdmaster.api.runtime import Pending, Runtime
from herdmaster.api.task import Task
from herdmaster.core.names import DEFAULT_PRIORITY, DEFAULT_QUEUE, UlidFactory, call_name, parse_task_name, raw_name
from herdmaster.core.payload import BIG, MAX_PAYLOAD, Call, encode_arguments, encode_call
from herdmaster.core.transitions import NewTask
from herdmaster.errors import InvalidName, NotSubmitted, PayloadTooLarge
from herdmaster.roles.client import ClientSettings
from herdmaster.zookeeper.client import parse_connect_string

P = ParamSpec("P")
R = TypeVar("R")
RawHandler = Callable[[str, bytes], None]

DEFAULT_HOSTS = "127.0.0.1:2181"
HOSTS_VARIABLE = "HERD_ZOOKEEPER"

_log = logging.getLogger("herdmaster")
_herds: weakref.WeakSet[Herd] = weakref.WeakSet()


class Register(Protocol):
    """What `@herd.task(...)` with options is: the decorator itself."""

    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class Herd:
    """Registers tasks and submits them. No thread and no socket before the first submission or wait.

    Threads may share one. A forked child gets a session of its own; futures made before the fork stay with the parent.
    """

    def __init__(
        self,
        hosts: str | None = None,
        *,
        session_timeout: float = 10.0,
        submit_timeout: float = 30.0,
        connect_timeout: float = 10.0,
    ) -> None:
        """`hosts` is `host:port[,host:port...][/namespace]`, else $HERD_ZOOKEEPER, else 127.0.0.1:2181. Times in
        seconds. Raises InvalidConnectString."""
        self.explicit_hosts = hosts
        self.session_timeout = session_timeout
        self.submit_timeout = submit_timeout
        self.connect_timeout = connect_timeout
        self.raw: RawHandler | None = None
        self._functions: dict[str, Callable[..., object]] = {}
        self._queues: dict[str, None] = {}  # an ordered set
        self._directed_to: str | None = None
        self._ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, secrets.token_bytes)
        self._lock = threading.Lock()
        self._runtime: Runtime | None = None
        self._closed = False
        if hosts is not None:
            parse_connect_string(hosts)
        _herds.add(self)

    @property
    def hosts(self) -> str:
        """The connect string in force. The variable is read at first use, not at import."""
        return self._directed_to or self.explicit_hosts or os.environ.get(HOSTS_VARIABLE) or DEFAULT_HOSTS

    # --- tasks -----------------------------------------------------------------------------------------------------

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(self, /, *, queue: str = DEFAULT_QUEUE, priority: int = DEFAULT_PRIORITY) -> Register: ...

    def task(
        self,
        function: Callable[..., object] | None = None,
        /,
        *,
        queue: str = DEFAULT_QUEUE,
        priority: int = DEFAULT_PRIORITY,
    ) -> object:
        """Registers a function: `@herd.task` or `@herd.task(queue="mail", priority=9)`.

        Raises ConfigurationError for what cannot be a task, InvalidName for a queue or priority.
        """

        def register(function: Callable[P, R]) -> Task[P, R]:
            task = Task(self, function, queue=queue, priority=priority)
            if self._functions.get(task.call, function) is not function:
                _log.warning("%s is registered again: the later definition is used", task.call)
            self._functions[task.call] = function
            self._queues[task.queue] = None
            return task

        return register if function is None else register(function)

    @property
    def functions(self) -> Mapping[str, Callable[..., object]]:
        """What a worker of this app runs, by the name that calls give."""
        return MappingProxyType(self._functions)

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that the tasks name, and the default one; `task.options(queue=...)` may name others."""
        return tuple(dict.fromkeys((DEFAULT_QUEUE, *self._queues)))

    def raw_handler(self, handler: RawHandler) -> RawHandler:
        """Registers what a worker does with raw tasks: `handler(name, data)`; what it raises makes the task fail."""
        self.raw = handler
        return handler

    # --- submission --------------------------------------------------------------------------------------------------

    def submit_raw(self, data: bytes) -> Future[None]:
        """Submits bytes for the workers' raw handlers, the reference's included. Raises as `Task.submit`."""
        _refuse_in_loop("submit_raw", "submit_raw_async")
        return self._wait_accepted(*self._begin_raw(data))

    async def submit_raw_async(self, data: bytes) -> Future[None]:
        """As `submit_raw`, for event loops."""
        return await self._wait_accepted_async(*self._begin_raw(data))

    def submit_call(
        self,
        call: str,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        *,
        queue: str = DEFAULT_QUEUE,
        priority: int = DEFAULT_PRIORITY,
    ) -> Future[R]:
        """Submits a call by its name `module:qualname`, without the function. Raises as `Task.submit`."""
        _refuse_in_loop("submit", "submit_async")
        return self._wait_accepted(*self._begin_call(call, args, kwargs or {}, queue, priority))

    async def submit_call_async(
        self,
        call: str,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        *,
        queue: str = DEFAULT_QUEUE,
        priority: int = DEFAULT_PRIORITY,
    ) -> Future[R]:
        """As `submit_call`, for event loops."""
        return await self._wait_accepted_async(*self._begin_call(call, args, kwargs or {}, queue, priority))

    def begin_call(
        self, call: str, args: Sequence[object], kwargs: Mapping[str, object], *, queue: str, priority: int
    ) -> Future[R]:
        """Submits without waiting for acceptance: an error of the submission becomes the future's."""
        future: Future[R]
        future, pending = self._begin_call(call, args, kwargs, queue, priority)
        self._started().expect(pending, self.submit_timeout)
        return future

    def future(self, name: str) -> Future[object]:
        """The future of a task that was submitted elsewhere or earlier. Its result raises OutcomeGone when there is
        nothing to wait for. Raises InvalidName."""
        if parse_task_name(name) is None:
            raise InvalidName(f"{name!r} is no task's name: it is what `future.name` gave, such as task-01h...default")
        runtime = self._started()
        future: Future[object] = Future(name, runtime.pin)
        runtime.attach(future)
        return future

    def _begin_raw(self, data: bytes) -> tuple[Future[None], Pending]:
        if len(data) > MAX_PAYLOAD:
            raise PayloadTooLarge(len(data), MAX_PAYLOAD)
        return self._begin(NewTask(raw_name(self._new_ulid()), bytes(data)))

    def _begin_call(
        self, call: str, args: Sequence[object], kwargs: Mapping[str, object], queue: str, priority: int
    ) -> tuple[Future[R], Pending]:
        payload = encode_call(Call(1, call, *encode_arguments(args, kwargs)))
        name = call_name(self._new_ulid(), queue, priority, big=len(payload) > BIG)
        return self._begin(NewTask(name, payload))

    def _new_ulid(self) -> str:
        with self._lock:
            return self._ulids.new()

    def _begin(self, task: NewTask) -> tuple[Future[R], Pending]:
        runtime = self._started()
        future: Future[R] = Future(task.name, runtime.pin)
        return future, runtime.submit(task, future)

    def _wait_accepted(self, future: Future[R], pending: Pending) -> Future[R]:
        concurrent.futures.wait((pending.accepted,), self.submit_timeout)
        if not pending.accepted.done():
            self._started().give_up(pending)
        self._raise_if_not_accepted(pending)
        return future

    async def _wait_accepted_async(self, future: Future[R], pending: Pending) -> Future[R]:
        accepted = asyncio.wrap_future(pending.accepted)
        try:
            await asyncio.wait((accepted,), timeout=self.submit_timeout)
        except asyncio.CancelledError:
            self._started().give_up(pending)
            raise
        if not accepted.done():
            self._started().give_up(pending)
            await asyncio.wait((accepted,))
        self._raise_if_not_accepted(pending)
        return future

    def _raise_if_not_accepted(self, pending: Pending) -> None:
        try:
            pending.accepted.result()
        except NotSubmitted as error:
            fault = self._started().last_fault
            raise (error if fault is None else NotSubmitted(f"{error} ({fault})")) from None

    # --- life --------------------------------------------------------------------------------------------------------

    def _started(self) -> Runtime:
        with self._lock:
            if self._closed:
                raise RuntimeError("this Herd is closed; make a new one to go on")
            if self._runtime is None:
                settings = ClientSettings(self.session_timeout, self.connect_timeout)
                self._runtime = Runtime(self.hosts, settings)
            return self._runtime

    @contextlib.contextmanager
    def directed_to(self, hosts: str) -> Iterator[None]:
        """For as long everything goes to other servers, for tests of programs that hold a module-level Herd.

        What was under way with the first ones stays there: its session ends, and its futures fail. Raises
        InvalidConnectString.
        """
        parse_connect_string(hosts)
        before = self._redirect(hosts)
        try:
            yield
        finally:
            self._redirect(before)

    def _redirect(self, hosts: str | None) -> str | None:
        with self._lock:
            before, self._directed_to = self._directed_to, hosts
            runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.close()
        return before

    def close(self) -> None:
        """Ends the session. Futures that are not done fail; their tasks go on. Idempotent."""
        with self._lock:
            runtime, self._runtime = self._runtime, None
            self._closed = True
        if runtime is not None:
            runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        return f"<Herd {self.hosts}>"

    def handle_fork(self) -> None:
        """Called in a forked child: the parent's threads did not come along, and the session stays the parent's."""
        self._lock = threading.Lock()
        self._runtime = None


def _refuse_in_loop(name: str, instead: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"{name} would block the running event loop: use `await {instead}(...)`")


def _after_fork() -> None:
    for herd in tuple(_herds):
        herd.handle_fork()


def _at_exit() -> None:
    for herd in tuple(_herds):
        herd.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
