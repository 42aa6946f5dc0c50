"""Futures of tasks in a running event loop: no call may block the loop, and asyncio may wait for them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable
from typing import Any

Callback = Callable[[concurrent.futures.Future[Any]], object]


def is_in_loop() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def refuse_in_loop(name: str, instead: str) -> None:
    """Raises RuntimeError inside a running event loop, which a blocking call would stop."""
    if is_in_loop():
        raise RuntimeError(f"{name} would block the running event loop: use `{instead}`")


class _InLoop:
    """A callback that is called in a loop; equal to the callback itself, so that it is found by that."""

    __slots__ = ("_callback", "_loop")

    def __init__(self, callback: Callback, loop: asyncio.AbstractEventLoop) -> None:
        self._callback = callback
        self._loop = loop

    def __call__(self, future: concurrent.futures.Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._callback, future)

    def __eq__(self, other: object) -> bool:
        return other is self._callback or other is self

    __hash__ = None  # type: ignore[assignment]  # what it is equal to has another hash


def call_of_asyncio(callback: Callback) -> Callback:
    """A done-callback of asyncio's own, by which `asyncio.wait` waits, for the loop in which it is added; any other as
    it is."""
    if getattr(callback, "__module__", None) != asyncio.tasks.__name__ or not is_in_loop():
        return callback
    return _InLoop(callback, asyncio.get_running_loop())
