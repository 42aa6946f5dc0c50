"""Calls inside a running event loop: blocking ones are refused, and callbacks of asyncio go to their loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable
from typing import Any

Callback = Callable[[concurrent.futures.Future[Any]], object]


def is_in_loop() -> bool:
    """Say whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def refuse_in_loop(name: str, instead: str) -> None:
    """Raise RuntimeError inside a running event loop, which the call would block."""
    if is_in_loop():
        raise RuntimeError(f"{name} would block the running event loop: use `{instead}`")


class _InLoop:
    """A callback that is called in its loop. It equals the callback itself, so that `remove_done_callback` finds it."""

    __slots__ = ("_callback", "_loop")

    def __init__(self, callback: Callback, loop: asyncio.AbstractEventLoop) -> None:
        self._callback = callback
        self._loop = loop

    def __call__(self, future: concurrent.futures.Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._callback, future)

    def __eq__(self, other: object) -> bool:
        return other is self._callback or other is self

    __hash__ = None  # type: ignore[assignment]  # the callback that it equals has another hash


def call_of_asyncio(callback: Callback) -> Callback:
    """Wrap a done-callback of asyncio, as `asyncio.wait` adds it, so that it is called in this loop. Return any other
    callback as it is."""
    if getattr(callback, "__module__", None) != asyncio.tasks.__name__ or not is_in_loop():
        return callback
    return _InLoop(callback, asyncio.get_running_loop())
