"""Planted bugs between the threads of a Herd, and in its futures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from herdmaster.api import io_thread
from herdmaster.api.errors import HerdClosed
from herdmaster.api.io_thread import IoThread
from herdmaster.api.results import read_outcome
from herdmaster.api.submissions import Submissions
from herdmaster.errors import HerdError


def flag_cleared_after_the_calls() -> Any:
    """The I/O thread clears its flag when it has begun the calls: one that comes meanwhile wakes it no more."""

    def take_calls(self: Any) -> None:
        self._thread.hush()
        while self._calls:
            self._calls.popleft()()
        self._woken = False

    return patch.object(IoThread, "_take_calls", take_calls)


def thread_woken_before_the_call() -> Any:
    """The I/O thread is woken for a call that is not in the queue yet."""

    def post(self: Any, call: Callable[[], None]) -> None:
        if self._closed:
            raise HerdClosed(io_thread.CLOSED)
        if not self._woken:
            self._woken = True
            self._ring()
        self._calls.append(call)

    return patch.object(IoThread, "_post", post)


def close_waits_for_the_farewell() -> Any:
    """The end of a Herd waits for the server, however long that takes."""

    async def serve(self: Any) -> None:
        session = asyncio.ensure_future(self._client.keep(self._stop))
        await self._stop.wait()
        self._client.stop()
        await session

    return patch.object(IoThread, "_serve", serve)


def futures_left_at_the_end() -> Any:
    """The futures that are not done when a Herd is closed stay so."""
    end = IoThread._end

    def forget(self: Any) -> None:
        self._refs.clear()
        end(self)

    return patch.object(IoThread, "_end", forget)


def submissions_left_at_the_end() -> Any:
    """Callers that wait for an acceptance when a Herd is closed are not told."""
    return patch.object(Submissions, "end", lambda _self: None)


def early_cancel_forgotten() -> Any:
    """A task that is cancelled before it is accepted is not cancelled, and its caller is not told."""
    cancel = Submissions.cancel

    def forget(self: Any, name: str, told: Any) -> None:
        if name not in self._unsettled:
            cancel(self, name, told)

    return patch.object(Submissions, "cancel", forget)


def cancelled_futures_fail() -> Any:
    """The future of a cancelled task gets the error of one that failed."""
    read = read_outcome

    def failed(outcome: Any, reader: Any) -> Any:
        value, error = read(outcome, reader)
        return value, LookupError("it failed") if isinstance(error, HerdError) else error

    return patch.object(io_thread, "read_outcome", failed)


BUGS: dict[str, Callable[[], Any]] = {
    bug.__name__: bug
    for bug in (
        flag_cleared_after_the_calls,
        thread_woken_before_the_call,
        close_waits_for_the_farewell,
        futures_left_at_the_end,
        submissions_left_at_the_end,
        early_cancel_forgotten,
        cancelled_futures_fail,
    )
}
