"""`Herd`: one deployment of Herdmaster as a program sees it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import ParamSpec, Protocol, TypeVar, Unpack, overload

import msgspec

from herdmaster.api.callee import Callee, callee_of, check_codec, codecs_of, place_of
from herdmaster.api.checks import check_call
from herdmaster.api.definition import Definition, checked_function
from herdmaster.api.event_loops import refuse_in_loop
from herdmaster.api.exceptions import ExceptionRegistry
from herdmaster.api.future import Future
from herdmaster.api.hooks import HookRegistry
from herdmaster.api.lifecycle import BaseHerd
from herdmaster.api.options import Options, TaskOptions, run_options
from herdmaster.api.order import Order, order_call, order_chunk
from herdmaster.api.questions import ask_and_wait, ask_and_wait_async
from herdmaster.api.results import ChunkResults, Reader
from herdmaster.api.submitting import orders_of, submit_all, submit_all_async, submit_and_wait, submit_and_wait_async
from herdmaster.api.task import AsyncTask, Task
from herdmaster.core.codec import Codec, Codecs
from herdmaster.core.modules import check_modules, import_modules
from herdmaster.core.names import DEFAULT_QUEUE, parse_task_name, raw_name
from herdmaster.core.payload import MAX_PAYLOAD
from herdmaster.core.transitions import NewTask
from herdmaster.errors import ConfigurationError, InvalidName, PayloadTooLarge
from herdmaster.inspection.tasks import TaskSeen, find_task
from herdmaster.operations.keys import KeyRelease
from herdmaster.running.registration import Registration
from herdmaster.zookeeper.client import Client

P = ParamSpec("P")
R = TypeVar("R")
RawHandler = Callable[[str, bytes], None]
Bytes = bytes | bytearray | memoryview


class Register(Protocol):
    """What `@herd.task(...)` with options is: the decorator itself."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[object, object, R]], /) -> AsyncTask[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class Herd(BaseHerd, HookRegistry, ExceptionRegistry):
    """Registers tasks and submits them. No thread and no socket before the first submission or wait.

    Threads may share one. A forked child gets a session of its own; futures made before the fork stay with the parent.
    The session ends with `close`, with the interpreter, or when the Herd and its futures are no longer referenced.
    """

    def __init__(
        self,
        hosts: str | None = None,
        *,
        session_timeout: float = 10.0,
        submit_timeout: float = 30.0,
        connect_timeout: float = 10.0,
        codec: Codec | None = None,
        imports: Iterable[str] = (),
    ) -> None:
        """`hosts` is `host:port[,host:port...][/namespace]`, else $HERD_ZOOKEEPER, else 127.0.0.1:2181. Times in
        seconds. `codec` writes arguments and results in place of JSON; the workers of this app read it, too.
        `imports` names modules that register tasks: workers import them, and this does not.

        Raises InvalidConnectString, ConfigurationError for a time, codec or import.
        """
        HookRegistry.__init__(self)
        ExceptionRegistry.__init__(self)
        super().__init__(
            hosts, session_timeout=session_timeout, submit_timeout=submit_timeout, connect_timeout=connect_timeout
        )
        self.raw: RawHandler | None = None
        self.codec = check_codec(codec)
        self.imports = check_modules("imports", imports)
        self._functions: dict[str, Registration] = {}
        self._definitions: dict[str, Definition] = {}
        self._callees: dict[str, Callee] = {}
        self._queues: dict[str, None] = {}  # an ordered set

    def __reduce__(self) -> tuple[object, ...]:
        found = place_of(self)
        if found is None:
            raise TypeError(
                f"{self!r} cannot be pickled or copied, because no module holds it at its top level: make one there, "
                "as Herd(hosts)"
            )
        return _import, found

    # --- tasks -----------------------------------------------------------------------------------------------------

    @overload
    def task(self, function: Callable[P, Coroutine[object, object, R]], /) -> AsyncTask[P, R]: ...

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(self, /, **options: Unpack[Options]) -> Register: ...

    def task(self, function: Callable[..., object] | None = None, /, **options: Unpack[Options]) -> object:
        """Registers a function: `@herd.task` or `@herd.task(queue="mail", max_attempts=5)`; `Options` lists them all.

        Raises ConfigurationError for what cannot be a task, for another function of a name that is taken, and for
        options that cannot work; InvalidName for a queue or priority, TypeError for an unknown option.
        """
        TaskOptions().changed(options)  # a mistake is shown where it is, not where the function is

        def register(function: Callable[..., object]) -> object:
            new = Definition(checked_function(function))
            is_async = inspect.iscoroutinefunction(function)
            submitting, running = run_options(options, is_async=is_async, of=function.__qualname__)
            task = (AsyncTask if is_async else Task)(self, function, submitting, running)
            known = self._definitions.get(task.call)
            if known is not None:
                new.check_replaces(known)
            self._definitions[task.call] = new
            self.learn_exceptions(options)
            self._functions[task.call] = Registration(function, running, self.known_exceptions)
            self._callees.pop(task.call, None)
            self._queues[task.queue] = None
            return task

        return register if function is None else register(function)

    def load_imports(self) -> None:
        """Imports the modules that `imports` names. Raises ConfigurationError for one that cannot be imported."""
        import_modules("imports", self.imports)

    @property
    def functions(self) -> Mapping[str, Registration]:
        """What a worker of this app runs and how, by the name that calls give."""
        return MappingProxyType(self._functions)

    @property
    def codecs(self) -> Codecs:
        """What a worker of this app decodes besides JSON, by name."""
        return MappingProxyType(codecs_of(self.codec))

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
        return submit_and_wait(self._started(), self._raw_task(data), self, self.submit_timeout)

    async def submit_raw_async(self, data: Bytes) -> Future[None]:
        """As `submit_raw`, for event loops."""
        return await submit_and_wait_async(self._started(), self._raw_task(data), self)

    def submit_call(
        self,
        call: str,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        **options: Unpack[Options],
    ) -> Future[R]:
        """Submits a call by its name `module:qualname`, without the function. Raises as `Task.options` and
        `Task.submit`, ConfigurationError for what is no such name."""
        return self.submit_task(self.callee(call), args, kwargs or {}, self._checked(options))

    async def submit_call_async(
        self,
        call: str,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        **options: Unpack[Options],
    ) -> Future[R]:
        """As `submit_call`, for event loops."""
        return await self.submit_task_async(self.callee(call), args, kwargs or {}, self._checked(options))

    def begin_call(
        self, call: str, args: Sequence[object], kwargs: Mapping[str, object], **options: Unpack[Options]
    ) -> Future[R]:
        """Submits without waiting for acceptance: an error of the submission becomes the future's."""
        return self.begin_task(self.callee(call), args, kwargs, self._checked(options))

    def _checked(self, options: Options) -> TaskOptions:
        found = TaskOptions().changed(options)
        self.learn_exceptions(options)
        return found

    def callee(self, call: str) -> Callee:
        """What is known about the function that calls of this name run; its hints, if it is one of this Herd's."""
        found = self._callees.get(call)
        if found is None:
            check_call(call)
            registered = self._functions.get(call)
            found = callee_of(
                call, None if registered is None else registered.function, self.codec, self.known_exceptions
            )
            if registered is not None:
                self._callees[call] = found
        return found

    def submit_task(
        self, callee: Callee, args: Sequence[object], kwargs: Mapping[str, object], options: TaskOptions
    ) -> Future[R]:
        """As `submit_call`, with options that have been checked."""
        refuse_in_loop("submit", "await submit_async(...)")
        order = self._call_task(callee, args, kwargs, options)
        return submit_and_wait(self._started(), order, self, self.submit_timeout)

    async def submit_task_async(
        self, callee: Callee, args: Sequence[object], kwargs: Mapping[str, object], options: TaskOptions
    ) -> Future[R]:
        """As `submit_task`, for event loops."""
        return await submit_and_wait_async(self._started(), self._call_task(callee, args, kwargs, options), self)

    def submit_many(self, task: Task[P, R], items: Iterable[tuple[object, ...]]) -> list[Future[R]]:
        """A task for each tuple of arguments, accepted in as few transactions as possible; their futures, in order.

        What is wrong with an item is raised as `Task.submit` does, before anything is submitted. Raises NotAllSubmitted
        where only some were accepted, HerdClosed, RuntimeError inside a running event loop.
        """
        refuse_in_loop("submit_many", "await submit_many_async(...)")
        orders = self._orders(task, items)
        return submit_all(self._started(), orders, self, self.submit_timeout)

    async def submit_many_async(self, task: Task[P, R], items: Iterable[tuple[object, ...]]) -> list[Future[R]]:
        """As `submit_many`, for event loops."""
        orders = self._orders(task, items)
        return await submit_all_async(self._started(), orders, self)

    def _orders(self, task: Task[P, R], items: Iterable[tuple[object, ...]]) -> list[Order]:
        callee = task.callee
        return orders_of(lambda args: self._call_task(callee, args, {}, task.checked), items)

    def begin_task(
        self, callee: Callee, args: Sequence[object], kwargs: Mapping[str, object], options: TaskOptions
    ) -> Future[R]:
        """As `begin_call`, with options that have been checked."""
        return self._started().submit(self._call_task(callee, args, kwargs, options), self)

    def begin_chunk(self, callee: Callee, items: Sequence[msgspec.Raw], options: TaskOptions) -> Future[ChunkResults]:
        """As `begin_task`, for several items that `Callee.write_item` gave. Raises PayloadTooLarge."""
        return self._started().submit(order_chunk(self._new_ulid(), callee, items, options), self)

    def future(self, name: str) -> Future[object]:
        """The future of a task that was submitted elsewhere or earlier. Its result raises OutcomeGone when there is
        nothing to wait for. Raises InvalidName."""
        _check_name(name)
        return self._started().attach(name, self, Reader(None, self.codecs, self.known_exceptions))

    def find(self, name: str, timeout: float = 10.0) -> TaskSeen | None:
        """Where a task is and how far it says it is; None if it is nowhere. It changes nothing.

        Raises InvalidName, TimeoutError when ZooKeeper could not be asked in `timeout` seconds, RuntimeError inside a
        running event loop.
        """
        refuse_in_loop("find", "await find_async(...)")
        _check_name(name)
        return ask_and_wait(self._started(), partial(find_task, name), name, timeout)

    async def find_async(self, name: str, timeout: float = 10.0) -> TaskSeen | None:  # noqa: ASYNC109 - as `find`
        """As `find`, for event loops."""
        _check_name(name)
        return await ask_and_wait_async(self._started(), partial(find_task, name), name, timeout)

    def release_key(self, key: str, task: Task[P, R] | str | None = None, timeout: float = 10.0) -> str | None:
        """Takes a uniqueness key from the task that holds it, so that the next submission with the key makes a task:
        the key of a task or call (`module:qualname`), without one a key with `key_scope="global"`. The holder goes on,
        or keeps its outcome. Returns its name; None if no task holds the key.

        Raises ConfigurationError for what is no key or call, TimeoutError when ZooKeeper could not be asked in
        `timeout` seconds, RuntimeError inside a running event loop, HerdError for a holder that was submitted by an
        older version and has not ended.
        """
        refuse_in_loop("release_key", "await release_key_async(...)")
        question = _release(key, task)
        return ask_and_wait(self._started(), question, f"the key {key!r}", timeout)

    async def release_key_async(
        self,
        key: str,
        task: Task[P, R] | str | None = None,
        timeout: float = 10.0,  # noqa: ASYNC109 - as `release_key`
    ) -> str | None:
        """As `release_key`, for event loops."""
        question = _release(key, task)
        return await ask_and_wait_async(self._started(), question, f"the key {key!r}", timeout)

    def _raw_task(self, data: Bytes) -> Order:
        try:
            payload = bytes(memoryview(data))  # bytes() alone takes a number, too
        except TypeError:
            raise TypeError(
                f"a raw task is bytes, not {type(data).__qualname__}: encode text, as in text.encode()"
            ) from None
        if len(payload) > MAX_PAYLOAD:
            raise PayloadTooLarge(len(payload), MAX_PAYLOAD)
        return Order(NewTask(raw_name(self._new_ulid()), payload))

    def _call_task(
        self, callee: Callee, args: Sequence[object], kwargs: Mapping[str, object], options: TaskOptions
    ) -> Order:
        return order_call(self._new_ulid(), callee, args, kwargs, options)


def _import(module: str, attribute: str) -> object:
    return getattr(importlib.import_module(module), attribute)


def _release(key: object, task: Task[P, R] | str | None) -> Callable[[Client], Awaitable[str | None]]:
    if not isinstance(key, str) or not key:
        raise ConfigurationError(f"{key!r} is no key: it is the text that key= gave")
    call = task.call if isinstance(task, Task) else task
    if call is not None:
        check_call(call)
    return KeyRelease(key, call).run


def _check_name(name: object) -> None:
    if not isinstance(name, str) or parse_task_name(name) is None:
        raise InvalidName(f"{name!r} is no task's name: it is what `future.name` gave, such as task-01h...default")
