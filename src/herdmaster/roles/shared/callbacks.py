"""Ends a role's session when one of the role's callbacks raises.

asyncio logs what a callback raises, and goes on. But callbacks keep the state of a role's session: a failed one may
have left it half-changed, and a task that is missing there is never run, or never committed. With a new session
everything is read anew from ZooKeeper.

A callback belongs to a role by its context, which everything that the role schedules inherits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any, Final

Failed = Callable[[Exception], bool]
"""Called with what a callback raised. Returns False if the error ends no session and is to be logged."""

_failed: Final[ContextVar[Failed | None]] = ContextVar("herdmaster.callback_failed", default=None)


class StrayCancellation(RuntimeError):
    """A CancelledError came out of code that was not cancelled. asyncio takes it for a cancellation, and says nothing:
    what ends by it would be missing without a word."""


@contextmanager
def callbacks_of_role(failed: Failed) -> Iterator[None]:
    """Call `failed` for errors of callbacks that are scheduled within this context, and of those that they schedule."""
    token = _failed.set(failed)
    try:
        yield
    finally:
        _failed.reset(token)


def watch_callbacks() -> None:
    """Make the running loop report failed callbacks. A handler that was set before is called as well."""
    loop = asyncio.get_running_loop()
    present = loop.get_exception_handler()
    if not isinstance(present, _Handler):
        loop.set_exception_handler(_Handler(present))


class _Handler:
    def __init__(self, other: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None) -> None:
        self._other = other

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        is_reported = _report(context)
        if self._other is not None:
            self._other(loop, context)
        elif not is_reported:
            loop.default_exception_handler(context)


def stray(error: asyncio.CancelledError) -> StrayCancellation:
    """Return an exception that ends a session as any other does, with `error` as its cause."""
    found = StrayCancellation("it was cancelled by none of its callers")
    found.__cause__ = error
    return found


def _report(context: dict[str, Any]) -> bool:
    error = context.get("exception")
    if isinstance(error, asyncio.CancelledError):
        error = stray(error)
    # A task whose exception was never retrieved is no callback, and may be code of the user's.
    if not isinstance(error, Exception) or "task" in context or "future" in context:
        return False
    # asyncio calls this outside of the callback's context (before 3.12), uvloop and our connection within.
    inside: Context | None = getattr(context.get("handle"), "_context", None)
    failed = _failed.get() if inside is None else inside.get(_failed)
    return failed is not None and failed(error)
