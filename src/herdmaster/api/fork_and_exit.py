"""Ends the sessions of this process when it exits, and leaves them to the parent when it forks."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import Protocol

from herdmaster import forks


class App(Protocol):
    """The part of `HerdCore` that is used here."""

    def close(self) -> None: ...

    def handle_fork(self) -> None:
        """In the child: start afresh."""

    def leave_target(self) -> Session | None:
        """Return the session that must end because the Herd is directed elsewhere now."""


class Session(Protocol):
    """The part of `IoThread` that is used here."""

    def begin_close(self) -> None: ...

    def close(self) -> None: ...

    def leave_to_parent(self) -> None:
        """In the child: leave the session to the parent. The threads did not come along."""


_apps: weakref.WeakSet[App] = weakref.WeakSet()
_sessions: set[Session] = set()  # strong: a session outlives its Herd until it has ended
_parents: list[Session] = []  # never finalised: that would touch sockets which the parent still uses
_finalised_pid = 0


def add_app(app: App) -> None:
    """Note a Herd, for as long as it lives."""
    _apps.add(app)


def add_session(session: Session) -> None:
    """Note a session, until `remove_session`."""
    _sessions.add(session)
    _finalise_with_multiprocessing()


def remove_session(session: Session) -> None:
    """Forget a session that has ended."""
    _sessions.discard(session)


def follow_direction() -> None:
    """After a change of directions: end the sessions with servers that their Herds are not directed to any more."""
    left = [session for app in tuple(_apps) if (session := app.leave_target()) is not None]
    for session in left:
        session.begin_close()  # all at once; the waits follow one by one
    for session in left:
        session.close()


def _finalise_with_multiprocessing() -> None:
    """Register `close_all` with `multiprocessing`, too: the processes that it forks end without `atexit`."""
    global _finalised_pid  # noqa: PLW0603 - one registration per process
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None or _finalised_pid == os.getpid():
        return
    from multiprocessing.util import Finalize  # noqa: PLC0415 - only where multiprocessing is in use

    _finalised_pid = os.getpid()
    Finalize(None, close_all, exitpriority=0)


def close_all() -> None:
    """Close every Herd of this process."""
    for session in tuple(_sessions):
        session.begin_close()  # all at once; the waits follow one by one
    for app in tuple(_apps):
        app.close()
    for session in tuple(_sessions):
        session.close()


def _handle_fork() -> None:
    _parents.extend(_sessions)
    _sessions.clear()
    for app in tuple(_apps):
        app.handle_fork()
    for session in _parents:
        session.leave_to_parent()


forks.add_callback(_handle_fork)
atexit.register(close_all)
