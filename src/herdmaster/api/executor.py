"""`HerdExecutor`: runs functions on a Herd through the interface of `concurrent.futures.Executor`."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import inspect
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec, TypeVar, Unpack, cast, overload

from herdmaster.api.callee import Callee, callee_of, findable_call_of
from herdmaster.api.errors import HerdClosed
from herdmaster.api.future import Future, failure_of
from herdmaster.api.herd import Herd
from herdmaster.api.internals import core_of
from herdmaster.api.map import Failed, Feeder, Piece, future_of, values_of
from herdmaster.api.options import Options, TaskOptions, refuse_children
from herdmaster.api.task import Task
from herdmaster.errors import ConfigurationError

P = ParamSpec("P")
R = TypeVar("R")


class HerdExecutor(concurrent.futures.Executor):
    """Runs tasks of a Herd, and functions at the top level of modules that the workers may import (`herd worker
    --allow-import MODULE`). `docs/guides/executor.md` lists the differences from the standard library's executors.

    The Herd stays open when the executor is shut down. Threads may share an executor.
    """

    def __init__(self, herd: Herd, **options: Unpack[Options]) -> None:
        """`options` hold for every task that it submits. Raises as `Task.options`."""
        self._herd = core_of(herd)
        self._options = options
        self._checked = TaskOptions().changed(options)
        self._herd.registry.learn_exceptions(options)
        self._targets: dict[Callable[..., object], tuple[Callee, TaskOptions]] = {}
        self._pending: set[concurrent.futures.Future[object]] = set()
        self._lock = threading.RLock()
        self._is_shut_down = False

    @overload
    def submit(self, fn: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...

    @overload
    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]: ...

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Submit a call and do not wait for its acceptance: an error of the submission becomes the future's.

        Raises ConfigurationError for a function that no worker could find, NotSerializable, WrongArguments or
        PayloadTooLarge for the arguments, HerdClosed (a BrokenExecutor), RuntimeError after `shutdown`.
        """
        function, positional, named = _without_partials(fn, args, kwargs)
        callee, options = self._target(function)
        with self._lock:
            self._refuse_if_shut_down()
            future: Future[R] = self._herd.begin_task(callee, positional, named, options)
            self._pending.add(cast("Future[object]", future))
        future.add_done_callback(cast("Callable[[object], object]", self._pending.discard))
        return future

    @overload
    def map(
        self,
        fn: Task[..., R],
        *iterables: Iterable[object],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]: ...

    @overload
    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[object],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]: ...

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[object],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """Return the results in order. All items are submitted at once; with a `buffersize`, at most that many are
        under way. `timeout` in seconds counts from this call. Raises as `submit`."""
        end = None if timeout is None else time.monotonic() + timeout
        if buffersize is not None and buffersize < max(chunksize, 1):
            raise ConfigurationError(f"buffersize={buffersize}: it takes at least a chunk, which is {chunksize}")
        function, positional, named = _without_partials(fn, (), {})
        if named:
            raise ConfigurationError("map gives positional arguments only: write a function without `partial` keywords")
        callee, options = self._target(function)
        items = ((*positional, *item) for item in zip(*iterables, strict=False))
        feeder = Feeder(self._herd, callee, options, items if buffersize else iter(list(items)), chunksize)
        under_way: deque[Piece] = deque()
        self._feed(feeder, under_way, buffersize)
        return self._results(feeder, under_way, buffersize, end)

    def _feed(self, feeder: Feeder, under_way: deque[Piece], most: int | None) -> None:
        count = sum(piece.count for piece in under_way) if most is not None else 0
        while most is None or count + feeder.chunksize <= most or not under_way:
            # Without the lock where the source is read during the iteration: it may wait for other threads.
            with self._lock if most is None else contextlib.nullcontext():
                self._refuse_if_shut_down()
                piece = feeder.next_piece()
                if piece is None:
                    return
                future = future_of(piece)
                if future is not None:
                    self._pending.add(future)
            if future is not None:
                future.add_done_callback(self._pending.discard)
            elif isinstance(piece.error, HerdClosed):
                raise piece.error
            under_way.append(piece)
            count += piece.count

    def _results(self, feeder: Feeder, under_way: deque[Piece], most: int | None, end: float | None) -> Iterator[R]:
        try:
            while under_way:
                future = future_of(under_way[0])
                if future is not None:
                    failure_of(future, None if end is None else max(end - time.monotonic(), 0.0))  # waits
                for value in values_of(under_way[0]):
                    if isinstance(value, Failed):
                        raise value.error
                    yield cast("R", value)
                del under_way[0]
                if most is not None:
                    self._feed(feeder, under_way, most)
        finally:
            _cancel(filter(None, map(future_of, under_way)))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no further calls. `cancel_futures` requests the cancellation of all tasks that have not ended, running
        ones included. With `wait`, return when all tasks have ended. May be called several times."""
        with self._lock:
            self._is_shut_down = True
            pending = tuple(self._pending)
        if cancel_futures:
            _cancel(pending)
        if wait:
            concurrent.futures.wait(pending)

    def _refuse_if_shut_down(self) -> None:
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _target(self, function: Callable[..., object]) -> tuple[Callee, TaskOptions]:
        found = self._targets.get(function)
        if found is None:
            found = self._find_target(function)
            refuse_children(found[1], "an executor")
            self._targets[function] = found
        return found

    def _find_target(self, function: Callable[..., object]) -> tuple[Callee, TaskOptions]:
        registry = self._herd.registry
        if isinstance(function, Task):
            task = core_of(function)
            if task.herd is not self._herd:
                raise ConfigurationError(f"{function.call} is a task of another Herd: make an executor for that one")
            return task.callee(), task.changed(self._options).options
        _check_importable(function)
        call = findable_call_of(function)
        return callee_of(call, function, registry.codec, registry.exceptions), self._checked


def _without_partials(
    function: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[Callable[..., object], tuple[object, ...], dict[str, object]]:
    while isinstance(function, functools.partial):
        args, kwargs = (*function.args, *args), {**function.keywords, **kwargs}
        function = function.func
    return function, args, kwargs


def _check_importable(function: Callable[..., object]) -> None:
    is_function = inspect.isfunction(function) or inspect.isbuiltin(function)
    if not is_function or not function.__module__ or not function.__qualname__.isidentifier():
        raise ConfigurationError(
            f"{function!r} is neither a task nor a function at the top level of a module, and no worker could find "
            "it: write a `def` there, and put what it needs into its arguments"
        )


def _cancel(futures: Iterable[concurrent.futures.Future[object]]) -> None:
    for future in futures:
        if isinstance(future, Future):
            with contextlib.suppress(HerdClosed):
                future.cancel_nowait()
