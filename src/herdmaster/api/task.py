"""A task: a function that can be called here, or submitted to run on a worker."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from herdmaster.api.future import Future
from herdmaster.api.mapping import DEFAULT_WINDOW, Results
from herdmaster.core.names import check_priority, check_queue
from herdmaster.errors import ConfigurationError

if TYPE_CHECKING:
    from herdmaster.api.app import Herd

P = ParamSpec("P")
R = TypeVar("R")


class Task(Generic[P, R]):
    """Made by `@herd.task`. Calling it is a plain call of the function; `submit` runs it on a worker."""

    __name__: str
    __wrapped__: Callable[P, R]

    def __init__(self, herd: Herd, function: Callable[P, R], *, queue: str, priority: int) -> None:
        """Raises ConfigurationError for what cannot be a task, InvalidName for the queue or priority."""
        _check_function(function)
        # Not the function's own attributes: one called `submit` or `queue` would take the place of the task's.
        functools.update_wrapper(self, function, updated=())
        self.function: Callable[P, R] = function
        self.herd = herd
        self.queue = check_queue(queue)
        self.priority = check_priority(priority)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.call}>"

    def __reduce__(self) -> str:
        # Pickled by its name, as functions are: `multiprocessing` passes them on.
        return self.function.__qualname__

    @property
    def call(self) -> str:
        """`module:qualname`, by which a worker finds the function."""
        return f"{_module_name(self.function)}:{self.function.__qualname__}"

    def options(self, *, queue: str | None = None, priority: int | None = None) -> Task[P, R]:
        """The same task with other options; None leaves one as it is. Raises InvalidName."""
        return Task(
            self.herd,
            self.function,
            queue=self.queue if queue is None else queue,
            priority=self.priority if priority is None else priority,
        )

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Returns once the task is accepted: from then on it is not lost.

        Raises NotSerializable or PayloadTooLarge for the arguments, NotSubmitted if it certainly was not accepted in
        `submit_timeout`, SubmissionUnknown if nobody can know, RuntimeError inside a running event loop.
        """
        return self.herd.submit_call(self._submittable(), args, kwargs, queue=self.queue, priority=self.priority)

    async def submit_async(self, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """As `submit`, for event loops. Cancelled, the task may have been accepted all the same."""
        return await self.herd.submit_call_async(
            self._submittable(), args, kwargs, queue=self.queue, priority=self.priority
        )

    def map(
        self, *iterables: Iterable[object], window: int = DEFAULT_WINDOW, timeout: float | None = None
    ) -> Results[R]:
        """The results of the task for each tuple of items, in order, as an iterator and as an async iterator.

        Takes items as it goes: at most `window` are under way. What a task raises is raised in its place, and ends the
        iteration. `timeout` in seconds bounds the wait for each result (TimeoutError).

        Raises ConfigurationError for the window, TypeError without iterables.
        """
        if not iterables:
            raise TypeError("map takes an iterable for each argument of the task")
        call = self._submittable()

        def begin(args: tuple[object, ...]) -> Future[R]:
            return self.herd.begin_call(call, args, {}, queue=self.queue, priority=self.priority)

        return Results(begin, zip(*iterables, strict=False), window=window, timeout=timeout)

    def _submittable(self) -> str:
        call = self.call
        if call.startswith("__main__:"):
            raise ConfigurationError(
                f"{self.function.__qualname__} is defined in a script that was run by its file name, or at a prompt, "
                "so no worker can find it: run the script with `python -m MODULE`, or move the task into a module of "
                "its own"
            )
        return call


def _check_function(function: object) -> None:
    plain = function
    while isinstance(plain, functools.partial):
        plain = plain.func
    name = getattr(plain, "__qualname__", repr(plain))
    if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain):
        raise ConfigurationError(
            f"{name} is an `async def` function, which workers cannot run yet: make it a plain `def`"
        )
    if inspect.isgeneratorfunction(plain):
        raise ConfigurationError(f"{name} is a generator, and no result could be sent back: return a list instead")
    if not inspect.isfunction(function) or function.__name__ == "<lambda>":
        raise ConfigurationError(
            f"{function!r} is no function with a name, by which a worker could find it: "
            "write a `def` at the top of a module"
        )


def _module_name(function: Callable[..., object]) -> str:
    name = function.__module__
    if name == "__main__":
        # Under `python -m package.module` the module has a name that a worker can import, too.
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        name = getattr(spec, "name", None) or name
    return name
