"""`Herd`: one deployment of Herdmaster as a program sees it."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Literal, ParamSpec, Protocol, Self, TypeVar, Unpack, overload

from herdmaster.api.checks import check_auth
from herdmaster.api.declarations import declare
from herdmaster.api.definition import Definition, checked_function
from herdmaster.api.direction import Target, place_of, spec_of
from herdmaster.api.event_loops import refuse_in_loop
from herdmaster.api.future import Future
from herdmaster.api.herd_core import HerdCore, HerdSettings
from herdmaster.api.herd_flows import HerdFlows, attach_flow, is_flow
from herdmaster.api.herd_questions import HerdQuestions, check_name
from herdmaster.api.hook_decorators import HookDecorators
from herdmaster.api.internals import core_of
from herdmaster.api.options import Options, TaskOptions, run_options
from herdmaster.api.order import Order, order_call, order_raw
from herdmaster.api.registry import RawHandler, Registry
from herdmaster.api.results import Reader
from herdmaster.api.schedule_options import CheckedSchedule, ScheduleOptions, timetable_of
from herdmaster.api.schedules import Schedules, declaration_of
from herdmaster.api.signing_keys import Signing
from herdmaster.api.submitting import (
    submit_all,
    submit_all_async,
    submit_and_wait,
    submit_and_wait_async,
)
from herdmaster.api.task import AsyncTask, Task
from herdmaster.core.codec import Codec
from herdmaster.core.secret_keys import Secret
from herdmaster.core.timetable import Cron
from herdmaster.zookeeper.client import Credential, Security
from herdmaster.zookeeper.tls import TLS

P = ParamSpec("P")
R = TypeVar("R")
X = TypeVar("X", bound=type[Exception])
Bytes = bytes | bytearray | memoryview


class Register(Protocol):
    """The decorator that `@herd.task(...)` with options returns."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[object, object, R]], /) -> AsyncTask[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class Herd(HookDecorators, HerdQuestions, HerdFlows):
    """Registers tasks and submits them. There is no thread and no socket before the first submission or wait.

    Threads may share a Herd. A forked child gets a session of its own; futures made before the fork belong to the
    parent. The session ends with `close`, with the interpreter, or when nothing refers to the Herd, its tasks and its
    futures any more.
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
        trace_parent: bool = False,
        signing_keys: Mapping[str, Secret] | None = None,
        allow_unsigned: Literal["raw", "all"] | None = None,
        tls: TLS | Literal[False] | None = None,
        auth: Credential | Iterable[Credential] | None = None,
    ) -> None:
        """`hosts` is `host:port[,host:port...][/namespace]`, else $HERD_ZOOKEEPER, else 127.0.0.1:2181. Times are in
        seconds. `codec` writes arguments and results in place of JSON; the workers of this app read it, too. `imports`
        names modules that register tasks: workers import them, and this constructor does not. `tls` encrypts the
        connections; False leaves them plain, and None asks $HERD_TLS and the variables whose names begin with it.
        `auth` is one credential or several; None asks the variables whose names begin with HERD_AUTH. With
        `trace_parent` the OpenTelemetry span of an attempt is a child of the span that submitted the task; otherwise it
        is linked to that span. `signing_keys` are secrets of 32 bytes or more by their ids, or functions that return
        them: the first one signs tasks and results, and all verify them; None asks the file $HERD_SIGNING_KEYS_FILE.
        Where there are keys, unsigned tasks and results are refused; `allow_unsigned="raw"` lets workers run raw tasks,
        which cannot be signed, and `"all"` accepts everything that is not signed wrongly.

        Raises InvalidConnectString, ConfigurationError for a time, codec, import or TLS settings of another type.
        """
        signing = Signing(signing_keys, allow_unsigned)
        registry = Registry(codec, imports, trace_parent=trace_parent, signing=signing)
        settings = HerdSettings(hosts, session_timeout, submit_timeout, connect_timeout, tls, check_auth(auth))
        settings.check()
        self._core = HerdCore(settings, registry)

    @property
    def __herdmaster_app__(self) -> Registry:
        # For the processes of a worker's pool, which may not import this layer: see `running/child.py`.
        return self._core.registry

    def __reduce__(self) -> tuple[object, ...]:
        found = place_of(self)
        if found is None:
            raise TypeError(
                f"{self!r} cannot be pickled or copied, because no module holds it at its top level: make one there, "
                "as Herd(hosts)"
            )
        return _import, found

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.hosts}>"

    @property
    def hosts(self) -> str:
        """The connect string in force."""
        return self._core.hosts

    # --- the app -----------------------------------------------------------------------------------------------------

    @overload
    def task(self, function: Callable[P, Coroutine[object, object, R]], /) -> AsyncTask[P, R]: ...

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...

    @overload
    def task(self, /, *, schedule: Cron | timedelta | None = None, **options: Unpack[Options]) -> Register: ...

    def task(
        self,
        function: Callable[..., object] | None = None,
        /,
        *,
        schedule: Cron | timedelta | None = None,
        **options: Unpack[Options],
    ) -> object:
        """Register a function: `@herd.task` or `@herd.task(queue="mail", max_attempts=5)`; `Options` lists all options.
        `schedule` declares a schedule without arguments under the function's name; `Herd.schedule` can say more.

        Raises ConfigurationError for a function that cannot be a task, for another function of the same name, and for
        options that cannot work; InvalidName for a queue or priority; TypeError for an unknown option.
        """
        TaskOptions().changed(options)  # so that an error points at the decorator, and not at the function
        timing = None if schedule is None else CheckedSchedule(timetable_of(schedule))

        def register(function: Callable[..., object]) -> object:
            definition = Definition(checked_function(function))
            is_async = inspect.iscoroutinefunction(function)
            submitting, running = run_options(options, is_async=is_async, of=function.__qualname__)
            task = (AsyncTask if is_async else Task)(self._core, function, submitting, running)
            registry = self._core.registry
            registry.add(task.call, definition, function, running)
            registry.learn_exceptions(options)
            registry.add_queue(task.queue)
            if timing is not None:
                declared = declare(registry.callee(task.call), (), {}, submitting, timing)
                registry.declarations.add(function.__name__, declared)
            return task

        return register if function is None else register(function)

    def schedule(
        self,
        name: str,
        task: Task[P, R] | str,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> None:
        """Declare a schedule, which submits a task again and again: `herd.schedule("warm-cache", warm, every=300)`.

        It is stored, and begins, when `herd schedules apply` or `Herd.schedules.apply` is called. `task` may have
        options, as in `warm.options(queue="slow")`, or is the name of a call, `module:qualname`.

        Raises ConfigurationError for options that cannot work and for two schedules of one name, InvalidName for a name
        that no schedule can have, TypeError for an unknown option, and as `Task.submit` for the arguments.
        """
        self._core.registry.declarations.add(name, declaration_of(self._core, task, args, kwargs, options))

    def raw_handler(self, handler: RawHandler) -> RawHandler:
        """Register what a worker does with raw tasks: `handler(name, data)`. A task fails if it raises."""
        self._core.registry.raw = handler
        return handler

    def exceptions(self, kind: X, /, *others: type[Exception]) -> X:
        """Register exception classes; usable as a decorator. If a task raises exactly such a class, `result()` raises
        that class, with the arguments and attributes that JSON can carry (4 KB in all). Any other exception that is not
        built in comes back as TaskFailed. Both sides have to register the class: the worker's app and the submitter's.

        Raises ConfigurationError for an object that is no exception class.
        """
        self._core.registry.add_exceptions("exceptions", (kind, *others))
        return kind

    @property
    def schedules(self) -> Schedules:
        """The schedules that are stored, and those that this Herd declares."""
        return Schedules(self._core, partial(spec_of, self))

    # --- submission --------------------------------------------------------------------------------------------------

    def submit_raw(self, data: Bytes) -> Future[None]:
        """Submit bytes for the raw handlers of workers, those of the reference included. Raises as `Task.submit`."""
        refuse_in_loop("submit_raw", "await submit_raw_async(...)")
        return submit_and_wait(self._core, self._raw_order(data))

    async def submit_raw_async(self, data: Bytes) -> Future[None]:
        """As `submit_raw`, for event loops."""
        return await submit_and_wait_async(self._core, self._raw_order(data))

    def _raw_order(self, data: Bytes) -> Order:
        self._core.registry.check_raw()
        return order_raw(self._core.new_ulid(), data, self._core.begin_send)

    def submit_call(
        self,
        call: str,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        **options: Unpack[Options],
    ) -> Future[R]:
        """Submit a call by its name, `module:qualname`, without its function. Raises as `Task.options` and
        `Task.submit`; ConfigurationError for text that is no such name."""
        refuse_in_loop("submit_call", "await submit_call_async(...)")
        return submit_and_wait(self._core, self._order(call, args, kwargs or {}, options))

    async def submit_call_async(
        self,
        call: str,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        **options: Unpack[Options],
    ) -> Future[R]:
        """As `submit_call`, for event loops."""
        return await submit_and_wait_async(self._core, self._order(call, args, kwargs or {}, options))

    def _order(self, call: str, args: Sequence[object], kwargs: Mapping[str, object], options: Options) -> Order:
        callee = self._core.registry.callee(call)
        checked = TaskOptions().changed(options)
        self._core.registry.learn_exceptions(options)
        core = self._core
        return order_call(core.new_ulid(), callee, args, kwargs, checked, begin=core.begin_send, keyring=core.keyring)

    def submit_many(self, task: Task[P, R], items: Iterable[tuple[object, ...]]) -> list[Future[R]]:
        """Submit a task for each tuple of arguments, in as few transactions as possible. Return their futures in order.

        Errors of an item are raised as by `Task.submit`, before anything is submitted. Raises NotAllSubmitted if only
        some tasks were accepted, HerdClosed, RuntimeError inside a running event loop.
        """
        refuse_in_loop("submit_many", "await submit_many_async(...)")
        return submit_all(self._core, core_of(task).order_many(self._core, items))

    async def submit_many_async(self, task: Task[P, R], items: Iterable[tuple[object, ...]]) -> list[Future[R]]:
        """As `submit_many`, for event loops."""
        return await submit_all_async(self._core, core_of(task).order_many(self._core, items))

    # --- tasks that were submitted elsewhere or earlier --------------------------------------------------------------

    def future(self, name: str) -> Future[object]:
        """Return the future of a task, or a flow, that was submitted elsewhere or earlier. Its result raises
        OutcomeGone if there is nothing to wait for. Raises InvalidName."""
        if is_flow(name):
            return attach_flow(self._core, name)
        check_name(name)
        registry = self._core.registry
        return self._core.started().attach(name, self._core, Reader(None, registry.codecs, registry.exceptions))

    # --- the session -------------------------------------------------------------------------------------------------

    def directed_to(
        self, hosts: str, *, tls: TLS | None = None, auth: Credential | Iterable[Credential] = ()
    ) -> AbstractContextManager[None]:
        """Context manager: direct this Herd to other servers, for tests of programs that hold a Herd in a module. It
        also directs every Herd of this process that names the same servers and namespace, and those of processes that
        are started meanwhile. Connections are as `tls` and `auth` say, plain without them, whatever the Herd says
        itself.

        Work that is under way with the first servers stays there: that session ends and its futures fail. A Herd that
        was closed is open in the block. Raises InvalidConnectString.
        """
        return self._core.directed_to(Target(hosts, Security(tls, check_auth(auth) or ())), spec_of(self))

    def close(self) -> None:
        """End the session. Futures that are not done fail; their tasks go on. Idempotent. A `with` block opens the Herd
        again. After Ctrl-C the session ends in the background."""
        self._core.close()

    def __enter__(self) -> Self:
        """Open the Herd if it is closed. The end of the last block that was entered closes it."""
        self._core.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        io_thread = self._core.leave()
        if io_thread is None:
            return
        try:
            io_thread.close()
        except KeyboardInterrupt:
            # A second Ctrl-C ends the wait for the close, which goes on. The block ends with the first one.
            if not isinstance(error, KeyboardInterrupt):
                raise

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        io_thread = self._core.leave()
        if io_thread is not None:
            await asyncio.to_thread(io_thread.close)


def _import(module: str, attribute: str) -> object:
    return getattr(importlib.import_module(module), attribute)
