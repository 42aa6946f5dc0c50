"""Calls a function once for a task: its result is saved in the assignment of the task before the task's code goes on.

A result is found by its name when the task runs again, on whatever worker. So it is returned as it comes back from
JSON, also in the run that has called the function.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Final, ParamSpec, Protocol, TypeVar, cast

import msgspec

from herdmaster.core.hints import Misfit
from herdmaster.core.payload import check_saved
from herdmaster.core.signature import Signature
from herdmaster.core.values import UNREADABLE, from_json, to_json
from herdmaster.errors import BadPayload, ConfigurationError, HerdError, NotSerializable

P = ParamSpec("P")
R = TypeVar("R")

MAX_NAME: Final = 100
"""Characters of a name."""
PAUSE_SECONDS: Final = 0.05
"""Between two looks whether the session lives."""
_WAIT_SECONDS: Final = 0.25
"""An exception that another thread raises in this one, for a time limit, comes between two waits."""

Saved = Callable[[msgspec.Raw | HerdError], None]
"""Called once, on any thread, with the result that is saved, or with the error that says why it is not."""

_log = logging.getLogger("herdmaster.task")


class Saving(Protocol):
    """The part of a run that `once` uses. All of it is used on any thread of the task."""

    @property
    def saved(self) -> Mapping[str, msgspec.Raw]:
        """The results that are saved for certain, by their names."""
        ...

    @property
    def once_calls(self) -> OnceCalls: ...

    def may_begin_once(self) -> bool:
        """Return False while it is unknown whether the task is still this worker's. Raises NotSaved if it is not, and
        ConfigurationError if this worker cannot save for it."""
        ...

    def save(self, name: str, data: bytes, saved: Saved, /) -> None:
        """Save a result, unless there is one of that name, which then counts. Raises NotSaved."""
        ...


class OnceCalls:
    """The calls of `once` in one run of a task's code.

    `unsaved` has the results whose saving was interrupted, by a time limit for example. Code that asks for such a
    result again waits until it is saved, and does not call the function again.
    """

    __slots__ = ("under_way", "unsaved")

    def __init__(self) -> None:
        self.under_way: dict[str, object] = {}
        self.unsaved: dict[str, bytes] = {}


class _Call:
    """One call of `once`; to be entered while it is under way."""

    def __init__(self, run: Saving, item: int | None, name: str, function: Callable[..., object]) -> None:
        _check_name(name)
        self.shown = name
        self.name = name if item is None else f"{item}/{name}"
        self._run = run
        self._function = function
        self._calls = run.once_calls
        self._token = object()
        self.result = run.saved.get(self.name)

    def __enter__(self) -> None:
        # `setdefault` is atomic: other threads of the task may use the same name.
        if self._calls.under_way.setdefault(self.name, self._token) is not self._token:
            raise ConfigurationError(
                f"once({self.shown!r}) is under way in this task already: wait for it, or choose another name"
            )
        self.result = self._run.saved.get(self.name)

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._calls.under_way.get(self.name) is self._token:
            del self._calls.under_way[self.name]

    @property
    def unsaved(self) -> bytes | None:
        return self._calls.unsaved.get(self.name)

    def check_room(self) -> None:
        """Raise SavedTooLarge before the function is called if not even an empty result has room."""
        self._check_size(b"0")

    def keep(self, value: object) -> bytes:
        """Keep what the function returned, until it is saved. Raises NotSerializable, SavedTooLarge."""
        try:
            data = to_json(value, f"the result of once({self.shown!r}, ...), a {type(value).__qualname__},")
        except NotSerializable as error:
            error.is_of_once = True
            raise
        self._check_size(data)
        self._calls.unsaved[self.name] = data
        return data

    def answered(self, answer: msgspec.Raw | HerdError) -> None:
        """Take the answer to the save. Raises the error."""
        if isinstance(answer, HerdError):
            raise answer
        self._calls.unsaved.pop(self.name, None)
        self.result = answer

    def read(self) -> object:
        """Return the result as the return hint of the function says. Raises BadPayload."""
        assert self.result is not None
        try:
            value = from_json(self.result)
        except UNREADABLE as error:
            raise BadPayload(f"the saved result of once({self.shown!r}) is not JSON: {error}") from None
        function = self._function
        while isinstance(function, functools.partial):
            function = function.func
        try:
            return Signature(self.shown, function).convert_result(value)
        except Misfit as error:  # it was saved, and what it stands for has happened: a wrong hint must not withhold it
            _log.warning("once(%r) gave what its return hint does not say (%s); it is plain JSON", self.shown, error)
            return value

    def _check_size(self, data: bytes) -> None:
        check_saved({**self._run.saved, self.name: msgspec.Raw(data)})


def call_once(
    run: Saving, item: int | None, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
) -> R:
    """Return the saved result of that name, or else call the function and save what it returns. Raises what the
    function raises, and then saves nothing; NotSaved, SavedTooLarge, NotSerializable, ConfigurationError; RuntimeError
    in a running event loop, which it would block."""
    if inspect.iscoroutinefunction(function):
        raise ConfigurationError(f"once({name!r}): the function is an `async def`: use `await once_async(...)`")
    _refuse_in_loop()
    call = _Call(run, item, name, function)
    if call.result is None:
        with call:
            if call.result is None:
                data = call.unsaved
                if data is None:
                    call.check_room()
                    while not run.may_begin_once():
                        time.sleep(PAUSE_SECONDS)
                    data = call.keep(function(*args, **kwargs))
                waiter = Waiter()
                run.save(call.name, data, waiter.answer)
                call.answered(waiter.wait(run))
    return cast("R", call.read())


async def call_once_async(
    run: Saving, item: int | None, name: str, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
) -> R:
    """As `call_once`, for a function whose result is awaited. A plain function is called in the loop."""
    call = _Call(run, item, name, function)
    if call.result is None:
        with call:
            if call.result is None:
                data = call.unsaved
                if data is None:
                    call.check_room()
                    while not run.may_begin_once():  # noqa: ASYNC110 - a clock decides, and nothing tells of it
                        await asyncio.sleep(PAUSE_SECONDS)
                    made: Any = function(*args, **kwargs)  # awaitable by its type, plain where a caller has none
                    data = call.keep(await made if inspect.isawaitable(made) else made)
                waiter = AsyncWaiter()
                run.save(call.name, data, waiter.answer)
                call.answered(await waiter.answered)
    return cast("R", call.read())


class Waiter:
    """Waits on a thread for the answer to a save."""

    _result: msgspec.Raw | HerdError

    def __init__(self) -> None:
        self._event = threading.Event()

    def answer(self, answer: msgspec.Raw | HerdError) -> None:
        self._result = answer
        self._event.set()

    def wait(self, run: Saving) -> msgspec.Raw | HerdError:
        """Return the answer. Raises NotSaved where nothing is left that would answer."""
        while not self._event.wait(_WAIT_SECONDS):
            run.may_begin_once()
        return self._result


class AsyncWaiter:
    """Waits in a coroutine for the answer to a save."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[msgspec.Raw | HerdError] = self._loop.create_future()

    def answer(self, answer: msgspec.Raw | HerdError) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._resolve, answer)

    def _resolve(self, answer: msgspec.Raw | HerdError) -> None:
        if not self.answered.done():  # else the coroutine that waited was cancelled
            self.answered.set_result(answer)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise ConfigurationError(
            f"once({name!r}, ...): a name is 1 to {MAX_NAME} printable characters, the same in each run of the task"
        )


def _refuse_in_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("once would block the running event loop: use `await current_task().once_async(...)`")
