"""A task: a function that can be called here, or submitted to run on a worker."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Generic, Literal, ParamSpec, Self, TypeVar, Unpack, cast, overload

import msgspec

from herdmaster.api.callee import Callee, call_of, callee_of, findable_call_of
from herdmaster.api.future import Future
from herdmaster.api.map import Feeder, Results
from herdmaster.api.options import Options, TaskOptions, check_pool, check_run_options
from herdmaster.api.progress_bar import ProgressBar, total_of
from herdmaster.core.options import Overrides, RunOptions, apply_overrides, overrides

if TYPE_CHECKING:
    from herdmaster.api.herd import Herd

P = ParamSpec("P")
R = TypeVar("R")


class Task(Generic[P, R]):
    """Made by `@herd.task`. Calling it is a plain call of the function; `submit` runs it on a worker."""

    __name__: str
    __wrapped__: Callable[P, R]

    def __init__(self, herd: Herd, function: Callable[P, R], options: TaskOptions, registered: RunOptions) -> None:
        """`registered` is what the workers know; `options.overrides` says what is to be otherwise."""
        # Not the function's own attributes: one called `submit` or `queue` would take the place of the task's.
        functools.update_wrapper(self, function, updated=())
        self.function: Callable[P, R] = function
        self.herd = herd
        self.checked = options
        self.registered = registered

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.call}>"

    def __reduce__(self) -> str | tuple[object, ...]:
        # Pickled by its name, as functions are: `multiprocessing` passes them on.
        named = _find(self.function)
        if named is self:
            return self.function.__qualname__
        if isinstance(named, Task) and named.function is self.function:  # self is the one with other options
            return _with_options, (named, self.checked)
        raise TypeError(
            f"{self!r} cannot be pickled or copied, because {self.function.__module__} has no task of that name: pass "
            "its name, `task.call`, and use herd.submit_call(name, args) there"
        )

    @property
    def call(self) -> str:
        """`module:qualname`, by which a worker finds the function."""
        return call_of(self.function)

    @property
    def queue(self) -> str:
        return self.checked.queue

    @property
    def priority(self) -> int:
        return self.checked.priority

    def options(self, **options: Unpack[Options]) -> Self:
        """The same task with other options; `Options` lists them, and those that are not given stay as they are. What
        a worker is to do otherwise travels with each task.

        Raises ConfigurationError for what cannot work, InvalidName for a queue or priority, TypeError for an unknown
        option.
        """
        changed = self.checked.changed(options)
        self.herd.learn_exceptions(options)
        running = apply_overrides(self.registered, changed.overrides)
        name = self.function.__qualname__
        check_pool(running, is_async=inspect.iscoroutinefunction(self.function), of=name)
        check_run_options(running, name)
        otherwise = overrides(self.registered, running) or Overrides()
        return type(self)(
            self.herd, self.function, msgspec.structs.replace(changed, overrides=otherwise), self.registered
        )

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Returns once the task is accepted: from then on it is not lost.

        With `key=` the future may be that of the task that holds the key already. With `ignore_result=True` it only
        has the name: no outcome will be kept, so `result` raises OutcomeGone.

        Raises NotSerializable or PayloadTooLarge for the arguments, NotSubmitted if it certainly was not accepted in
        `submit_timeout`, SubmissionUnknown if that is unknown, DuplicateTask and BacklogFull as the options ask for,
        RuntimeError inside a running event loop.
        """
        return self.herd.submit_task(self.callee, args, kwargs, self.checked)

    async def submit_async(self, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """As `submit`, for event loops. Cancelled, the task may have been accepted all the same."""
        return await self.herd.submit_task_async(self.callee, args, kwargs, self.checked)

    def submit_many(self, items: Iterable[tuple[object, ...]]) -> list[Future[R]]:
        """As `Herd.submit_many`."""
        return self.herd.submit_many(self, items)

    async def submit_many_async(self, items: Iterable[tuple[object, ...]]) -> list[Future[R]]:
        """As `Herd.submit_many_async`."""
        return await self.herd.submit_many_async(self, items)

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
        """The results of the task for each tuple of items, in order, as an iterator and as an async iterator.

        Takes items as it goes: at most `window` of them are under way (by default 1000, or eight chunks). `chunksize`
        items travel as one task, which saves time where the function takes little; a chunk that would be too large is
        split, and an item that fails, fails alone. Attempts and limits of time hold for a whole chunk: one of its items
        that raises is not tried again.

        What a task raises is raised in its place, and ends the iteration; with `return_exceptions` it is given in its
        place. `timeout` in seconds bounds the wait for each result (TimeoutError). `progress` shows a bar on stderr, if
        that is a terminal.

        Raises ConfigurationError for what cannot work, TypeError without iterables.
        """
        if not iterables:
            raise TypeError("map takes an iterable for each argument of the task")
        feeder = Feeder(self.herd, self.callee, self.checked, zip(*iterables, strict=False), chunksize)
        bar = ProgressBar(total_of(iterables), is_shown=progress)
        return Results[object](feeder, window=window, timeout=timeout, return_exceptions=return_exceptions, bar=bar)

    @property
    def callee(self) -> Callee:
        """What submissions have to know of the function. Raises ConfigurationError where no worker can find it."""
        call = findable_call_of(self.function)
        registered = self.herd.functions.get(call)
        if registered is not None and registered.function is self.function:
            return self.herd.callee(call)
        return callee_of(call, self.function, self.herd.codec, self.herd.known_exceptions)


class AsyncTask(Task[P, R]):
    """The task of an `async def`: calling it gives a coroutine, as calling the function does."""

    # Its result is R, and a plain call gives a coroutine of it: not what a caller of Task[P, R] expects.
    def __call__(  # type: ignore[override]
        self, /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[object, object, R]:
        return cast("Coroutine[object, object, R]", self.function(*args, **kwargs))


def _find(function: Callable[..., object]) -> object:
    """What stands at the place that a function's name says."""
    found: object = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found


def _with_options(task: Task[P, R], options: TaskOptions) -> Task[P, R]:
    return type(task)(task.herd, task.function, options, task.registered)
