"""A task: a function that can be called here, or submitted to run on a worker."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Generic, Literal, ParamSpec, Self, TypeVar, Unpack, cast, overload

import msgspec

from herdmaster.api.callee import Callee, call_of, callee_of, findable_call_of
from herdmaster.api.event_loops import refuse_in_loop
from herdmaster.api.future import Future
from herdmaster.api.herd_core import HerdCore
from herdmaster.api.internals import core_of
from herdmaster.api.map import Feeder, Results
from herdmaster.api.options import Options, TaskOptions, check_pool, check_run_options
from herdmaster.api.order import Order, order_call
from herdmaster.api.progress_bar import ProgressBar, total_of
from herdmaster.api.step import Link, On, Takes
from herdmaster.api.step_calls import StepCall, step_options, step_with_extras
from herdmaster.api.submitting import (
    order_many,
    submit_all,
    submit_all_async,
    submit_and_wait,
    submit_and_wait_async,
)
from herdmaster.core.options import Overrides, RunOptions, apply_overrides, overrides

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
Q = ParamSpec("Q")
S = TypeVar("S")


class TaskCore:
    """The internal half of a task: its Herd, its function and its options."""

    __slots__ = ("function", "herd", "options", "registered")

    def __init__(
        self, herd: HerdCore, function: Callable[..., object], options: TaskOptions, registered: RunOptions
    ) -> None:
        """`registered` are the options that the workers know; `options.overrides` are those that differ from them."""
        self.herd = herd
        self.function = function
        self.options = options
        self.registered = registered

    def callee(self) -> Callee:
        """Return what submissions need to know of the function. Raises ConfigurationError if no worker can find it."""
        call = findable_call_of(self.function)
        registry = self.herd.registry
        registered = registry.functions.get(call)
        if registered is not None and registered.function is self.function:
            return registry.callee(call)
        return callee_of(call, self.function, registry.codec, registry.exceptions)

    def changed(self, options: Options) -> TaskCore:
        """Return the same with other options. Raises as `Task.options`."""
        changed = self.options.changed(options)
        self.herd.registry.learn_exceptions(options)
        running = apply_overrides(self.registered, changed.overrides)
        name = self.function.__qualname__
        check_pool(running, is_async=inspect.iscoroutinefunction(self.function), of=name)
        check_run_options(running, name)
        differing = overrides(self.registered, running) or Overrides()
        new_options = msgspec.structs.replace(changed, overrides=differing)
        return TaskCore(self.herd, self.function, new_options, self.registered)

    def order(self, args: Sequence[object], kwargs: Mapping[str, object]) -> Order:
        """Return the order of one task. Raises as `order_call`."""
        herd = self.herd
        return order_call(
            herd.new_ulid(), self.callee(), args, kwargs, self.options, begin=herd.begin_send, keyring=herd.keyring
        )

    def order_many(self, herd: HerdCore, items: Iterable[tuple[object, ...]]) -> list[Order]:
        """Return the orders of many tasks for a Herd. Raises as `order_call`."""
        return order_many(herd, self.callee(), self.options, items)


class Task(Generic[P, R]):
    """A function that `@herd.task` registered. A plain call runs the function here; `submit` runs it on a worker."""

    __name__: str
    __wrapped__: Callable[P, R]

    function: Callable[P, R]
    """The function itself."""

    def __init__(self, core: HerdCore, function: Callable[P, R], options: TaskOptions, registered: RunOptions) -> None:
        # Without the function's own attributes: one named `submit` or `queue` would hide the task's.
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self._core = TaskCore(core, function, options, registered)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.call}>"

    def __reduce__(self) -> str | tuple[object, ...]:
        # Pickled by its name, as functions are: `multiprocessing` passes tasks on.
        named = _find(self.function)
        if named is self:
            return self.function.__qualname__
        if isinstance(named, Task) and named.function is self.function:  # self is the one with other options
            return _with_options, (named, self._core.options)
        raise TypeError(
            f"{self!r} cannot be pickled or copied, because {self.function.__module__} has no task of that name: pass "
            "its name, `task.call`, and use herd.submit_call(name, args) there"
        )

    @property
    def call(self) -> str:
        """The name by which a worker finds the function, `module:qualname`."""
        return call_of(self.function)

    @property
    def queue(self) -> str:
        """The queue that the task is submitted to."""
        return self._core.options.queue

    @property
    def priority(self) -> int:
        """The priority of the task in its queue, from 0 to 9."""
        return self._core.options.priority

    def options(self, **options: Unpack[Options]) -> Self:
        """Return the same task with other options; `Options` lists them all. Options that are not given stay as they
        are. Options that differ from those that the worker knows travel with each task.

        Raises ConfigurationError for options that cannot work, InvalidName for a queue or priority, TypeError for an
        unknown option.
        """
        core = self._core.changed(options)
        return type(self)(core.herd, self.function, core.options, core.registered)

    # mypy: a function without parameters fits both of the first two, and then the first one is meant.
    @overload
    def step(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...  # type: ignore[overload-overlap]

    @overload
    def step(self: Takes[A, Q, S], /, *args: Q.args, **kwargs: Q.kwargs) -> Link[A, S]: ...

    @overload
    def step(
        self,
        /,
        *args: object,
        on: On,
        after: object = ...,
        optional: bool = ...,
        **kwargs: object,
    ) -> R: ...

    @overload
    def step(
        self,
        /,
        *args: object,
        after: object,
        on: On = ...,
        optional: bool = ...,
        **kwargs: object,
    ) -> R: ...

    @overload
    def step(
        self,
        /,
        *args: object,
        optional: bool,
        on: On = ...,
        after: object = ...,
        **kwargs: object,
    ) -> R: ...

    def step(self, /, *args: Any, **kwargs: Any) -> Any:
        """Add a call to the flow whose `with` block this stands in, or to that of the step whose code runs. Return what
        stands for its result: an argument of other steps, alone or in a list, tuple or dict.

        Without its first argument a step is for `fetch.step(url) | parse.step()`: the result of the step before comes
        first. Outside of a block, steps belong to no flow until `flow.add`, `flow.returns` or `flow.submit` gets them.

        A step starts when the steps that it gets, and those of `after`, are done. With `on="failure"` it starts when
        they are over and at least one is not done. With `optional=True` it starts when they are over; what it gets of a
        step that is not done is None. If the function has a parameter of such a name, the keyword is the parameter's:
        `using` takes those of the flow.

        Raises NotSerializable and WrongArguments for the arguments, ConfigurationError for steps of another flow and
        for options that a step cannot have.
        """
        return step_with_extras(self._core, args, kwargs)

    def using(
        self,
        *,
        on: On = "success",
        after: object = None,
        optional: bool = False,
        name: str | None = None,
        chunk_size: int | None = None,
    ) -> StepCall[P, R]:
        """Return the task for a step: `notify.using(on="failure").step(total)`, whose arguments are all the function's
        and are checked by type checkers. `name` is shown in place of the function's. `chunk_size` is for `Flow.each`.
        Raises as `step`."""
        given = {"on": on, "optional": optional, "after": after}
        return StepCall(self._core, step_options(given, name, chunk_size))

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Submit a task and return its future once the task is accepted: from then on it is not lost.

        With `key=` the future may be that of the task that already holds the key. With `ignore_result=True` the future
        has only the name: no outcome is kept, so `result` raises OutcomeGone.

        Raises NotSerializable, WrongArguments or PayloadTooLarge for the arguments, NotSubmitted if the task was
        certainly not accepted in `submit_timeout`, SubmissionUnknown if that is unknown, DuplicateTask and BacklogFull
        as the options ask for, RuntimeError inside a running event loop.
        """
        refuse_in_loop("submit", "await submit_async(...)")
        return submit_and_wait(self._core.herd, self._core.order(args, kwargs))

    async def submit_async(self, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """As `submit`, for event loops. If it is cancelled, the task may have been accepted nevertheless."""
        return await submit_and_wait_async(self._core.herd, self._core.order(args, kwargs))

    def submit_many(self, items: Iterable[tuple[object, ...]]) -> list[Future[R]]:
        """As `Herd.submit_many`."""
        refuse_in_loop("submit_many", "await submit_many_async(...)")
        return submit_all(self._core.herd, self._core.order_many(self._core.herd, items))

    async def submit_many_async(self, items: Iterable[tuple[object, ...]]) -> list[Future[R]]:
        """As `Herd.submit_many_async`."""
        return await submit_all_async(self._core.herd, self._core.order_many(self._core.herd, items))

    @overload
    def map(
        self,
        *iterables: Iterable[object],
        chunksize: int = 1,
        window: int | None = None,
        timeout: float | None = None,
        return_exceptions: Literal[False] = False,
        progress: bool = False,
    ) -> Results[R]: ...

    @overload
    def map(
        self,
        *iterables: Iterable[object],
        chunksize: int = 1,
        window: int | None = None,
        timeout: float | None = None,
        return_exceptions: Literal[True],
        progress: bool = False,
    ) -> Results[R | Exception]: ...

    def map(
        self,
        *iterables: Iterable[object],
        chunksize: int = 1,
        window: int | None = None,
        timeout: float | None = None,
        return_exceptions: bool = False,
        progress: bool = False,
    ) -> object:
        """Run the task for each tuple of items. Return the results in order, as an iterator and async iterator.

        Items are taken as the iteration goes on: at most `window` of them are under way (by default 1000, or eight
        chunks). `chunksize` items travel as one task, which saves time where the function is fast. A chunk that would
        be too large is split. An item that fails does not fail the others of its chunk, and is not tried again;
        attempts and time limits hold for the whole chunk.

        What a task raises is raised in its place and ends the iteration; with `return_exceptions` the exception is
        returned in its place. `timeout` in seconds limits the wait for each result (TimeoutError). `progress` shows a
        bar on stderr, if that is a terminal.

        Raises ConfigurationError for arguments that cannot work, TypeError without iterables.
        """
        if not iterables:
            raise TypeError("map takes an iterable for each argument of the task")
        core = self._core
        feeder = Feeder(core.herd, core.callee(), core.options, zip(*iterables, strict=False), chunksize)
        bar = ProgressBar(total_of(iterables), is_shown=progress)
        return Results[object](feeder, window=window, timeout=timeout, return_exceptions=return_exceptions, bar=bar)


class AsyncTask(Task[P, R]):
    """The task of an `async def`: a plain call returns a coroutine, as for the function itself."""

    # The result of the task is R, but a plain call returns a coroutine of it, unlike that of a Task[P, R].
    def __call__(  # type: ignore[override]
        self, /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[object, object, R]:
        return cast("Coroutine[object, object, R]", self.function(*args, **kwargs))


def _find(function: Callable[..., object]) -> object:
    """Return what its module holds under the name of a function."""
    found: object = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found


def _with_options(task: Task[P, R], options: TaskOptions) -> Task[P, R]:
    core = core_of(task)
    return type(task)(core.herd, task.function, options, core.registered)
