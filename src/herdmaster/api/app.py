"""`Herd`: one deployment of Herdmaster as a program sees it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType, TracebackType
from typing import Final, ParamSpec, Protocol, Self, TypeVar, overload

from herdmaster.api import process
from herdmaster.api.acceptance import refuse_in_loop, submit_and_wait, submit_and_wait_async
from herdmaster.api.future import Future
from herdmaster.api.runtime import CLOSED, Runtime
from herdmaster.api.task import Task
from herdmaster.core.names import DEFAULT_PRIORITY, DEFAULT_QUEUE, UlidFactory, call_name, parse_task_name, raw_name
from herdmaster.core.payload import BIG, MAX_PAYLOAD, Call, encode_arguments, encode_call
from herdmaster.core.transitions import NewTask
from herdmaster.errors import ConfigurationError, InvalidName, PayloadTooLarge
from herdmaster.roles.client import ClientSettings
from herdmaster.zookeeper.client import parse_connect_string

P = ParamSpec("P")
R = TypeVar("R")
RawHandler = Callable[[str, bytes], None]
Bytes = bytes | bytearray | memoryview

DEFAULT_HOSTS = "127.0.0.1:2181"
HOSTS_VARIABLE = "HERD_ZOOKEEPER"

_log = logging.getLogger("herdmaster")
_RANDOM_BYTES: Final = 4096
_MOST_SECONDS: Final = 1_000_000
"""ZooKeeper's session timeout is a 32-bit number of milliseconds, and no computer waits for ever."""


class Register(Protocol):
    """What `@herd.task(...)` with options is: the decorator itself."""

    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class Herd:
    """Registers tasks and submits them. No thread and no socket before the first submission or wait.

    Threads may share one. A forked child gets a session of its own; futures made before the fork stay with the parent.
    The session ends with `close`, with the interpreter, or when nobody keeps the Herd and its futures any more.
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
        seconds. Raises InvalidConnectString, ConfigurationError for a time."""
        self.explicit_hosts = hosts
        self.session_timeout = session_timeout
        self.submit_timeout = submit_timeout
        self.connect_timeout = connect_timeout
        self.raw: RawHandler | None = None
        self._functions: dict[str, Callable[..., object]] = {}
        self._queues: dict[str, None] = {}  # an ordered set
        self._directed_to: str | None = None
        self._runtime: Runtime | None = None
        self._closed = False
        self._start_afresh()
        if hosts is not None:
            parse_connect_string(hosts)
        for name in ("session_timeout", "submit_timeout", "connect_timeout"):
            _check_seconds(name, getattr(self, name))
        process.add_app(self)

    def _start_afresh(self) -> None:
        # Reentrant: a signal handler or a finaliser may submit while this thread is in a block.
        self._lock = threading.RLock()
        self._ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, _random_source())

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

    def submit_raw(self, data: Bytes) -> Future[None]:
        """Submits bytes for the workers' raw handlers, the reference's included. Raises as `Task.submit`."""
        refuse_in_loop("submit_raw", "await submit_raw_async(...)")
        task = self._raw_task(data)
        return submit_and_wait(self._started(), task, self, self.submit_timeout)

    async def submit_raw_async(self, data: Bytes) -> Future[None]:
        """As `submit_raw`, for event loops."""
        task = self._raw_task(data)
        return await submit_and_wait_async(self._started(), task, self)

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
        refuse_in_loop("submit", "await submit_async(...)")
        task = self._call_task(call, args, kwargs or {}, queue, priority)
        return submit_and_wait(self._started(), task, self, self.submit_timeout)

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
        task = self._call_task(call, args, kwargs or {}, queue, priority)
        return await submit_and_wait_async(self._started(), task, self)

    def begin_call(
        self, call: str, args: Sequence[object], kwargs: Mapping[str, object], *, queue: str, priority: int
    ) -> Future[R]:
        """Submits without waiting for acceptance: an error of the submission becomes the future's."""
        return self._started().submit(self._call_task(call, args, kwargs, queue, priority), self)

    def future(self, name: str) -> Future[object]:
        """The future of a task that was submitted elsewhere or earlier. Its result raises OutcomeGone when there is
        nothing to wait for. Raises InvalidName."""
        if parse_task_name(name) is None:
            raise InvalidName(f"{name!r} is no task's name: it is what `future.name` gave, such as task-01h...default")
        return self._started().attach(name, self)

    def _raw_task(self, data: Bytes) -> NewTask:
        try:
            payload = bytes(memoryview(data))  # bytes() alone takes a number, too
        except TypeError:
            raise TypeError(
                f"a raw task is bytes, not {type(data).__qualname__}: encode text, as in text.encode()"
            ) from None
        if len(payload) > MAX_PAYLOAD:
            raise PayloadTooLarge(len(payload), MAX_PAYLOAD)
        return NewTask(raw_name(self._new_ulid()), payload)

    def _call_task(
        self, call: str, args: Sequence[object], kwargs: Mapping[str, object], queue: str, priority: int
    ) -> NewTask:
        payload = encode_call(Call(1, call, *encode_arguments(args, kwargs)))
        return NewTask(call_name(self._new_ulid(), queue, priority, big=len(payload) > BIG), payload)

    def _new_ulid(self) -> str:
        with self._lock:
            return self._ulids.new()

    # --- life --------------------------------------------------------------------------------------------------------

    def _started(self) -> Runtime:
        return self._runtime or self._start()

    def _start(self) -> Runtime:
        with self._lock:
            if self._closed:
                raise RuntimeError(CLOSED)
            settings = ClientSettings(self.session_timeout, self.connect_timeout)
            new = Runtime(self.hosts, settings, self.submit_timeout) if self._runtime is None else None
            if new is not None and self._runtime is not None:
                new.begin_close()  # a finaliser submitted in the middle of that, and has made one
            runtime = self._runtime = self._runtime or new
            assert runtime is not None
            return runtime

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
            self._closed = True
            runtime = self._runtime
        if runtime is not None:
            runtime.close()

    def __del__(self) -> None:
        runtime = getattr(self, "_runtime", None)  # absent where __init__ raised
        if runtime is not None:
            runtime.begin_close()  # not close(): the collector may run this on any thread, and anywhere

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
        """Called in a forked child: the session stays the parent's, and so do the names that it is about to give."""
        self._runtime = None
        self._start_afresh()


def _check_seconds(name: str, value: object) -> None:
    if not isinstance(value, (int, float)) or not 0 < value <= _MOST_SECONDS:
        raise ConfigurationError(
            f"{name}={value!r}: it takes a number of seconds, above 0 and at most {_MOST_SECONDS:,}, such as 10.0"
        )


def _random_source() -> Callable[[int], bytes]:
    """Random bytes from a supply: each call of the system's gives the interpreter away, and getting it back from a busy
    thread takes a millisecond and more. For use under a lock."""
    supply = iter(b"")

    def random_bytes(count: int) -> bytes:
        nonlocal supply
        found = bytes(islice(supply, count))
        if len(found) < count:
            supply = iter(secrets.token_bytes(_RANDOM_BYTES))
            found = bytes(islice(supply, count))
        return found

    return random_bytes
